"""Urgent bytes before, amid and behind others."""

import ctypes
import select
import socket

from tests.kernel.look import at_mark, data, events, recv, send, state, unsent
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
