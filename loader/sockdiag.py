"""Looks at and resets a pod's TCP sockets over NETLINK_SOCK_DIAG, as `ss -ti` and `ss -K` do.

Resetting needs kernel 4.9 and CONFIG_INET_DIAG_DESTROY. A socket is named by its tuple and, where known, its cookie, so
that a later connection on the same tuple is never hit. Layouts: include/uapi/linux/inet_diag.h, tcp.h, mptcp.h.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from loader import multipath, netlink, netns
from loader.errors import FeatureUnsupported
from loader.record import unpack_addr

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_NLM_F_REQUEST, _NLM_F_ACK, _NLM_F_DUMP = 1, 4, 0x300
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_INET_DIAG_INFO, _INET_DIAG_REQ_PROTOCOL = 2, 3
_WITH_INFO = 1 << (_INET_DIAG_INFO - 1)  # and with what belongs to it
_INET_DIAG_ULP_INFO, _INET_ULP_INFO_MPTCP, _SUBFLOW_TOKEN_LOC = 19, 3, 2
_TOKEN = 12  # in struct mptcp_info
_MSG_SIZE = 72  # struct inet_diag_msg
_BYTES_RECEIVED, _BYTES_SENT, _BYTES_RETRANS = 128, 200, 208  # in struct tcp_info, kernel 4.19
_CONNECTED = (
    1 << 1 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11
)  # ESTABLISHED, FIN_WAIT*, CLOSE_WAIT, LAST_ACK, CLOSING
_FIN_RECEIVED = (8, 9, 11)  # CLOSE_WAIT, LAST_ACK, CLOSING
NO_FIN_RECEIVED = (1, 4, 5)  # ESTABLISHED, FIN_WAIT1, FIN_WAIT2
_ANY_COOKIE = 0xFFFFFFFFFFFFFFFF
_TIME_WAIT, _LISTEN = 6, 10
_COOKIE = 44  # in struct inet_diag_msg

# (local address as 16 bytes, local port, remote address as 16 bytes, remote port, cookie or 0)
SocketName = tuple[bytes, int, bytes, int, int]


def _request(name: SocketName, kind: int, flags: int) -> bytes:
    local, local_port, remote, remote_port, cookie = name
    is_v4 = "." in unpack_addr(local)
    family = socket.AF_INET if is_v4 else socket.AF_INET6
    source, target = (local[12:] + bytes(12), remote[12:] + bytes(12)) if is_v4 else (local, remote)
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    body += struct.pack("!HH", local_port, remote_port) + source + target
    body += struct.pack("=IQ", 0, cookie or _ANY_COOKIE)
    return struct.pack("=IHHII", 16 + len(body), kind, _NLM_F_REQUEST | flags, 1, 0) + body


def channel() -> socket.socket:
    """Return a socket for `request`; it acts on the calling thread's network namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    sock.settimeout(2)
    return sock


def request(sock: socket.socket, name: SocketName) -> int:
    """Ask to reset one connection; return 0 or the kernel's errno."""
    if name[4] and (status := _ask(sock, name)) != errno.EOPNOTSUPP:
        return status
    # By its tuple alone a connection that is gone would be taken for the listener that it came from.
    sock.send(_request(name, _SOCK_DIAG_BY_FAMILY, 0))
    found = sock.recv(65536)
    if struct.unpack_from("=H", found, 4)[0] != _NLMSG_ERROR:
        if found[16 + 1] in (_LISTEN, _TIME_WAIT):  # the latter is over, and some kernels refuse to reset it
            return errno.ENOENT
        name = (*name[:4], struct.unpack_from("=Q", found, 16 + _COOKIE)[0])
    return _ask(sock, name)


def _ask(sock: socket.socket, name: SocketName) -> int:
    sock.send(_request(name, _SOCK_DESTROY, _NLM_F_ACK))
    reply = sock.recv(65536)
    kind = struct.unpack_from("=H", reply, 4)[0]
    return -int(struct.unpack_from("=i", reply, 16)[0]) if kind == _NLMSG_ERROR else 0


class Destroyed(NamedTuple):
    """Sockets that were reset, and why others were not. What was not there any more is in neither."""

    done: list[SocketName]
    failed: dict[SocketName, OSError]


def destroy(pod_netns: str, names: Sequence[SocketName]) -> Destroyed:
    """Reset sockets of one pod. Raises OSError if its namespace cannot be entered, FeatureUnsupported if the kernel
    cannot do it."""

    def run() -> Destroyed:
        out = Destroyed([], {})
        with contextlib.ExitStack() as stack:
            stack.enter_context(multipath.hurried(lambda: _tokens_under(names), _open_multipath))
            sock = stack.enter_context(channel())
            for name in names:
                try:
                    status = request(sock, name)
                except OSError as error:  # its answer may yet come, and would be taken for the next one's
                    out.failed[name] = error
                    sock = stack.enter_context(channel())
                    continue
                if status == 0:
                    out.done.append(name)
                elif status == errno.EOPNOTSUPP:
                    raise FeatureUnsupported(
                        "SOCK_DESTROY: this kernel cannot reset connections: boot one with CONFIG_INET_DIAG_DESTROY; "
                        "without it a connection that policy turns against stalls"
                    )
                elif status not in (errno.ENOENT, errno.ESTALE):
                    out.failed[name] = OSError(status, f"SOCK_DESTROY: {os.strerror(status)}")
        return out

    with contextlib.suppress(FileNotFoundError):  # the pod is gone, and its connections with it
        return netns.inside(pod_netns, run)
    return Destroyed([], {})


