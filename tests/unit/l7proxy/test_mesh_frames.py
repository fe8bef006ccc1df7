"""Frames between node proxies, as playbooks: however bytes are cut, the same frames come out; the rest is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7proxy.mesh import frames, names
from l7proxy.mesh.errors import BadFrame
from l7proxy.mesh.frames import Ends, Frame, Kind, Reader

ENDS = Ends("10.0.0.1", 40000, "10.0.1.1", 80)
V6 = Ends("fd00::1", 1, "fd00::2", 65535)


def data(number: int, body: bytes) -> bytes:
    return frames.data_head(number, len(body)) + body


def joined(found: list[Frame]) -> list[Frame]:
    """Return frames with DATA that follows DATA of its stream made one."""
    out: list[Frame] = []
    for kind, number, body in found:
        if kind is Kind.DATA and out and out[-1][:2] == (kind, number):
            out[-1] = (kind, number, out[-1][2] + body)
        else:
            out.append((kind, number, body))
    return out


@given(st.binary(min_size=1, max_size=2000), st.lists(st.integers(1, 50), max_size=100))
def test_however_they_are_cut_the_same_frames_come_out(body: bytes, cuts: list[int]) -> None:
    whole = frames.opening(7, ENDS) + frames.frame(Kind.OPENED, 7) + data(7, body) + frames.frame(Kind.END, 7)
    whole += frames.refusal(8, "denied by policy") + frames.reset(2**32 - 1, "it\nends") + frames.credit(7, 70_000)
    reader, found, at = Reader(), [], 0
    for cut in [*cuts, len(whole)]:
        found += reader.feed(whole[at : at + cut])
        at += cut
    heads = [(kind, number) for kind, number, _ in joined(found)]
    assert heads == [
        (Kind.OPEN, 7), (Kind.OPENED, 7), (Kind.DATA, 7), (Kind.END, 7), (Kind.REFUSED, 8), (Kind.RESET, 2**32 - 1),
        (Kind.CREDIT, 7),
    ]  # fmt: skip
    assert joined(found)[2][2] == body
    assert [frames.read_word(said) for _, _, said in found[-3:-1]] == ["denied by policy", "itends"]
    assert frames.read_open(found[0][2]) == ENDS
    assert frames.read_credit(found[-1][2]) == 70_000


@given(st.lists(st.tuples(st.integers(1, 3), st.binary(max_size=60)), max_size=20), st.integers(1, 40))
def test_bytes_of_each_stream_come_out_as_its_own(pieces: list[tuple[int, bytes]], cut: int) -> None:
    whole = b"".join(data(number, body) for number, body in pieces)
    reader, got = Reader(), {1: b"", 2: b"", 3: b""}
    for at in range(0, len(whole), cut):
        for kind, number, body in reader.feed(memoryview(whole)[at : at + cut]):
            assert kind is Kind.DATA and body
            got[number] += body
    assert got == {number: b"".join(body for each, body in pieces if each == number) for number in got}


def test_many_frames_of_one_stream_are_one_piece_again() -> None:
    body = bytes(range(256)) * (10 << 10)
    most = frames.MOST_DATA
    whole = data(5, body[:most]) + data(5, body[most : 2 * most]) + data(5, body[2 * most :])
    assert Reader().feed(whole + frames.frame(Kind.END, 5)) == [(Kind.DATA, 5, body), (Kind.END, 5, b"")]
    reader = Reader()
    half = len(whole) // 2
    assert [reader.feed(memoryview(whole)[:half]), reader.feed(memoryview(whole)[half:])] == [
        [(Kind.DATA, 5, body[: half - 16])], [(Kind.DATA, 5, body[half - 16 :])]
    ]  # fmt: skip


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_garbage_is_refused_or_read_and_never_held(pieces: list[bytes]) -> None:
    reader = Reader()
    for piece in pieces:
        try:
            found = reader.feed(piece)
        except BadFrame:
            return
        assert sum(len(body) for *_, body in found) <= sum(map(len, pieces))
        assert len(reader._waiting) <= 8 + frames.MOST_WORD
        for kind, _, body in found:
            try:
                if kind is Kind.OPEN:
                    frames.read_open(body)
                elif kind is Kind.CREDIT:
                    frames.read_credit(body)
            except BadFrame:
                return


@pytest.mark.parametrize(
    "raw",
    [
        b"\0", b"\x08\0\0\0", b"\x04\x10\0\x01\0\0\0\x01", b"\x05\0\0\x01\0\0\0\x01",
        b"\x01\0\0\xff\0\0\0\x01", b"\x03\0\x01\0\0\0\0\x01", b"\x07\0\0\x05\0\0\0\x01",
        b"GET / HTTP/1.1",
    ],
)  # fmt: skip
def test_what_no_proxy_says_is_refused_before_its_body_comes(raw: bytes) -> None:
    with pytest.raises(BadFrame):
        Reader().feed(raw)


def test_both_families_are_spoken_of_and_other_versions_are_not() -> None:
    for ends in (ENDS, V6):
        ((_, _, body),) = Reader().feed(frames.opening(1, ends))
        assert frames.read_open(body) == ends
        with pytest.raises(BadFrame, match="version"):
            frames.read_open(b"\x01" + body[1:])


def test_each_workload_has_a_name_that_fits() -> None:
    found = {names.sni(f"spiffe://{'d' * 255}/ns/{'n' * 63}/sa/{each * 253}") for each in "ab"}
    assert len(found) == 2
    assert all(len(label) <= 63 for name in found for label in name.split("."))
