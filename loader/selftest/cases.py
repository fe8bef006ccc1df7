"""The cases: each does over the short cut what programs do over TCP, and expects what TCP gives.

A case gets the ground and a deadline, and raises Failed or OSError when something is not as over TCP.
"""

import contextlib
import errno
import os
import select
import socket
import threading
from collections.abc import Callable

from loader.selftest import splice
from loader.selftest.ground import Ground
from loader.selftest.link import Link, connected, reset
from loader.selftest.pump import (
    Deadline,
    Failed,
    Flow,
    compare,
    fill,
    memory_file,
    pattern,
    plain_receive,
    read_to_end,
    readable,
    run,
)  # fmt: skip

Case = Callable[[Ground, Deadline], None]
_BODY = 16 << 20
_SLOW_LIMIT = 64 << 20


def echo(ground: Ground, deadline: Deadline) -> None:
    """Requests and answers of many sizes."""
    with connected(ground, deadline) as link:
        _echo(link.enrol(deadline), deadline)


def _echo(link: Link, deadline: Deadline) -> None:
    for size in (1, 2, 63, 64, 1000, 4096, 16384, 65536, 100_001):
        for sender, receiver in ((link.client, link.server), (link.server, link.client)):
            run([Flow(sender, receiver, pattern(size, size & 0xFF))], deadline)
    link.require_carried()


def half_close_by_client(ground: Ground, deadline: Deadline) -> None:
    _half_close(ground, deadline, client_first=True)


def half_close_by_server(ground: Ground, deadline: Deadline) -> None:
    _half_close(ground, deadline, client_first=False)


def _half_close(ground: Ground, deadline: Deadline, client_first: bool) -> None:
    """One end says all it has and shuts down, with bytes still unread; the other reads them, answers and closes."""
    with connected(ground, deadline) as link:
        link.enrol(deadline)
        first, second = (link.client, link.server) if client_first else (link.server, link.client)
        for sender, receiver, seed in ((first, second, 1), (second, first, 2)):
            run([Flow(sender, receiver, pattern(100_000, seed))], deadline)
            last = pattern(4000, seed + 10)
            sender.sendall(last)
            sender.shutdown(socket.SHUT_WR)
            compare(read_to_end(receiver, deadline), last)
            if sender is first:
                link.require_carried(client=client_first, server=not client_first)


def reset_by_client(ground: Ground, deadline: Deadline) -> None:
    _reset(ground, deadline, by_client=True)


def reset_by_server(ground: Ground, deadline: Deadline) -> None:
    _reset(ground, deadline, by_client=False)


def _reset(ground: Ground, deadline: Deadline, by_client: bool) -> None:
    """A reset reaches the other end: its read and its write say so."""
    with connected(ground, deadline) as link:
        link.enrol(deadline)
        ending, other = (link.client, link.server) if by_client else (link.server, link.client)
        run([Flow(ending, other, pattern(5000))], deadline)
        link.require_carried()
        reset(ending)
        readable(other, deadline, "the reset did not arrive")
        try:
            raise Failed(f"read after a reset: {len(plain_receive(other, 100))} B instead of an error")
        except OSError as error:
            if error.errno != errno.ECONNRESET:
                raise Failed(f"read after a reset: {error.strerror} instead of a reset") from error
        try:
            other.send(b"x", socket.MSG_NOSIGNAL)
            raise Failed("write after a reset: no error")
        except BrokenPipeError:
            pass


def body_up(ground: Ground, deadline: Deadline) -> None:
    """16 MB from client to server."""
    with connected(ground, deadline) as link:
        link.enrol(deadline)
        run([Flow(link.client, link.server, pattern(_BODY, 3))], deadline)
        link.require_carried(server=False)


def body_down(ground: Ground, deadline: Deadline) -> None:
    """16 MB from server to client."""
    with connected(ground, deadline) as link:
        link.enrol(deadline)
        run([Flow(link.server, link.client, pattern(_BODY, 4))], deadline)
        link.require_carried(client=False)


