"""Names as they are judged, against dnspython; names that would never end, or be taken for others."""

import dns.name
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from control import model
from control.policy import dnsnames
from l7proxy.dns import name
from l7proxy.dns.name import Malformed, Names

HEADER = bytes(12)
LABELS = st.lists(st.binary(min_size=1, max_size=63), max_size=8).filter(lambda ls: sum(len(x) + 1 for x in ls) < 255)


def wire(*labels: bytes) -> bytes:
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def pointer(to: int) -> bytes:
    return (0xC000 | to).to_bytes(2, "big")


def read(data: bytes, at: int = 12) -> tuple[str, int]:
    return Names(data).read(at)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ((), ""),
        ((b"WwW", b"eXample", b"com"), "www.example.com"),
        ((b"_dns", b"a-b"), "_dns.a-b"),
        ((b"a.b", b"c"), r"a\046b.c"),
        ((b"a", b"c."), r"a.c\046"),
        ((b"a\\", b"\x00 \xff"), r"a\092.\000\032\255"),
        ((b"*", b"x"), "*.x"),
    ],
)
def test_the_text(labels: tuple[bytes, ...], text: str) -> None:
    data = HEADER + wire(*labels)
    assert read(data + b"rest") == (text, len(data))


@given(LABELS)
@example([b"\xc4\xb0"])  # the letter that two alphabets make lower case in two ways
def test_the_text_says_what_the_bytes_say(labels: list[bytes]) -> None:
    data = HEADER + wire(*labels)
    text, end = read(data)
    assert end == name.after(data, 12) == len(data)
    assert dns.name.from_text(text + ".") == dns.name.Name([*labels, b""])
    assert text == dnsnames.canonical(text)


@given(LABELS, LABELS)
def test_different_names_have_different_texts(one: list[bytes], other: list[bytes]) -> None:
    same = [label.lower() for label in one] == [label.lower() for label in other]
    assert (read(HEADER + wire(*one))[0] == read(HEADER + wire(*other))[0]) == same


@given(LABELS.filter(lambda labels: any(set(label) & set(b". \\\xe9") for label in labels)))
def test_no_pattern_means_a_name_with_other_bytes(labels: list[bytes]) -> None:
    text, _ = read(HEADER + wire(*labels))
    assert not any(dnsnames.matches(model.NamePeer(pattern=pattern), text) for pattern in ("*", "**", "**.com", "*.*"))


def test_pointers() -> None:
    data = HEADER + wire(b"com") + wire(b"example")[:-1] + pointer(12) + wire(b"www")[:-1] + pointer(17)
    assert read(data, 27) == ("www.example.com", len(data))
    assert read(data + pointer(27), len(data)) == ("www.example.com", len(data) + 2)
    assert name.after(data, 27) == len(data)


def test_a_name_that_is_known_is_not_read_again() -> None:
    data = HEADER + wire(*[b"a"] * 120) + pointer(12) * 20000
    names = Names(data)
    first, end = names.read(12)
    assert all(names.read(at) == (first, at + 2) for at in range(end, len(data), 2))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x03ab",
        b"\x02ab",
        pointer(12),
        pointer(13) + b"\0",
        b"\x01a" + pointer(12),
        b"\x01a" + pointer(14),
        pointer(0),
        pointer(11),
        b"\xc0",
        b"\x40a\0",
        b"\x80a\0",
        wire(*[b"a" * 63] * 4),
    ],
)
def test_what_is_no_name(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(HEADER + data)


def test_a_part_points_further_back_than_where_it_began() -> None:
    for part in (pointer(12), b"\x01a" + pointer(12), pointer(13)):
        data = HEADER + part + b"\0" + pointer(12)
        with pytest.raises(Malformed, match="back"):
            read(data, len(data) - 2)


def test_the_longest_name() -> None:
    longest = (b"a" * 63, b"b" * 63, b"c" * 63, b"d" * 61)
    assert len(read(HEADER + wire(*longest))[0]) == 253
    with pytest.raises(Malformed, match="longer"):
        read(HEADER + wire(*longest[:3], b"d" * 62))
    # Put together from parts it is no longer.
    data = HEADER + wire(*longest[:3]) + b"\x3d" + b"d" * 61 + pointer(12)
    assert len(read(data, 205)[0]) == 253
    with pytest.raises(Malformed, match="longer"):
        read(HEADER + wire(*longest[:3]) + b"\x3e" + b"d" * 62 + pointer(12), 205)


def test_all_names_of_a_message_have_an_end() -> None:
    """A chain of pointers, each to the one before: a message of them would take its length squared."""
    data = HEADER + b"\0" + b"".join(pointer(at) for at in (12, *range(13, 16000, 2)))
    names = Names(data)
    with pytest.raises(Malformed, match="parts"):
        for at in range(len(data) - 2, 13, -2):
            names.read(at)


@given(st.binary(max_size=300), st.integers(0, 320))
def test_anything_is_a_name_or_none(data: bytes, at: int) -> None:
    try:
        text, end = read(data, at)
    except Malformed:
        return
    assert at < end <= len(data) and len(text) <= 4 * 255
