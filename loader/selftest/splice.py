"""The splice(2) cases. A reader that splices cannot see redirected bytes: it must be marked before it reads, and one
that comes to it too late must be found, so that the agent can reset its connection."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator

from loader import abi
from loader.selftest.ground import Ground
from loader.selftest.link import connected
from loader.selftest.pump import Deadline, Failed, Flow, pattern, run

_SPLICE_F_NONBLOCK = 2


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def to_socket(ground: Ground, deadline: Deadline) -> None:
    """Bytes spliced from a pipe into a socket."""
    with connected(ground, deadline) as link, _pipe() as (out, into):
        link.enrol(deadline)
        held = 0

        def send(sock: socket.socket, part: memoryview) -> int:
            nonlocal held
            if not held:
                held = os.write(into, part)
            sent = os.splice(out, sock.fileno(), held, flags=_SPLICE_F_NONBLOCK)
            held -= sent
            return sent

        run([Flow(link.client, link.server, pattern(1_000_003, 20), chunk=60_000, send=send)], deadline)
        link.require_carried(server=False)


def from_socket(ground: Ground, deadline: Deadline) -> None:
    """A program that splices from the start, as Go's io.Copy does: every byte comes, none by the short cut."""
    with connected(ground, deadline) as link, _pipe() as (out, into):
        receive = _splicing(out, into)
        for number in range(40):  # more packets than probation: it stays barred
            run([Flow(link.client, link.server, pattern(1000, number), receive=receive)], deadline)
            run([Flow(link.server, link.client, b"more")], deadline)
        if link.mark(server=True) is not abi.AccelReason.SPLICE:
            raise Failed(f"a reader that splices was not marked: {link.reasons()}")
        run([Flow(link.client, link.server, pattern(1_000_003, 21), receive=receive)], deadline)
        if link.carried()[0]:
            raise Failed(f"{link.carried()[0]:,} B were redirected to a reader that splices")


def late(ground: Ground, deadline: Deadline) -> None:
    """A program that reads first and splices later, with nothing waiting: marked in time, every byte comes."""
    with connected(ground, deadline) as link, _pipe() as (out, into):
        link.enrol(deadline)
        run([Flow(link.client, link.server, pattern(5000, 22))], deadline)
        link.require_carried()
        receive = _splicing(out, into)
        with contextlib.suppress(BlockingIOError):
            raise Failed(f"splice gave {len(receive(link.server, 100))} B before any was sent")
        before = link.carried()[0]
        run([Flow(link.client, link.server, pattern(1_000_003, 23), receive=receive)], deadline)
        if link.carried()[0] != before:
            raise Failed(f"{link.carried()[0] - before:,} B were redirected to a reader that splices")


def too_late(ground: Ground, deadline: Deadline) -> None:
    """A program that splices while redirected bytes wait: found at once, and ended by a reset as the agent does it."""
    with connected(ground, deadline) as link, _pipe() as (_, into):
        link.enrol(deadline)
        link.client.send(b"waiting")
        link.server.setblocking(True)  # as the worst reader: the call does not come back by itself
        reader = threading.Thread(target=_splice_once, args=(link.server, into), daemon=True)
        reader.start()
        while reader.is_alive() and not link.record().stuck:
            reader.join(0.001)
            deadline.left()
        if reader.is_alive():
            link.client.close()
            link.server.shutdown(socket.SHUT_RDWR)
            reader.join(deadline.left())


def _splice_once(sock: socket.socket, into: int) -> None:
    with contextlib.suppress(OSError):
        os.splice(sock.fileno(), into, 100)


def _splicing(out: int, into: int) -> Callable[[socket.socket, int], bytes]:
    """Return a way to receive through a pipe."""

    def receive(sock: socket.socket, most: int) -> bytes:
        count = os.splice(sock.fileno(), into, min(most, 60_000), flags=_SPLICE_F_NONBLOCK)
        return os.read(out, count) if count else b""

    return receive
