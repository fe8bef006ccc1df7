"""Frames between node proxies, as playbooks: however bytes are cut, the same frames come out; the rest is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7proxy.mesh import frames, names
from l7proxy.mesh.frames import BadFrame, Ends, Kind, Reader

ENDS = Ends("10.0.0.1", 40000, "10.0.1.1", 80)
V6 = Ends("fd00::1", 1, "fd00::2", 65535)


def joined(found: list[tuple[Kind, bytes]]) -> list[tuple[Kind, bytes]]:
    """Return frames with DATA that follows DATA made one."""
    out: list[tuple[Kind, bytes]] = []
    for kind, body in found:
        if kind is Kind.DATA and out and out[-1][0] is kind:
            out[-1] = (kind, out[-1][1] + body)
        else:
            out.append((kind, body))
    return out


@given(st.binary(min_size=1, max_size=2000), st.lists(st.integers(1, 50), max_size=100))
def test_however_they_are_cut_the_same_frames_come_out(body: bytes, cuts: list[int]) -> None:
    whole = frames.opening(ENDS) + frames.frame(Kind.OPENED) + b"".join(frames.data(body)) + frames.frame(Kind.END)
    whole += frames.refusal("denied by policy") + frames.reset("it\nends")
    reader, found, at = Reader(), [], 0
    for cut in [*cuts, len(whole)]:
        found += reader.feed(whole[at : at + cut])
        at += cut
    kinds = [Kind.OPEN, Kind.OPENED, Kind.DATA, Kind.END, Kind.REFUSED, Kind.RESET]
    assert [kind for kind, _ in joined(found)] == kinds
    assert joined(found)[2][1] == body
    assert [frames.read_word(said) for _, said in found[-2:]] == ["denied by policy", "itends"]
    assert frames.read_open(found[0][1]) == ENDS


def test_many_bytes_are_many_frames_and_one_piece_again() -> None:
    body = bytes(range(256)) * (10 << 10)
    parts = frames.data(body)
    assert [len(part) for part in parts] == [4, frames.MOST_DATA, 4, frames.MOST_DATA, 4, frames.MOST_DATA // 2]
    whole = b"".join(parts)
    assert Reader().feed(whole + frames.frame(Kind.END)) == [(Kind.DATA, body), (Kind.END, b"")]
    reader = Reader()
    half = len(whole) // 2
    assert [reader.feed(memoryview(whole)[:half]), reader.feed(memoryview(whole)[half:])] == [
        [(Kind.DATA, body[: half - 8])], [(Kind.DATA, body[half - 8 :])]
    ]  # fmt: skip


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_garbage_is_refused_or_read_and_never_held(pieces: list[bytes]) -> None:
    reader = Reader()
    for piece in pieces:
        try:
            found = reader.feed(piece)
        except BadFrame:
            return
        assert sum(len(body) for _, body in found) <= sum(map(len, pieces))
        assert len(reader._waiting) <= 4 + frames.MOST_WORD
        for kind, body in found:
            if kind is Kind.OPEN:
                try:
                    frames.read_open(body)
                except BadFrame:
                    return


@pytest.mark.parametrize(
    "raw",
    [b"\0", b"\x07\0\0\0", b"\x04\x10\0\x01", b"\x05\0\0\x01", b"\x01\0\0\xff", b"\x03\0\x01\0", b"GET / HTTP/1.1"],
)
def test_what_no_proxy_says_is_refused_before_its_body_comes(raw: bytes) -> None:
    with pytest.raises(BadFrame):
        Reader().feed(raw)


def test_both_families_are_spoken_of_and_other_versions_are_not() -> None:
    for ends in (ENDS, V6):
        ((_, body),) = Reader().feed(frames.opening(ends))
        assert frames.read_open(body) == ends
        with pytest.raises(BadFrame, match="version"):
            frames.read_open(b"\x02" + body[1:])


def test_each_workload_has_a_name_that_fits() -> None:
    found = {names.sni(f"spiffe://{'d' * 255}/ns/{'n' * 63}/sa/{each * 253}") for each in "ab"}
    assert len(found) == 2
    assert all(len(label) <= 63 for name in found for label in name.split("."))
