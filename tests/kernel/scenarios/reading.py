"""Ways to read bytes that wait."""

import contextlib
import ctypes
import socket
import struct
from collections.abc import Iterator

from tests.hosts.wait import wait_until
from tests.kernel.look import LONG, data, ending, events, name, recv, resent, send, short, state, unsent
from tests.kernel.pairs import Pair, receive
from tests.kernel.scenarios import See, cold, option, prepared, reset, scenario, wait_in


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


small_buffer = option(socket.SOL_SOCKET, socket.SO_RCVBUF, 40000)


def fill(p: Pair) -> None:
    """Send more than the short cut takes, in few messages: before 6.14 their number has a bound of its own."""
    for start in range(0, 50000, 2000):
        assert p.a.send(data(2000, start)) == 2000


@prepared(small_buffer)
def peek_at_bytes_that_came_both_ways(p: Pair, see: See) -> None:
    """With its queue half full, a reader gets the rest over TCP; it must be able to peek at all of it."""
    fill(p)
    see("unsent", unsent(p.a))
    see("peek", recv(p.b, 60000, socket.MSG_PEEK))
    see("read", receive(p.b, 50000) == data(50000))


@prepared(small_buffer)
def read_bytes_that_came_both_ways(p: Pair, see: See) -> None:
    fill(p)
    see("unsent", unsent(p.a))
    see("read", receive(p.b, 50000) == data(50000))
    see("poll", events(p.b))
    see("nothing more", recv(p.b, 10))


@prepared(small_buffer)
def reset_with_bytes_that_came_both_ways(p: Pair, see: See) -> None:
    fill(p)
    see("unsent", unsent(p.a))
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("rest", ending(p.b))


@prepared(small_buffer)
def close_with_bytes_that_came_both_ways(p: Pair, see: See) -> None:
    fill(p)
    p.a.close()
    see("state", state(p.b, "CLOSE_WAIT"))
    see("rest", ending(p.b))


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


@cold
def peek_offset_asked_for_before(p: Pair, see: See) -> None:
    with contextlib.suppress(OSError):  # TCP knows it from 6.9 on
        p.b.setsockopt(socket.SOL_SOCKET, 42, 0)
    p.warm_up()
    peek_offset_with_waiting_bytes(p, see)


@scenario
def discard(p: Pair, see: See) -> None:
    """MSG_TRUNC: TCP throws the bytes away and says how many; no buffer is needed."""
    see("waiting", wait_in(p, p.a, 100))
    libc = ctypes.CDLL(None, use_errno=True)
    see("discarded", libc.recv(p.b.fileno(), None, 40, socket.MSG_TRUNC))
    see("state", state(p.b, "CLOSE"))
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


TCP_INQ = 36


@scenario
def bytes_left_as_control_message_asked_for_late(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 100))
    p.b.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 1)
    content, control, _, _ = p.b.recvmsg(30, 100)
    see("recvmsg", (short(content), control))


@scenario
def bytes_left_as_control_message(p: Pair, see: See) -> None:
    """Who sets the option goes off the short cut with the next packet."""
    p.b.setsockopt(socket.IPPROTO_TCP, TCP_INQ, 1)
    see("send", send(p.a, data(100)))
    see("unsent", unsent(p.a))
    content, control, _, _ = p.b.recvmsg(30, 100)
    see("recvmsg", (short(content), control))


prepared(option(socket.IPPROTO_TCP, TCP_INQ), "bytes_left_as_control_message_asked_for_before", barred=True)(
    bytes_left_as_control_message
)


SO_TIMESTAMP = 29


def _stamps(sock: socket.socket) -> list[tuple[int, int, int]]:
    _, control, _, _ = sock.recvmsg(30, 100)
    return [(level, kind, len(value)) for level, kind, value in control]


@contextlib.contextmanager
def _stamping() -> Iterator[None]:
    """The kernel stamps packets while any socket asks for it, and from a moment after the first has asked."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as asking:
        asking.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
        with server.accept()[0] as sender:

            def stamped() -> bool:
                sender.send(b"x")
                return bool(_stamps(asking))

            wait_until(stamped, "the kernel stamps packets", LONG)
            yield


@scenario
def timestamps_of_reception_asked_for_late(p: Pair, see: See) -> None:
    with _stamping():
        see("waiting", wait_in(p, p.a, 100))
        p.b.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
        see("stamps", _stamps(p.b))


@scenario
def timestamps_of_reception(p: Pair, see: See) -> None:
    """Who sets the option goes off the short cut with the next packet."""
    with _stamping():
        p.b.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMP, 1)
        see("send", send(p.a, data(100)))
        see("unsent", unsent(p.a))
        see("stamps", _stamps(p.b))


prepared(option(socket.SOL_SOCKET, SO_TIMESTAMP), "timestamps_of_reception_asked_for_before", barred=True)(
    timestamps_of_reception
)


SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
ALL, NOTHING = 0xFFFFFFFF, 0


def attach_filter(sock: socket.socket, passes: int = ALL) -> None:
    """Have a filter look at each packet of a socket; this one lets the same number of bytes pass of each."""
    code = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, passes))  # sock_filter: return that number
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(code)))


@scenario
def filter_on_the_socket(p: Pair, see: See) -> None:
    """Who sets one goes off the short cut with the next packet: TCP sends again what it has not let pass."""
    attach_filter(p.b, NOTHING)
    see("send", send(p.a, data(100)))
    see("again", resent(p.a))
    see("read", recv(p.b, 100))
    p.b.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    see("read", receive(p.b, 100) == data(100))


prepared(attach_filter, "filter_on_the_socket_from_the_start", barred=True)(filter_on_the_socket)
