"""Streams of one connection, as playbooks without a network: order, ends and credit, whoever reads when."""

import asyncio
import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l7proxy.mesh import frames, limits
from l7proxy.mesh.errors import BadFrame
from l7proxy.mesh.frames import Ends, Kind, Reader
from l7proxy.mesh.stream import Stream

ENDS = Ends("10.0.0.1", 40000, "10.0.1.1", 80)


class Wire:
    """One side's connection: what its streams say waits here until it is passed on."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.is_full = False
        self.said = bytearray()
        self.forgotten: list[int] = []
        self._reader = Reader()

    @property
    def unsent(self) -> int:
        return len(self.said)

    def write(self, frame: bytes) -> None:
        self.said += frame

    def write_data(self, number: int, data: bytes) -> None:
        for at in range(0, len(data), frames.MOST_DATA):
            part = data[at : at + frames.MOST_DATA]
            self.said += frames.data_head(number, len(part)) + part

    def forget(self, stream: Stream) -> None:
        self.forgotten.append(stream.number)
        self.streams.pop(stream.number, None)

    def fill(self, is_full: bool) -> None:
        self.is_full = is_full
        for stream in list(self.streams.values()):
            stream.look_full()

    def heard(self, data: bytes) -> None:
        for kind, number, body in self._reader.feed(data):
            if (stream := self.streams.get(number)) is not None:
                stream.came(kind, body)


class Pod(asyncio.Protocol):
    """A link's place: keeps what comes."""

    def __init__(self, wire: Wire, number: int) -> None:
        self.got = b""
        self.ended = self.is_full = False
        self.lost: list[Exception | None] = []
        self.stream = wire.streams[number] = Stream(wire, number, self, ENDS)

    def data_received(self, data: bytes) -> None:
        assert not self.ended and not self.lost
        self.got += data

    def eof_received(self) -> bool:
        assert not self.ended
        self.ended = True
        return True

    def pause_writing(self) -> None:
        self.is_full = True

    def resume_writing(self) -> None:
        self.is_full = False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append(error)


def play(steps: Callable[[Wire, Wire], None]) -> None:
    async def run() -> None:
        steps(Wire(), Wire())
        await asyncio.sleep(0)

    asyncio.run(run())


def passed(source: Wire, target: Wire, most: int = 1 << 30) -> None:
    part = bytes(source.said[:most])
    del source.said[:most]
    target.heard(part)


SIZES = st.integers(1, 3 * limits.FIRST_WINDOW)
STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 3), SIZES),
    st.tuples(st.just("pass"), st.integers(0, 1), SIZES),
    st.tuples(st.just("read"), st.integers(0, 3), st.integers(0, 1)),
    st.tuples(st.just("full"), st.integers(0, 1), st.integers(0, 1)),
)