def bodies_at_once(ground: Ground, deadline: Deadline) -> None:
    """4 MB each way at the same time, in chunks of odd size."""
    with connected(ground, deadline) as link:
        link.enrol(deadline)
        up = Flow(link.client, link.server, pattern(_BODY // 4, 5), chunk=30_011)
        down = Flow(link.server, link.client, pattern(_BODY // 4, 6), chunk=1_447)
        run([up, down], deadline)
        link.require_carried()


def slow_reader(ground: Ground, deadline: Deadline) -> None:
    """A reader that does not read stops its writer about where TCP would, and later reads every byte."""
    for size in (65536, 512):
        chunk = pattern(size, 7)
        plain, _ = _queued(ground, deadline, chunk, short_cut=False)
        cut, buffer = _queued(ground, deadline, chunk, short_cut=True)
        # TCP takes little in small pieces, for want of buffer; what counts is that there is a bound like its own.
        if cut > 2 * max(plain, buffer):
            raise Failed(f"unread bytes are not bounded: {cut:,} in pieces of {size:,}, over plain TCP {plain:,}")


def _queued(ground: Ground, deadline: Deadline, chunk: bytes, short_cut: bool) -> tuple[int, int]:
    """Return how many bytes the kernel takes from a writer whose reader does not read, and that reader's buffer; then
    read and compare them."""
    # A socket in blocking mode is never enrolled; each call here is non-blocking by its flag.
    with connected(ground, deadline, blocking=not short_cut) as link:
        if short_cut:
            link.enrol(deadline)
        buffer = link.server.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        sent = fill(link.client, chunk, _SLOW_LIMIT, 0.02, deadline)
        if short_cut:
            link.require_carried(server=False)
        link.client.shutdown(socket.SHUT_WR)
        compare(read_to_end(link.server, deadline), (chunk * (sent // len(chunk) + 1))[:sent])
        return sent, buffer


def sendfile(ground: Ground, deadline: Deadline) -> None:
    """A file sent by sendfile(2), as web servers do."""
    data = pattern(2_000_003, 8)
    file = memory_file(data)
    try:
        with connected(ground, deadline) as link:
            link.enrol(deadline)
            flow = Flow(link.server, link.client, data, chunk=1 << 20)
            flow.send = lambda sock, part: os.sendfile(sock.fileno(), file, flow.sent, len(part))
            run([flow], deadline)
            link.require_carried(client=False)
    finally:
        os.close(file)


def non_blocking(ground: Ground, deadline: Deadline) -> None:
    """Readiness is told truly: nothing to read is EAGAIN, peeking takes nothing, an edge comes for each arrival."""
    with connected(ground, deadline) as link, contextlib.closing(select.epoll()) as epoll:
        link.enrol(deadline)
        epoll.register(link.server, select.EPOLLIN | select.EPOLLET)
        epoll.poll(0)
        for number in range(50):
            with contextlib.suppress(BlockingIOError):
                raise Failed(f"read {len(plain_receive(link.server, 10))} B before any was sent")
            data = pattern(100 + number, number)
            link.client.send(data)
            if not epoll.poll(min(deadline.left(), 5)):
                raise Failed("no edge for bytes that arrived")
            compare(link.server.recv(30, socket.MSG_PEEK), data[:30])
            compare(link.server.recv(7) + link.server.recv(1000), data)
        link.require_carried(server=False)


def blocking(ground: Ground, deadline: Deadline) -> None:
    """A blocking read waits for bytes, whatever else wakes it: here, room in its own full send buffer."""
    with connected(ground, deadline, blocking=True) as link:
        link.ping_pong(deadline, rounds=2 * min(ground.maps.config.get_at(0).probation_packets, 500) + 32)
        sent = fill(link.client, pattern(65536, 9), _SLOW_LIMIT, 0.02, deadline)
        outcome: list[bytes | OSError] = []

        def read() -> None:
            try:
                outcome.append(link.client.recv(100))
            except OSError as error:
                outcome.append(error)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        left = sent
        while left:  # each read makes room at the client and wakes it
            readable(link.server, deadline, "what filled the buffer did not arrive")
            left -= len(plain_receive(link.server, 1 << 16))
        reader.join(0.05)
        if outcome:
            raise Failed(f"a blocking read ended with nothing to read: {outcome[0]!r}")
        link.server.send(b"now")
        reader.join(deadline.left())
        if outcome != [b"now"]:
            raise Failed(f"a blocking read gave {outcome!r} instead of the bytes sent")


def early_data(ground: Ground, deadline: Deadline) -> None:
    """Bytes sent before the other end accepts come first, whatever goes by the short cut later."""
    early = pattern(60_000, 11)
    with connected(ground, deadline, early=early) as link:
        run([Flow(link.client, link.server, early, sent=link.early)], deadline)
        link.enrol(deadline)
        _echo(link, deadline)
    with connected(ground, deadline) as link:
        # Unread bytes on TCP while the rest could be redirected: none may overtake them.
        link.enrol(deadline)
        run([Flow(link.client, link.server, pattern(300_000, 12), chunk=100)], deadline)


def ipv6(ground: Ground, deadline: Deadline) -> None:
    """Echo, a body and a half-close over IPv6. A kernel without IPv6 has nothing to try."""
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return
    with connected(ground, deadline, family=socket.AF_INET6) as link:
        link.enrol(deadline)
        _echo(link, deadline)
        run([Flow(link.server, link.client, pattern(1 << 20, 13))], deadline)
        link.client.sendall(b"last words")
        link.client.shutdown(socket.SHUT_WR)
        compare(read_to_end(link.server, deadline), b"last words")


CASES: dict[str, Case] = {
    "echo": echo,
    "half-close by client": half_close_by_client,
    "half-close by server": half_close_by_server,
    "reset by client": reset_by_client,
    "reset by server": reset_by_server,
    "16 MB up": body_up,
    "16 MB down": body_down,
    "4 MB both ways at once": bodies_at_once,
    "slow reader": slow_reader,
    "sendfile": sendfile,
    "splice to socket": splice.to_socket,
    "splice from socket": splice.from_socket,
    "splice after reading": splice.late,
    "splice with bytes waiting": splice.too_late,
    "non-blocking": non_blocking,
    "blocking": blocking,
    "early data": early_data,
    "IPv6": ipv6,
}
NAMES = tuple(CASES)
