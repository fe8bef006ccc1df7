"""Streams under a connection that is full in the middle of a write, and under peers that give or send by the byte."""

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from l7proxy.mesh import frames, limits
from l7proxy.mesh.carrier import Carrier
from l7proxy.mesh.frames import Kind, Reader
from tests.unit.l7proxy.test_mesh_stream import Pod, Wire, passed, play


class Tls:
    """A TLS connection's place under a carrier: keeps what is written, and is full at once."""

    def __init__(self) -> None:
        self.said = b""
        self.full: Callable[[], None] = lambda: None

    def set_write_buffer_limits(self, high: int) -> None:
        """Nothing."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes) -> None:
        self.said += data
        self.full()

    def writelines(self, parts: list[bytes]) -> None:
        self.write(b"".join(parts))


class Busy(Pod):
    """A link that does something when it is told to write no more. `wire`: a carrier here."""

    def __init__(self, wire: Any, number: int, does: Callable[["Busy"], None]) -> None:
        super().__init__(wire, number)
        self._does = does

    def pause_writing(self) -> None:
        super().pause_writing()
        self._does(self)


@pytest.mark.parametrize("before", range(65_520, 65_538))
@pytest.mark.parametrize("size", [20_000, 3 * limits.FIRST_WINDOW])
@pytest.mark.parametrize("does", ["end", "close", "write", "reset"])
def test_a_link_may_end_write_or_reset_when_it_is_told_in_the_middle_of_a_write_that_all_is_full(
    does: str, size: int, before: int
) -> None:
    def act(pod: Busy) -> None:
        if does == "write":
            pod.stream.write(b"more")
        else:
            {"end": pod.stream.write_eof, "close": pod.stream.close, "reset": pod.stream.abort}[does]()

    def run(_: Wire, far: Wire) -> None:
        carrier, tls = Carrier(lambda *_: None, lambda _: None, lambda _: None), Tls()
        carrier.connection_made(cast(asyncio.BaseTransport, tls))
        mine, theirs = Busy(carrier, 1, act), Pod(far, 1)
        carrier.write(frames.data_head(9, before - 8) + bytes(before - 8))  # of another stream
        tls.full = carrier.pause_writing
        sent = bytes(range(256)) * (size // 256 + 1)
        mine.stream.write(sent)
        for _turn in range(10):
            carrier.flush()
            far.heard(tls.said)
            tls.said = b""
            for kind, number, body in Reader().feed(bytes(far.said)):
                if number in carrier.streams:
                    carrier.streams[number].came(kind, body)
            far.said.clear()
        if does == "reset":
            assert sent.startswith(theirs.got) and [type(each) for each in theirs.lost] == [ConnectionResetError]
        else:
            assert theirs.got == sent + (b"more" if does == "write" else b"")
            assert theirs.ended is (does != "write") and not theirs.lost

    play(run)


def test_credit_by_the_byte_for_much_that_waits_costs_no_more_than_its_frames() -> None:
    def run(near: Wire, _: Wire) -> None:
        mine = Pod(near, 1)
        mine.stream.write(bytes(4 << 20))
        near.said.clear()
        began = time.process_time()
        for _turn in range(10_000):
            mine.stream.came(Kind.CREDIT, b"\0\0\0\1")
        assert near.said == (frames.data_head(1, 1) + b"\0") * 10_000
        assert time.process_time() - began < 1

    play(run)


def test_what_comes_by_the_byte_and_waits_is_held_as_one() -> None:
    def run(near: Wire, far: Wire) -> None:
        mine, theirs = Pod(near, 1), Pod(far, 1)
        for _ in range(40):  # until there is as much credit as there may be
            mine.stream.write(bytes(limits.MOST_WINDOW))
            passed(near, far)
            passed(far, near)
        mine.stream.close()
        theirs.stream.pause_reading()
        count, before = theirs.stream._granted, len(theirs.got)
        assert count > limits.MOST_WINDOW // 2
        began = time.process_time()
        for at in range(count):
            theirs.stream.came(Kind.DATA, bytes([at & 255]))
        assert sys.getsizeof(theirs.stream._held) < 2 * limits.MOST_WINDOW
        theirs.stream.resume_reading()
        assert theirs.got[before:] == (bytes(range(256)) * (count // 256 + 1))[:count]
        assert time.process_time() - began < 5 * count / (1 << 20)

    play(run)


def test_a_link_hears_that_a_closed_stream_is_over_when_all_of_it_has_been_sent_and_may_cut_it_before() -> None:
    async def run() -> None:
        for is_cut in (False, True):
            near, far = Wire(), Wire()
            mine, theirs = Pod(near, 1), Pod(far, 1)
            theirs.stream.pause_reading()
            mine.stream.write(bytes(2 * limits.FIRST_WINDOW))
            mine.stream.close()
            passed(near, far)
            await asyncio.sleep(0)
            assert mine.lost == []
            if is_cut:
                mine.stream.abort()
                await asyncio.sleep(0)
                assert (mine.lost, near.forgotten) == ([None], [1])
                continue
            theirs.stream.resume_reading()
            passed(far, near)
            await asyncio.sleep(0)
            assert mine.lost == [None]
            passed(near, far)
            assert (len(theirs.got), theirs.ended) == (2 * limits.FIRST_WINDOW, True)

    asyncio.run(run())
