"""What poll, ioctl and socket options tell of bytes that wait."""

import fcntl
import os
import select
import signal
import socket
import struct
import threading
from pathlib import Path

import pytest

from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.look import LONG, arrived, data, events, recv, send, so_error, state, unsent
from tests.kernel.pairs import Pair, receive
from tests.kernel.scenarios import See, bar, cold, scenario, wait_in


@scenario
def poll_and_fionread(p: Pair, see: See) -> None:
    see("poll", events(p.b))
    see("FIONREAD", arrived(p.b, 0))
    see("read", recv(p.b, 10))
    see("waiting", wait_in(p, p.a, 3000))
    see("poll", events(p.b))
    see("unsent", unsent(p.a))
    see("poll of the sender", events(p.a))
    see("part", recv(p.b, 1001))
    see("FIONREAD", arrived(p.b, 1999))
    see("waiting", wait_in(p, p.a, 500, 3000))
    see("FIONREAD", arrived(p.b, 2499))
    see("rest", recv(p.b, 5000))
    see("poll", events(p.b))
    see("FIONREAD", arrived(p.b, 0))
    see("SO_ERROR", so_error(p.b))


@scenario
def fionread_of_bytes_that_came_over_tcp(p: Pair, see: See) -> None:
    """nginx believes it: with 0 it reads no more, and an edge-triggered epoll will not tell it again."""
    bar(p.b)
    see("send", send(p.a, data(3000)))
    see("unsent", unsent(p.a))
    see("FIONREAD", arrived(p.b, 3000))
    see("part", recv(p.b, 1000))
    see("FIONREAD", arrived(p.b, 2000))


@scenario
def fionread_of_bytes_that_came_both_ways(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 1000))
    bar(p.b)
    see("send", send(p.a, data(3000, 1000)))
    see("unsent", unsent(p.a))
    see("FIONREAD", arrived(p.b, 4000))
    see("part", receive(p.b, 1000) == data(1000))
    see("FIONREAD", arrived(p.b, 3000, LONG))


@scenario
def edge_triggered_epoll(p: Pair, see: See) -> None:
    with select.epoll() as ep:
        ep.register(p.b, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET)

        def edges() -> list[int]:
            return [bits for _, bits in ep.poll(0)]

        see("at first", edges())
        see("again", edges())
        see("waiting", wait_in(p, p.a, 100))
        see("bytes", edges())
        see("again", edges())
        see("waiting", wait_in(p, p.a, 100, 100))
        see("more bytes", edges())
        see("part", recv(p.b, 50))
        see("after a part", edges())
        see("rest", recv(p.b, 1000))
        p.a.shutdown(socket.SHUT_WR)
        see("state", state(p.b, "CLOSE_WAIT"))
        see("end", edges())
        see("again", edges())


@scenario
def sender_polls_for_space(p: Pair, see: See) -> None:
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += p.a.send(data(60000, sent % 40000))
    see("poll", events(p.a))
    got = 0
    while got < sent:
        got += len(receive(p.b, min(65536, sent - got)))
    see("unsent", unsent(p.a))
    see("poll", events(p.a))
    see("more", send(p.a, b"hello"))
    see("unsent", unsent(p.a))
    see("read", recv(p.b, 100))


@scenario
def empty_reads_and_writes(p: Pair, see: See) -> None:
    see("read of 0 from nothing", recv(p.b, 0))
    see("send of 0", send(p.a, b""))
    see("poll", events(p.b))
    see("waiting", wait_in(p, p.a, 100))
    see("read of 0", recv(p.b, 0))
    see("read", recv(p.b, 200))
    p.a.close()
    see("state", state(p.b, "CLOSE_WAIT"))
    see("read of 0", recv(p.b, 0))


@scenario
def low_water_mark_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 100))
    p.b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)
    see("poll", events(p.b))
    see("send", send(p.a, data(900, 100)))
    see("unsent", unsent(p.a))
    see("poll", events(p.b))
    see("read", receive(p.b, 1000) == data(1000))


@scenario
def low_water_mark_set_before(p: Pair, see: See) -> None:
    p.b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)
    see("send", send(p.a, data(100)))
    see("unsent", unsent(p.a))
    see("poll", events(p.b))
    see("send", send(p.a, data(900, 100)))
    see("unsent", unsent(p.a))
    see("poll", events(p.b))
    see("read", recv(p.b, 1000))


@scenario
def receive_timeout_when_blocking_again(p: Pair, see: See) -> None:
    p.b.setblocking(True)
    p.b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 100_000))
    see("nothing comes", recv(p.b, 10))
    see("send", send(p.a, b"hello"))
    see("read", recv(p.b, 10))


@scenario
def wait_for_all_when_blocking_again(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 400))
    p.b.setblocking(True)
    p.b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 30, 0))
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(recv(p.b, 1000, socket.MSG_WAITALL)))
    reader.start()
    see("send", send(p.a, data(600, 400)))
    reader.join(40)
    see("read", got)


@scenario
def signal_when_readable(p: Pair, see: See) -> None:
    """O_ASYNC: SIGIO to the thread that owns the socket."""
    F_SETOWN_EX, BY_THREAD = 15, 0
    before = signal.signal(signal.SIGIO, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    fcntl.fcntl(p.b, F_SETOWN_EX, struct.pack("ii", BY_THREAD, threading.get_native_id()))
    fcntl.fcntl(p.b, fcntl.F_SETFL, os.O_NONBLOCK | os.O_ASYNC)
    for start in (0, 100):
        see("waiting", wait_in(p, p.a, 100, start))
        see("signal", signal.sigtimedwait([signal.SIGIO], 1) is not None)
    see("read", recv(p.b, 1000))
    p.b.close()
    while signal.sigtimedwait([signal.SIGIO], 0):
        pass
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGIO})
    signal.signal(signal.SIGIO, before)


def _read_while_woken_for_space(p: Pair, see: See) -> None:
    """A blocking read at `b` sleeps on when the wake-up was for a writer."""
    p.b.setblocking(True)
    p.b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(60 * PATIENCE), 0))
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(recv(p.b, 10)))
    reader.start()
    wait_until(lambda: _inside_a_call_on(p.b, reader), "the reader sleeps")
    for _ in range(8):  # not every time is the reader hit
        sent = 0
        with pytest.raises(BlockingIOError):
            while True:
                sent += p.b.send(data(60000), socket.MSG_DONTWAIT)
        while sent:
            sent -= len(receive(p.a, min(65536, sent)))
    see("unsent", unsent(p.b))
    see("send", send(p.a, b"hello"))
    reader.join(70 * PATIENCE)
    see("read", got)


def _inside_a_call_on(sock: socket.socket, thread: threading.Thread) -> bool:
    words = Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()
    return len(words) > 2 and words[1] == hex(sock.fileno())


@scenario
def blocking_again(p: Pair, see: See) -> None:
    _read_while_woken_for_space(p, see)


@scenario
def blocking_again_and_one_packet_later(p: Pair, see: See) -> None:
    p.b.setblocking(True)
    see("send", send(p.a, b"ping"))
    see("read", receive(p.b, 4))
    _read_while_woken_for_space(p, see)


@cold
def blocking_after_early_bytes(p: Pair, see: See) -> None:
    """Many programs accept in non-blocking mode and hand the socket to one that blocks: maybe after bytes came in."""
    for start in range(0, 3200, 100):
        assert p.a.send(data(100, start)) == 100
        assert unsent(p.a) == "0"
    p.b.setblocking(True)
    see("early", receive(p.b, 3200) == data(3200))
    _read_while_woken_for_space(p, see)