@given(st.lists(STEPS, max_size=40))
def test_bytes_come_in_order_and_none_is_lost_however_they_are_read(steps: list[tuple[str, int, int]]) -> None:
    def run(near: Wire, far: Wire) -> None:
        wires = (near, far)
        pods = [Pod(near, 1), Pod(near, 2), Pod(far, 1), Pod(far, 2)]
        sent = [b"", b"", b"", b""]
        for what, which, size in steps:
            if what == "write":
                data = hashlib.sha256(bytes([which, len(sent[which]) % 251])).digest() * (size // 32 + 1)
                sent[which] += data
                pods[which].stream.write(data)
            elif what == "pass":
                passed(wires[which], wires[1 - which], size)
            elif what == "read":
                pods[which].stream.resume_reading() if size else pods[which].stream.pause_reading()
            else:
                wires[which].fill(bool(size))
            for pod in pods:
                assert len(pod.stream._held) <= limits.MOST_WINDOW
        for pod in pods:
            pod.stream.write_eof()
            pod.stream.resume_reading()
        for wire in wires:
            wire.fill(False)
        while near.said or far.said:
            passed(near, far)
            passed(far, near)
        got = [pod.got for pod in pods]
        assert got[2:] + got[:2] == sent
        assert [pod.ended for pod in pods] == [True] * 4
        assert sorted(near.forgotten) == sorted(far.forgotten) == [1, 2]

    play(run)


def test_who_reads_nothing_is_sent_no_more_than_his_credit_and_another_stream_goes_on() -> None:
    def run(near: Wire, far: Wire) -> None:
        slow, quick = (Pod(near, 1), Pod(far, 1)), (Pod(near, 2), Pod(far, 2))
        slow[1].stream.pause_reading()
        block = bytes(limits.FIRST_WINDOW // 2)
        for _ in range(20):
            slow[0].stream.write(block)
            quick[0].stream.write(block)
            passed(near, far)
            passed(far, near)
        assert (slow[0].is_full, quick[0].is_full) == (True, False)
        assert len(slow[1].stream._held) == limits.FIRST_WINDOW
        assert len(quick[1].got) == 20 * len(block)
        slow[1].stream.resume_reading()
        while near.said or far.said:
            passed(far, near)
            passed(near, far)
        assert not slow[0].is_full
        assert len(slow[1].got) == 20 * len(block)

    play(run)


def test_credit_grows_for_who_takes_all_and_only_to_the_most() -> None:
    def run(near: Wire, far: Wire) -> None:
        mine, theirs = Pod(near, 1), Pod(far, 1)
        most = 0
        for _ in range(40):
            mine.stream.write(bytes(limits.MOST_WINDOW))
            most = max(most, len(near.said))
            passed(near, far)
            passed(far, near)
        assert limits.MOST_WINDOW // 2 < most <= limits.MOST_WINDOW + 1000
        theirs.stream.pause_reading()
        for _ in range(3):
            passed(near, far)
            passed(far, near)
        assert len(theirs.stream._held) <= limits.MOST_WINDOW

    play(run)


def data(size: int) -> bytes:
    return frames.data_head(1, size) + bytes(size)


@pytest.mark.parametrize(
    "said",
    [
        data(limits.FIRST_WINDOW) + data(1),
        frames.credit(1, limits.MOST_WINDOW),
        frames.frame(Kind.END, 1) + data(1),
        frames.frame(Kind.END, 1) * 2,
        frames.frame(Kind.OPENED, 1),
        frames.refusal(1, "no"),
        frames.frame(Kind.CREDIT, 1, b"\0\1"),
    ],
)
def test_what_a_peer_may_not_say_is_a_bad_frame(said: bytes) -> None:
    def run(near: Wire, far: Wire) -> None:
        pod = Pod(near, 1)
        pod.stream.pause_reading()
        with pytest.raises(BadFrame):
            near.heard(said)

    play(run)


def test_a_closed_stream_sends_what_waits_and_then_its_end() -> None:
    def run(near: Wire, far: Wire) -> None:
        mine, theirs = Pod(near, 1), Pod(far, 1)
        mine.stream.write(bytes(3 * limits.FIRST_WINDOW))
        mine.stream.close()
        while near.said or far.said:
            passed(near, far)
            passed(far, near)
        assert (len(theirs.got), theirs.ended, near.forgotten) == (3 * limits.FIRST_WINDOW, True, [])
        theirs.stream.write_eof()
        passed(far, near)
        assert (near.forgotten, far.forgotten) == ([1], [1])

    play(run)


@pytest.mark.parametrize("reads_when_it_closes", [True, False])
def test_who_sends_to_a_closed_stream_gets_a_reset(reads_when_it_closes: bool) -> None:
    def run(near: Wire, far: Wire) -> None:
        mine, theirs = Pod(near, 1), Pod(far, 1)
        if not reads_when_it_closes:
            mine.stream.pause_reading()
            theirs.stream.write(b"unread")
            passed(far, near)
        mine.stream.close()
        if reads_when_it_closes:
            passed(near, far)
            theirs.stream.write(b"late")
            passed(far, near)
        passed(near, far)
        assert [type(error) for error in theirs.lost] == [ConnectionResetError]
        assert (near.forgotten, far.forgotten) == ([1], [1])

    play(run)


def test_the_end_comes_after_what_was_held() -> None:
    def run(near: Wire, far: Wire) -> None:
        mine, theirs = Pod(near, 1), Pod(far, 1)
        theirs.stream.pause_reading()
        mine.stream.write(b"all of it")
        mine.stream.write_eof()
        passed(near, far)
        assert (theirs.got, theirs.ended) == (b"", False)
        theirs.stream.resume_reading()
        assert (theirs.got, theirs.ended) == (b"all of it", True)

    play(run)


def test_who_reads_slowly_gets_all_though_the_sender_has_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER_S", 0.0)

    async def run() -> None:
        near, far = Wire(), Wire()
        mine, theirs = Pod(near, 1), Pod(far, 1)
        theirs.stream.pause_reading()
        mine.stream.write(bytes(3 * limits.FIRST_WINDOW))
        mine.stream.close()
        passed(near, far)
        await asyncio.sleep(0.01)  # however long it may be
        theirs.stream.resume_reading()
        while near.said or far.said:
            passed(far, near)
            passed(near, far)
        assert (len(theirs.got), theirs.ended, theirs.lost) == (3 * limits.FIRST_WINDOW, True, [])

    asyncio.run(run())
