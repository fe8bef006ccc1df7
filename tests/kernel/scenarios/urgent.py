"""Urgent bytes before, amid and behind others."""

import ctypes
import select
import socket

from tests.hosts.wait import PATIENCE
from tests.kernel.look import LONG, WAIT, at_mark, data, events, recv, send, state, unsent
from tests.kernel.pairs import Pair
from tests.kernel.scenarios import See, scenario, wait_in


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


def _urgent(sock: socket.socket, wait: float = WAIT) -> str:
    """Wait for an urgent byte; what poll says then."""
    poll = select.poll()
    poll.register(sock, select.POLLPRI)
    poll.poll(wait * 1000 * PATIENCE)
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
    see("state", state(p.b, "CLOSE"))
    see("mark", at_mark(p.b))
    see("read", recv(p.b, 100))
    see("mark", at_mark(p.b))
    see("read", recv(p.b, 100))
    see("mark", at_mark(p.b))


@scenario
def urgent_byte_behind_waiting_bytes_read_last(p: Pair, see: See) -> None:
    _urgent_amid_bytes(p, see)
    see("read", recv(p.b, 100))
    see("poll", _urgent(p.b, LONG))
    see("mark", at_mark(p.b))
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("read", recv(p.b, 100))
    see("read", recv(p.b, 100))


@scenario
def urgent_byte_in_line(p: Pair, see: See) -> None:
    p.b.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    _urgent_amid_bytes(p, see)
    see("mark", at_mark(p.b))
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("state", state(p.b, "CLOSE"))
    see("read", recv(p.b, 100))
    see("mark", at_mark(p.b))
    see("read", recv(p.b, 100))


@scenario
def urgent_byte_asked_for_where_there_is_none(p: Pair, see: See) -> None:
    """Who asks once keeps its socket off the short cut, so nothing can wait there the second time."""
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("send", send(p.a, data(8)))
    see("unsent", unsent(p.a))
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("mark", at_mark(p.b))
    see("read", recv(p.b, 100))


@scenario
def urgent_byte_asked_for_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 8))
    see("urgent", recv(p.b, 1, socket.MSG_OOB))
    see("state", state(p.b, "CLOSE"))
    see("read", recv(p.b, 100))
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
