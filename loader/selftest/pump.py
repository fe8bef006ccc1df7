"""Moves bytes through sockets in both directions at once and compares them, always within a deadline."""

import contextlib
import dataclasses
import os
import select
import socket
import time
from collections.abc import Callable, Sequence


class Failed(Exception):
    """A case did not go as over plain TCP; the message is what a person reads."""


class Deadline:
    """A point in time that every wait of a case ends at."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds left; raises Failed when there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise Failed(f"not finished after {self.seconds:g} s")
        return left


def pattern(size: int, seed: int = 0) -> bytes:
    """Return bytes that repeat with no short period, so that a lost, doubled or moved piece shows."""
    block = b"".join(((seed << 24) + i * 2654435761 & 0xFFFFFFFF).to_bytes(4, "little") for i in range(4099))
    return (block * (size // len(block) + 1))[:size]


def plain_send(sock: socket.socket, data: memoryview) -> int:
    return sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


def plain_receive(sock: socket.socket, most: int) -> bytes:
    return sock.recv(most, socket.MSG_DONTWAIT)


@dataclasses.dataclass
class Flow:
    """One direction: what is sent from where to where, how, and what has come out."""

    source: socket.socket
    target: socket.socket
    data: bytes
    chunk: int = 65536
    send: Callable[[socket.socket, memoryview], int] = plain_send
    receive: Callable[[socket.socket, int], bytes] = plain_receive
    sent: int = 0
    got: bytearray = dataclasses.field(default_factory=bytearray)

    def push(self) -> bool:
        """Send what goes; return whether any did."""
        before = self.sent
        with contextlib.suppress(BlockingIOError):
            while self.sent < len(self.data):
                self.sent += self.send(self.source, memoryview(self.data)[self.sent : self.sent + self.chunk])
        return self.sent > before

    def pull(self) -> bool:
        """Receive what is there; return whether anything was."""
        before = len(self.got)
        with contextlib.suppress(BlockingIOError):
            while len(self.got) < len(self.data):
                piece = self.receive(self.target, 1 << 18)
                if not piece:
                    raise Failed(f"the stream ended after {len(self.got):,} of {len(self.data):,} bytes")
                self.got += piece
        return len(self.got) > before

    @property
    def done(self) -> bool:
        return len(self.got) >= len(self.data)

    def check(self) -> None:
        compare(bytes(self.got), self.data)


def compare(got: bytes, want: bytes) -> None:
    """Raise Failed, naming the first byte that differs, unless both are the same."""
    if got == want:
        return
    first = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), min(len(got), len(want)))
    raise Failed(f"wrong bytes: got {len(got):,} of {len(want):,}, the first that differs is number {first:,}")


def run(flows: Sequence[Flow], deadline: Deadline) -> None:
    """Carry all flows to their end at the same time and compare each byte; raises Failed or OSError."""
    while not all(flow.done for flow in flows):
        progress = [step() for flow in flows for step in (flow.push, flow.pull)]
        if any(progress):
            deadline.left()
            continue
        wait(
            {flow.source: select.POLLOUT for flow in flows if flow.sent < len(flow.data)},
            {flow.target: select.POLLIN for flow in flows if not flow.done},
            deadline,
            lambda: ", ".join(f"{len(flow.got):,} of {len(flow.data):,} bytes came" for flow in flows),
        )
    for flow in flows:
        flow.check()


def wait(
    write: dict[socket.socket, int], read: dict[socket.socket, int], deadline: Deadline, state: Callable[[], str]
) -> None:
    """Wait until one of the sockets is ready; raises Failed with the state when none becomes so."""
    poll = select.poll()
    for sock in {*write, *read}:
        poll.register(sock, write.get(sock, 0) | read.get(sock, 0))
    if not poll.poll(min(deadline.left(), 5.0 if deadline.seconds <= 10 else deadline.seconds) * 1000):
        raise Failed(f"stalled: {state()}")


def readable(sock: socket.socket, deadline: Deadline, what: str) -> None:
    wait({}, {sock: select.POLLIN}, deadline, lambda: what)


def read_to_end(sock: socket.socket, deadline: Deadline) -> bytes:
    """Return all bytes up to the end of the stream."""
    got = bytearray()
    while True:
        readable(sock, deadline, f"{len(got):,} B came and no end of the stream")
        with contextlib.suppress(BlockingIOError):
            piece = plain_receive(sock, 1 << 18)
            if not piece:
                return bytes(got)
            got += piece


def fill(sock: socket.socket, chunk: bytes, limit: int, quiet: float, deadline: Deadline) -> int:
    """Send until nothing more has gone for `quiet` seconds, or `limit` bytes went; return how many went."""
    sent = 0
    poll = select.poll()
    poll.register(sock, select.POLLOUT)
    while sent < limit and poll.poll(quiet * 1000):
        with contextlib.suppress(BlockingIOError):
            sent += sock.send(chunk, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        deadline.left()
    return sent


def memory_file(data: bytes) -> int:
    """Return the fd of a file in memory that holds data."""
    fd = os.memfd_create("sockmesh-selftest", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(data)
    return fd