def byte_counts(pod_netns: str) -> dict[SocketName, tuple[int, int]]:
    """Return the payload bytes (sent, received) of every open TCP connection of one pod, by its name with cookie 0.

    TCP's own figures: they know nothing of the short cut.
    """

    def run() -> dict[SocketName, tuple[int, int]]:
        found: dict[SocketName, tuple[int, int]] = {}
        with channel() as sock:
            for message in _dump(sock, socket.IPPROTO_TCP, _WITH_INFO):
                info = _attribute(message[_MSG_SIZE:], _INET_DIAG_INFO)
                if len(info) >= _BYTES_RETRANS + 8:
                    sent, again = struct.unpack_from("=QQ", info, _BYTES_SENT)
                    received = struct.unpack_from("=Q", info, _BYTES_RECEIVED)[0]
                    # TCP counts a FIN that came in as a byte.
                    found[_name(message)] = (sent - again, received - (message[1] in _FIN_RECEIVED))
        return found

    with contextlib.suppress(OSError):  # the pod is gone
        return netns.inside(pod_netns, run)
    return {}


def states(pod_netns: str) -> dict[SocketName, int]:
    """Return the state of each of one pod's connected TCP sockets. Raises OSError where nobody can tell."""

    def run() -> dict[SocketName, int]:
        with channel() as sock:
            found = list(_dump(sock, socket.IPPROTO_TCP, is_whole=True))
        return {(*_name(each)[:4], struct.unpack_from("=Q", each, _COOKIE)[0]): each[1] for each in found}

    try:
        return netns.inside(pod_netns, run)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESRCH, errno.EINVAL):  # else the pod is gone
            raise
    return {}


def _open_multipath() -> set[int]:
    """Return the tokens of the open MPTCP sockets of the calling thread's namespace."""
    with channel() as sock:
        told = [_attribute(each[_MSG_SIZE:], _INET_DIAG_INFO) for each in _dump(sock, multipath.PROTOCOL, _WITH_INFO)]
    return {struct.unpack_from("=I", info, _TOKEN)[0] for info in told if len(info) >= _TOKEN + 4}


def _tokens_under(names: Sequence[SocketName]) -> set[int]:
    """Return the tokens of the MPTCP sockets that stand on these TCP sockets of the calling thread's namespace: not all
    on their first, which is all that the kernel calls them by."""
    wanted, found = {name[:4] for name in names}, set()
    with channel() as sock:
        for message in _dump(sock, socket.IPPROTO_TCP, _WITH_INFO):
            subflow = _attribute(_attribute(message[_MSG_SIZE:], _INET_DIAG_ULP_INFO), _INET_ULP_INFO_MPTCP)
            token = _attribute(subflow, _SUBFLOW_TOKEN_LOC)
            if len(token) >= 4 and _name(message)[:4] in wanted:
                found.add(struct.unpack_from("=I", token)[0])
    return found


def _dump(sock: socket.socket, protocol: int, extensions: int = 0, is_whole: bool = False) -> Iterator[bytes]:
    """Yield the struct inet_diag_msg, and what follows it, of every connected socket. To be read to its end. With
    `is_whole` it raises OSError where the kernel does not tell of all."""
    for family in (socket.AF_INET, socket.AF_INET6):
        body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, extensions, 0, _CONNECTED) + bytes(48)
        body += struct.pack("=HHI", 8, _INET_DIAG_REQ_PROTOCOL, protocol)  # it may not fit the byte before
        flags = _NLM_F_REQUEST | _NLM_F_DUMP
        sock.send(struct.pack("=IHHII", 16 + len(body), _SOCK_DIAG_BY_FAMILY, flags, 1, 0) + body)
        is_done = False
        while not is_done:
            for kind, message in netlink.messages(sock.recv(1 << 18)):
                if is_done := kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    status = -struct.unpack_from("=i", message, netlink.HEADER)[0] if len(message) >= 20 else 0
                    if is_whole and status > 0 and status != errno.ENOENT:  # which says: no such family here
                        raise OSError(status, f"SOCK_DIAG: {os.strerror(status)}")
                    break
                yield message[netlink.HEADER :]


def _name(message: bytes) -> SocketName:
    """Return the name in a struct inet_diag_msg, as sock_ops sees it: IPv4 as ::ffff:a.b.c.d."""
    local_port, remote_port = struct.unpack_from("!HH", message, 4)
    local, remote = message[8:24], message[24:40]
    if message[0] == socket.AF_INET:
        local, remote = (bytes(10) + b"\xff\xff" + address[:4] for address in (local, remote))
    return local, local_port, remote, remote_port, 0


def _attribute(raw: bytes, wanted: int) -> bytes:
    return next((content for kind, content in netlink.attributes(raw) if kind == wanted), b"")
