"""Each behaviour of a TCP connection, told by the same script with and without the short cut: the words must be equal.

A scenario gets a connected pair that is past probation and `see`, which notes what a program at either end sees. Bytes
that "wait" were sent by short cut (asserted) and not read.
"""

import ctypes
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from loader.maps import Maps
from tests.hosts import Mesh, Node
from tests.kernel.look import (
    arrived,
    at_mark,
    data,
    ending,
    events,
    name,
    recv,
    send,
    short,
    so_error,
    state,
    unsent,
)
from tests.kernel.pairs import Maker, Pair, connect, receive

pytestmark = pytest.mark.kernel

See = Callable[[str, object], None]
Scenario = Callable[[Pair, See], None]
SCENARIOS: dict[str, Scenario] = {}
PREPARE: dict[str, Callable[[socket.socket], None]] = {}


def scenario(function: Scenario) -> Scenario:
    SCENARIOS[function.__name__] = function
    return function


@dataclass
class Host:
    maps: Maps
    fast: tuple[Maker, Maker]
    plain: tuple[Maker, Maker]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Node("semantics") as node:
        fast = node.pod("fast-a"), node.pod("fast-b")
        plain = node.pod("plain-a", accelerate=False), node.pod("plain-b", accelerate=False)
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            makers = [Maker(pod) for pod in (*fast, *plain)]
            yield Host(maps, (makers[0], makers[1]), (makers[2], makers[3]))
            for maker in makers:
                maker.close()


def told(host: Host, which: str, family: int, accelerated: bool) -> list[str]:
    """Run a scenario on one connection and return what was seen."""
    for key, _ in list(host.maps.programs.items()):
        host.maps.programs.delete(key)  # a scenario may have put this very program off the short cut
    makers = host.fast if accelerated else host.plain
    pair = connect(*makers, host.maps, family, PREPARE.get(which, lambda sock: None))
    words: list[str] = []
    try:
        assert pair.warm_up() == accelerated, f"{which}: not as the test needs it: {pair.record()}"
        SCENARIOS[which](pair, lambda what, value: words.append(f"{what}: {value}"))
    except TimeoutError as error:
        words.append(f"gave up: {error}")
    finally:
        pair.close()
    return words


def wait_in(pair: Pair, sender: socket.socket, size: int, start: int = 0) -> str:
    """Send bytes that then wait at the other end, sent by short cut if the pair has one."""
    before = pair.redirected(sender)
    assert sender.send(data(size, start)) == size
    if before:
        assert pair.redirected(sender) == before + size, f"the bytes went over TCP: {pair.record()}"
    return f"{size}, unsent {unsent(sender)}"


def _bar(receiver: socket.socket) -> None:
    """From now on nothing is redirected to this socket: it asked for a low-water mark once."""
    for mark in (2, 1):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)


