"""Which interfaces have a queue that shapes what passes: the bandwidth plugin's, say. Such a queue is there for bytes
to wait in, so nothing may go past it. A filter may shape, too: by a bound of its own (police), or by leading packets to
an interface whose queue does (mirred, to an ifb).

Anybody on the host may set one, at any time; no event of ours tells of that. So `roots` is cheap enough to be asked
each second: one netlink request for all, and no library between. `filtered` is asked where interfaces are looked at
anew: it takes two for each.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from loader.filters import PARENT
from loader.netlink import attributes, messages

_RTM_GETQDISC, _RTM_GETTFILTER, _NLM_F_REQUEST, _NLM_F_DUMP = 38, 46, 1, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_TC_H_ROOT, _TCA_KIND, _TCA_OPTIONS = 0xFFFFFFFF, 1, 2
_POLICE, _MIRRED = (struct.pack("=HH", 11, _TCA_KIND) + kind + b"\0" for kind in (b"police", b"mirred"))
_TCA_U32_POLICE = 6  # as `tc filter ... u32 ... police` has it
_TCA_MIRRED_PARMS, _EACTION = 2, 20  # struct tc_mirred (include/uapi/linux/tc_act/tc_mirred.h)
_REDIRECTS = (1, 3)  # out of another interface, or into it; the others copy
_HEADERS = 16 + 20  # nlmsghdr and tcmsg (include/uapi/linux/rtnetlink.h)
_NONE = "noqueue"


class Root(NamedTuple):
    """The queueing discipline at an interface's root. What the kernel gives an interface by itself has no handle."""

    kind: str
    handle: int

    @property
    def is_none(self) -> bool:
        """Whether there is no queue at all. What such a veth would do to a packet on its way into a pod, nobody misses
        when the packet passes it by."""
        return self.kind == _NONE

    @property
    def shapes(self) -> bool:
        """Whether somebody put a queue there."""
        return not self.is_none and self.handle != 0


def roots() -> dict[int, Root]:
    """Return the roots of all interfaces of the calling thread's namespace that are up, by index; raises OSError."""
    found: dict[int, Root] = {}
    with _channel() as sock:
        for message in _dump(sock, _RTM_GETQDISC):
            ifindex, handle, parent = struct.unpack_from("=iII", message, 20)
            if parent == _TC_H_ROOT:
                found[ifindex] = Root(_kind(message), handle)
    return found


def filtered(ifindexes: Iterable[int]) -> frozenset[int]:
    """Return which of these interfaces have a filter that shapes; raises OSError."""
    with _channel() as sock:
        return frozenset(
            ifindex
            for ifindex in ifindexes
            if any([is_shaper(each) for parent in PARENT.values() for each in _filters(sock, ifindex, parent)])
        )


def _filters(sock: socket.socket, ifindex: int, parent: int) -> Iterator[bytes]:
    try:
        yield from _dump(sock, _RTM_GETTFILTER, ifindex, parent)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENODEV, errno.ENOENT):  # it has none, or is gone
            raise


def is_shaper(message: bytes) -> bool:
    """Tell whether a filter shapes, from the message in which the kernel lists it.

    Each kind of filter keeps its actions at a place of its own, so they are looked for by their names.
    """
    if _POLICE in message:
        return True
    at = message.find(_MIRRED)
    while at >= 0:
        options = dict(attributes(message[at:])).get(_TCA_OPTIONS, b"")
        how = dict(attributes(options)).get(_TCA_MIRRED_PARMS, b"")
        if len(how) >= _EACTION + 4 and struct.unpack_from("=i", how, _EACTION)[0] in _REDIRECTS:
            return True
        at = message.find(_MIRRED, at + 1)
    if _kind(message) != "u32":
        return False
    return _TCA_U32_POLICE in dict(attributes(dict(attributes(message[_HEADERS:])).get(_TCA_OPTIONS, b"")))


def _kind(message: bytes) -> str:
    return dict(attributes(message[_HEADERS:])).get(_TCA_KIND, b"").rstrip(b"\0").decode()


def _channel() -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    sock.settimeout(2)
    return sock


def _dump(sock: socket.socket, kind: int, ifindex: int = 0, parent: int = 0) -> Iterator[bytes]:
    """Yield all that there is of one kind, each with its headers. To be read to its end."""
    request = struct.pack("=BxHiIII", socket.AF_UNSPEC, 0, ifindex, 0, parent, 0)
    sock.send(struct.pack("=IHHII", 16 + len(request), kind, _NLM_F_REQUEST | _NLM_F_DUMP, 1, 0) + request)
    while True:
        for answer, message in messages(sock.recv(1 << 18)):
            if answer == _NLMSG_DONE:
                return
            if answer == _NLMSG_ERROR:
                number = -struct.unpack_from("=i", message, 16)[0]
                raise OSError(number, f"the queues cannot be listed: {os.strerror(number)}")
            if len(message) >= _HEADERS:
                yield message
