"""The self-test's own instruments: they carry bytes, and they notice each way in which a stream can be wrong."""

import socket
from collections.abc import Iterator

import pytest

from loader import numbers
from loader.selftest import pump
from loader.selftest.pump import Deadline, Failed, Flow, compare, pattern, run

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def test_flows_in_both_directions_arrive_whole(pair: Pair) -> None:
    up, down = Flow(pair[0], pair[1], pattern(1_000_003, 1)), Flow(pair[1], pair[0], pattern(700_001, 2), chunk=999)
    run([up, down], Deadline(30))
    assert (bytes(up.got), bytes(down.got)) == (up.data, down.data)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda d: d[:500] + b"\0" + d[501:], "number 500"),
        (lambda d: d[:100] + d[200:300] + d[100:200] + d[300:], "number 100"),
        (lambda d: d[:300] + d[301:], "got 999 of 1,000, the first that differs is number 300"),
        (lambda d: d + d[:1], "got 1,001 of 1,000, the first that differs is number 1,000"),
    ],
)
def test_a_changed_moved_lost_or_doubled_byte_is_named(spoil: object, words: str) -> None:
    data = pattern(1000, 5)
    assert callable(spoil)
    with pytest.raises(Failed, match=words):
        compare(spoil(data), data)


def test_a_stream_that_stalls_says_how_far_it_came(pair: Pair) -> None:
    flow = Flow(pair[0], pair[1], b"abc", send=lambda sock, part: len(part))  # says that it sent, and does not
    with pytest.raises(Failed, match="stalled: 0 of 3 bytes came"):
        run([flow], Deadline(0.1))


def test_a_stream_that_ends_early_says_so(pair: Pair) -> None:
    pair[0].sendall(b"ab")
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(Failed, match="ended after 2 of 3 bytes"):
        run([Flow(pair[0], pair[1], b"abc", send=lambda sock, part: len(part))], Deadline(5))


def test_a_pattern_has_no_short_period() -> None:
    data = pattern(70_000)
    assert len({data[i : i + 16] for i in range(0, 16_000, 4)}) == 4000
    assert pattern(70_000, 1) != data


def test_filling_stops_where_the_reader_stops_it(pair: Pair) -> None:
    sent = pump.fill(pair[0], bytes(4096), 1 << 30, 0.02, Deadline(10))
    pair[0].shutdown(socket.SHUT_WR)
    assert pump.read_to_end(pair[1], Deadline(10)) == bytes(sent)


def test_reserved_numbers_are_told_from_others() -> None:
    assert [numbers.is_reserved(n) for n in (0, 1, 1 << 24, 0xFFFFFEFF)] == [False] * 4
    assert numbers.is_reserved(0xFFFFFF00) and numbers.is_reserved(0xFFFFFFFF)