def reset(sock: socket.socket) -> None:
    """Close by RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


# --- how connections end


@scenario
def reset_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("poll", events(p.b))
    see("part", recv(p.b, 1000))
    see("rest", ending(p.b))
    see("after", recv(p.b, 10))
    see("send", send(p.b, b"x"))
    see("poll", events(p.b))


@scenario
def reset_with_waiting_bytes_asked_for_error_first(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("SO_ERROR", so_error(p.b))
    see("poll", events(p.b))
    see("rest", ending(p.b))
    see("send", send(p.b, b"x"))


@scenario
def reset_with_nothing_waiting_send_first(p: Pair, see: See) -> None:
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("poll", events(p.b))
    see("send", send(p.b, b"x"))
    see("poll", events(p.b))
    see("send again", send(p.b, b"x"))
    see("SO_ERROR", so_error(p.b))
    see("read", recv(p.b, 10))
    see("read again", recv(p.b, 10))


@scenario
def reset_with_nothing_waiting_read_first(p: Pair, see: See) -> None:
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("read", recv(p.b, 10))
    see("read again", recv(p.b, 10))
    see("send", send(p.b, b"x"))
    see("SO_ERROR", so_error(p.b))


@scenario
def reset_with_waiting_bytes_send_first(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("send", send(p.b, b"x"))
    see("SO_ERROR", so_error(p.b))
    see("rest", ending(p.b))


@scenario
def reset_peek_and_empty_read(p: Pair, see: See) -> None:
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("peek", recv(p.b, 10, socket.MSG_PEEK))
    see("peek again", recv(p.b, 10, socket.MSG_PEEK))
    see("read", recv(p.b, 10))


@scenario
def close_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.a.close()
    see("state", state(p.b, "CLOSE_WAIT"))
    see("poll", events(p.b))
    see("part", recv(p.b, 1000))
    see("poll", events(p.b))
    see("rest", ending(p.b))
    see("poll", events(p.b))
    see("send", send(p.b, b"x"))
    see("state", state(p.b, "CLOSE"))
    see("poll", events(p.b))
    see("send again", send(p.b, b"x"))
    see("read", recv(p.b, 10))


@scenario
def shutdown_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.a.shutdown(socket.SHUT_WR)
    see("state", state(p.b, "CLOSE_WAIT"))
    see("poll", events(p.b))
    see("part", recv(p.b, 1000))
    see("rest", ending(p.b))
    see("poll", events(p.b))
    see("answer", send(p.b, data(2000)))
    see("unsent", unsent(p.b))
    see("poll", events(p.a))
    p.b.close()
    see("answer read", ending(p.a))
    see("poll", events(p.a))


@scenario
def both_shut_down_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    see("waiting", wait_in(p, p.b, 2000))
    p.a.shutdown(socket.SHUT_WR)
    p.b.shutdown(socket.SHUT_WR)
    see("state", state(p.b, "CLOSE"))
    see("poll", events(p.a))
    see("poll", events(p.b))
    see("rest", ending(p.a))
    see("rest", ending(p.b))
    see("poll", events(p.b))


@scenario
def close_unread(p: Pair, see: See) -> None:
    """The end that closes with bytes unread resets: its peer must not believe that they were taken."""
    see("waiting", wait_in(p, p.a, 3000))
    p.b.close()
    see("state", state(p.a, "CLOSE"))
    see("poll", events(p.a))
    see("read", recv(p.a, 10))
    see("send", send(p.a, b"x"))


@scenario
def close_partly_unread(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    see("part", recv(p.b, 1000))
    p.b.close()
    see("state", state(p.a, "CLOSE"))
    see("SO_ERROR", so_error(p.a))
    see("read", recv(p.a, 10))


@scenario
def close_unread_after_the_answer(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.b, 2000))
    see("waiting", wait_in(p, p.a, 3000))
    p.b.close()
    see("state", state(p.a, "CLOSE"))
    see("poll", events(p.a))
    see("answer read", ending(p.a))


@scenario
def close_unread_after_shutdown(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.b.shutdown(socket.SHUT_WR)
    see("state", state(p.a, "CLOSE_WAIT"))
    p.b.close()
    see("state", state(p.a, "CLOSE"))
    see("poll", events(p.a))
    see("read", recv(p.a, 10))
    see("send", send(p.a, b"x"))


@scenario
def close_unread_after_the_peers_shutdown(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.a.shutdown(socket.SHUT_WR)
    see("state", state(p.b, "CLOSE_WAIT"))
    p.b.close()
    see("state", state(p.a, "CLOSE"))
    see("read", recv(p.a, 10))


@scenario
def send_after_own_shutdown(p: Pair, see: See) -> None:
    p.a.shutdown(socket.SHUT_WR)
    see("state", state(p.b, "CLOSE_WAIT"))
    see("send", send(p.a, b"x"))
    see("end", ending(p.b))
    see("send", send(p.a, b"xyz"))
    see("after the end", recv(p.b, 10))


@scenario
def send_after_the_peer_closed(p: Pair, see: See) -> None:
    p.b.close()
    see("state", state(p.a, "CLOSE_WAIT"))
    see("poll", events(p.a))
    see("send", send(p.a, b"x"))
    see("state", state(p.a, "CLOSE"))
    see("SO_ERROR", so_error(p.a))
    see("send again", send(p.a, b"x"))
    see("read", recv(p.a, 10))


@scenario
def shutdown_of_reading(p: Pair, see: See) -> None:
    p.b.shutdown(socket.SHUT_RD)
    see("poll", events(p.b))
    see("read", recv(p.b, 10))
    see("send", send(p.a, b"hello"))
    see("unsent", unsent(p.a))
    see("unsent", unsent(p.a))
    see("read", recv(p.b, 10))
    see("read", recv(p.b, 10))


@scenario
def shutdown_of_reading_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.b.shutdown(socket.SHUT_RD)
    see("poll", events(p.b))
    see("rest", ending(p.b))


# --- what poll, ioctl and options tell


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
    _bar(p.b)
    see("send", send(p.a, data(3000)))
    see("unsent", unsent(p.a))
    see("FIONREAD", arrived(p.b, 3000))
    see("part", recv(p.b, 1000))
    see("FIONREAD", arrived(p.b, 2000))


@scenario
def fionread_of_bytes_that_came_both_ways(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 1000))
    _bar(p.b)
    see("send", send(p.a, data(3000, 1000)))
    see("unsent", unsent(p.a))
    see("FIONREAD", arrived(p.b, 4000))
    see("part", receive(p.b, 1000) == data(1000))
    see("FIONREAD", arrived(p.b, 3000))


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
    p.b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 3, 0))
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(recv(p.b, 1000, socket.MSG_WAITALL)))
    reader.start()
    see("send", send(p.a, data(600, 400)))
    reader.join(5)
    see("read", got)


# --- ways to read


@scenario
def peek(p: Pair, see: See) -> None:
    for start in (0, 100, 200):
        see("waiting", wait_in(p, p.a, 100, start))
    see("peek", recv(p.b, 50, socket.MSG_PEEK))
    see("peek across", recv(p.b, 250, socket.MSG_PEEK))
    see("unsent", unsent(p.a))
    see("part", recv(p.b, 120))
    see("peek", recv(p.b, 1000, socket.MSG_PEEK))
    see("peek 10", recv(p.b, 10, socket.MSG_PEEK))
    see("read", recv(p.b, 1000))
    see("peek nothing", recv(p.b, 1000, socket.MSG_PEEK))
    p.a.close()
    see("state", state(p.b, "CLOSE_WAIT"))
    see("peek at the end", recv(p.b, 1000, socket.MSG_PEEK))


def _small_buffer(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 40000)


@scenario
def peek_at_bytes_that_came_both_ways(p: Pair, see: See) -> None:
    """With its queue half full, a reader gets the rest over TCP; it must be able to peek at all of it."""
    for start in range(0, 50000, 1000):
        assert p.a.send(data(1000, start)) == 1000
    see("unsent", unsent(p.a))
    see("peek", recv(p.b, 60000, socket.MSG_PEEK))
    see("read", receive(p.b, 50000) == data(50000))


PREPARE["peek_at_bytes_that_came_both_ways"] = _small_buffer


@scenario
def read_bytes_that_came_both_ways(p: Pair, see: See) -> None:
    for start in range(0, 50000, 1000):
        assert p.a.send(data(1000, start)) == 1000
    see("unsent", unsent(p.a))
    see("one read", recv(p.b, 60000))
    see("poll", events(p.b))
    see("rest", recv(p.b, 60000))


PREPARE["read_bytes_that_came_both_ways"] = _small_buffer


@scenario
def reset_with_bytes_that_came_both_ways(p: Pair, see: See) -> None:
    for start in range(0, 50000, 1000):
        assert p.a.send(data(1000, start)) == 1000
    see("unsent", unsent(p.a))
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("rest", ending(p.b))


PREPARE["reset_with_bytes_that_came_both_ways"] = _small_buffer


@scenario
def close_with_bytes_that_came_both_ways(p: Pair, see: See) -> None:
    for start in range(0, 50000, 1000):
        assert p.a.send(data(1000, start)) == 1000
    p.a.close()
    see("state", state(p.b, "CLOSE_WAIT"))
    see("rest", ending(p.b))


PREPARE["close_with_bytes_that_came_both_ways"] = _small_buffer


@scenario
def peek_offset_with_waiting_bytes(p: Pair, see: See) -> None:
    SO_PEEK_OFF = 42
    see("waiting", wait_in(p, p.a, 100))
    try:
        p.b.setsockopt(socket.SOL_SOCKET, SO_PEEK_OFF, 0)
        see("set", "yes")
    except OSError as error:
        see("set", name(error))
    see("peek", recv(p.b, 10, socket.MSG_PEEK))
    see("peek on", recv(p.b, 10, socket.MSG_PEEK))
    see("read", recv(p.b, 30))
    see("peek on", recv(p.b, 10, socket.MSG_PEEK))


@scenario
def discard(p: Pair, see: See) -> None:
    """MSG_TRUNC: TCP throws the bytes away and says how many; no buffer is needed."""
    see("waiting", wait_in(p, p.a, 100))
    libc = ctypes.CDLL(None, use_errno=True)
    see("discarded", libc.recv(p.b.fileno(), None, 40, socket.MSG_TRUNC))
    see("next", recv(p.b, 20))
    buffer = ctypes.create_string_buffer(b"\xee" * 16, 16)
    see("discarded", libc.recv(p.b.fileno(), buffer, 16, socket.MSG_TRUNC))
    see("buffer", buffer.raw)
    see("next", recv(p.b, 100))


@scenario
def scattered_read_and_its_flags(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 100))
    parts = [bytearray(7), bytearray(0), bytearray(50), bytearray(100)]
    count, control, flags, where = p.b.recvmsg_into(parts, 100)
    see("recvmsg", (count, control, flags, where, short(b"".join(parts)[:count])))
    see("waiting", wait_in(p, p.a, 10))
    see("recvfrom", p.b.recvfrom(100))


@scenario
def bytes_left_as_control_message(p: Pair, see: See) -> None:
    TCP_INQ = 36
    p.b.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 1)
    see("waiting", wait_in(p, p.a, 100))
    content, control, _, _ = p.b.recvmsg(30, 100)
    see("recvmsg", (short(content), control))


@scenario
def timestamps_of_reception(p: Pair, see: See) -> None:
    p.b.setsockopt(socket.SOL_SOCKET, 29, 1)  # SO_TIMESTAMP
    see("waiting", wait_in(p, p.a, 100))
    _, control, _, _ = p.b.recvmsg(30, 100)
    see("recvmsg", [(level, kind, len(value)) for level, kind, value in control])


# --- ways to send


@scenario
def zerocopy_notices(p: Pair, see: See) -> None:
    p.a.setsockopt(socket.SOL_SOCKET, 60, 1)  # SO_ZEROCOPY
    see("send", send(p.a, data(20000), 0x4000000))
    see("unsent", unsent(p.a))
    see("read", recv(p.b, 20000))
    see("unsent", unsent(p.a))
    poll = select.poll()
    poll.register(p.a, 0)
    see("poll", [bits for _, bits in poll.poll(1000)])
    try:
        _, control, _, _ = p.a.recvmsg(0, 200, socket.MSG_ERRQUEUE)
        see("notice", [struct.unpack("IBBBBII", value[:16])[0::4] for _, _, value in control])
    except OSError as error:
        see("notice", name(error))


@scenario
def timestamps_of_acknowledgement(p: Pair, see: See) -> None:
    p.a.setsockopt(socket.SOL_SOCKET, 37, 0x10 | 1 << 9 | 1 << 7 | 1 << 11)  # software, TX_ACK, OPT_ID, OPT_TSONLY
    see("send", send(p.a, data(100)))
    see("unsent", unsent(p.a))
    poll = select.poll()
    poll.register(p.a, 0)
    see("poll", [bits for _, bits in poll.poll(500)])


@scenario
def splice_and_sendfile_to_the_socket(p: Pair, see: See) -> None:
    inner, outer = os.pipe()
    os.write(outer, data(5000))
    see("splice", os.splice(inner, p.a.fileno(), 5000))
    see("unsent", unsent(p.a))
    see("read", recv(p.b, 6000))
    file = os.memfd_create("x")
    os.write(file, data(90000))
    see("sendfile", os.sendfile(p.a.fileno(), file, 10, 30000))
    see("unsent", unsent(p.a))
    see("read", receive(p.b, 30000) == data(30000, 10))
    for fd in (inner, outer, file):
        os.close(fd)


@scenario
def splice_from_the_socket_before_bytes(p: Pair, see: See) -> None:
    inner, outer = os.pipe()
    try:
        os.splice(p.b.fileno(), outer, 100, flags=os.SPLICE_F_NONBLOCK)
    except OSError as error:
        see("nothing there", name(error))
    see("send", send(p.a, data(3000)))
    see("unsent", unsent(p.a))
    see("splice", os.splice(p.b.fileno(), outer, 5000, flags=os.SPLICE_F_NONBLOCK))
    see("read", short(os.read(inner, 5000)))
    os.close(inner)
    os.close(outer)


# --- urgent bytes


@scenario
def urgent_byte_with_nothing_waiting(p: Pair, see: See) -> None:
    see("send", send(p.a, b"U", socket.MSG_OOB))
    see("state", state(p.b, "ESTABLISHED"))
    see("arrived", _urgent(p.b))
    see("mark", at_mark(p.b))
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("again", recv(p.b, 1, socket.MSG_OOB))
    see("send", send(p.a, b"hello"))
    see("unsent", unsent(p.a))
    see("read", recv(p.b, 10))


def _urgent(sock: socket.socket) -> str:
    poll = select.poll()
    poll.register(sock, select.POLLPRI)
    poll.poll(2000)
    return events(sock)


def _urgent_amid_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 8))
    see("urgent", send(p.a, b"U", socket.MSG_OOB))
    see("more", send(p.a, data(8, 8)))
    see("poll", _urgent(p.b))


@scenario
def urgent_byte_behind_waiting_bytes_read_first(p: Pair, see: See) -> None:
    _urgent_amid_bytes(p, see)
    see("mark", at_mark(p.b))
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("mark", at_mark(p.b))
    see("read", recv(p.b, 100))
    see("mark", at_mark(p.b))
    see("read", recv(p.b, 100))
    see("mark", at_mark(p.b))


@scenario
def urgent_byte_behind_waiting_bytes_read_last(p: Pair, see: See) -> None:
    _urgent_amid_bytes(p, see)
    see("read", recv(p.b, 100))
    see("mark", at_mark(p.b))
    see("poll", events(p.b))
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("read", recv(p.b, 100))
    see("read", recv(p.b, 100))


@scenario
def urgent_byte_in_line(p: Pair, see: See) -> None:
    p.b.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    _urgent_amid_bytes(p, see)
    see("mark", at_mark(p.b))
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("read", recv(p.b, 100))
    see("mark", at_mark(p.b))
    see("read", recv(p.b, 100))


@scenario
def urgent_byte_asked_for_where_there_is_none(p: Pair, see: See) -> None:
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("waiting", wait_in(p, p.a, 8))
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("mark", at_mark(p.b))
    see("read", recv(p.b, 100))


@scenario
def urgent_byte_by_sendmmsg(p: Pair, see: See) -> None:
    class Iovec(ctypes.Structure):
        _fields_ = (("base", ctypes.c_char_p), ("len", ctypes.c_size_t))

    class Header(ctypes.Structure):
        _fields_ = (
            ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint), ("iov", ctypes.POINTER(Iovec)),
            ("iovlen", ctypes.c_size_t), ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
            ("flags", ctypes.c_int), ("sent", ctypes.c_uint),
        )  # fmt: skip

    iov = Iovec(b"abU", 3)
    header = Header(None, 0, ctypes.pointer(iov), 1, None, 0, 0, 0)
    see("sendmmsg", ctypes.CDLL(None).sendmmsg(p.a.fileno(), ctypes.byref(header), 1, socket.MSG_OOB))
    see("poll", _urgent(p.b))
    see("read", recv(p.b, 100))
    see("urgent", recv(p.b, 1, socket.MSG_OOB))


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])
@pytest.mark.parametrize("which", SCENARIOS)
def test_the_same_with_and_without_the_short_cut(host: Host, which: str, family: int) -> None:
    short_cut, plain = (told(host, which, family, accelerated) for accelerated in (True, False))
    assert "\n".join(short_cut) == "\n".join(plain)
