"""Resets TCP connections: SOCK_DESTROY over NETLINK_SOCK_DIAG (kernel 4.9, CONFIG_INET_DIAG_DESTROY), as `ss -K`.

The socket is named by its tuple and cookie, so that a later connection on the same tuple is never hit.
"""

import contextlib
import errno
import socket
import struct
from collections.abc import Sequence

from loader import netns
from loader.record import unpack_addr

_NETLINK_SOCK_DIAG = 4
_SOCK_DESTROY = 21
_NLM_F_REQUEST, _NLM_F_ACK = 1, 4
_NLMSG_ERROR = 2
_ANY_COOKIE = 0xFFFFFFFFFFFFFFFF

# (local address as 16 bytes, local port, remote address as 16 bytes, remote port, cookie or 0)
SocketName = tuple[bytes, int, bytes, int, int]


def _request(name: SocketName) -> bytes:
    local, local_port, remote, remote_port, cookie = name
    is_v4 = "." in unpack_addr(local)
    family = socket.AF_INET if is_v4 else socket.AF_INET6
    source, target = (local[12:] + bytes(12), remote[12:] + bytes(12)) if is_v4 else (local, remote)
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    body += struct.pack("!HH", local_port, remote_port) + source + target
    body += struct.pack("=IQ", 0, cookie or _ANY_COOKIE)
    return struct.pack("=IHHII", 16 + len(body), _SOCK_DESTROY, _NLM_F_REQUEST | _NLM_F_ACK, 1, 0) + body


def channel() -> socket.socket:
    """Return a socket for `request`; it acts on the calling thread's network namespace."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
    sock.settimeout(2)
    return sock


def request(sock: socket.socket, name: SocketName) -> int:
    """Ask to reset one connection; return 0 or the kernel's errno."""
    sock.send(_request(name))
    reply = sock.recv(65536)
    kind = struct.unpack_from("=H", reply, 4)[0]
    return -int(struct.unpack_from("=i", reply, 16)[0]) if kind == _NLMSG_ERROR else 0


def destroy(pod_netns: str, names: Sequence[SocketName]) -> int:
    """Reset connections of one pod; return how many were still there. Raises OSError if the kernel cannot do it."""

    def run() -> int:
        done = 0
        with channel() as sock:
            for name in names:
                status = request(sock, name)
                if status == 0:
                    done += 1
                elif status not in (errno.ENOENT, errno.ESTALE):
                    raise OSError(status, f"SOCK_DESTROY: {errno.errorcode.get(status, status)}")
        return done

    with contextlib.suppress(FileNotFoundError):  # the pod is gone, and its connections with it
        return netns.inside(pod_netns, run)
    return 0
