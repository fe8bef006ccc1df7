"""The sockets for datagrams that were led to the proxy: one to take them all, and those that speak for others.

Who is at both ends the kernel says of a socket's ends, as of an accepted one: so the socket that answers in a server's
name is pointed at each client in turn before it is asked. A socket that is pointed somewhere gets what comes from
there, and a client's next query must come to the door: so it is at a port that no resolver asks from. (Port 0 is any.)
"""

import socket
import struct
from typing import NamedTuple

from l7proxy.edge import facts
from loader import abi

_IPV6_TRANSPARENT = 75
_IP_RECVORIGDSTADDR, _IPV6_RECVORIGDSTADDR = 20, 74
_SOCKADDR_IN, _SOCKADDR_IN6 = struct.Struct("!HH4s"), struct.Struct("!HHI16s")
_ROOM = 4 << 20  # bytes that wait at the door: a burst of some thousand queries
_NOBODYS = 1  # a port that a program must be privileged to have
_LONGEST, _ANCILLARY = 65535, 256


class Came(NamedTuple):
    """A datagram: from whom, and for whom it was."""

    data: bytes
    client: str
    client_port: int
    server: str
    server_port: int


def door() -> socket.socket:
    """Return a socket that takes datagrams for whatever address and port the kernel steers to it, on both families."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _ROOM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVORIGDSTADDR, 1)
    sock.setsockopt(socket.IPPROTO_IP, _IP_RECVORIGDSTADDR, 1)
    sock.bind(("::", 1))
    return sock


def take(sock: socket.socket) -> Came | None:
    """Return what came to a door; None for what says not for whom it was. Raises BlockingIOError if nothing waits."""
    data, said, _, (client, port, *_) = sock.recvmsg(_LONGEST, _ANCILLARY)
    for level, kind, raw in said:
        if (level, kind) == (socket.IPPROTO_IP, _IP_RECVORIGDSTADDR) and len(raw) >= _SOCKADDR_IN.size:
            _, server_port, address = _SOCKADDR_IN.unpack_from(raw)
            return Came(data, client.removeprefix("::ffff:"), port, socket.inet_ntoa(address), server_port)
        if (level, kind) == (socket.IPPROTO_IPV6, _IPV6_RECVORIGDSTADDR) and len(raw) >= _SOCKADDR_IN6.size:
            _, server_port, _, address = _SOCKADDR_IN6.unpack_from(raw)
            return Came(data, client, port, socket.inet_ntop(socket.AF_INET6, address), server_port)
    return None


def _speaker(address: str, port: int) -> socket.socket:
    """Return a socket that has somebody else's address."""
    shared = [(socket.SOL_SOCKET, socket.SO_REUSEPORT)] if port else []  # the other workers answer in its name, too
    return facts.of_others(socket.SOCK_DGRAM, address, port, *shared)


def caller(client: str, server: str, port: int) -> socket.socket:
    """Return a socket that asks a server in a client's name, from a port of its own, and hears nobody else."""
    sock = _speaker(client, 0)
    try:
        sock.connect((server, port))
    except BaseException:
        sock.close()
        raise
    return sock


class Voice:
    """A socket that answers in the name of a server's port."""

    __slots__ = ("_port", "_server", "_sock")

    def __init__(self, server: str, port: int) -> None:
        self._server, self._port = server, port
        self._sock = _speaker(server, port)

    def facts(self, client: str, client_port: int) -> facts.Facts:
        """Ask who is at both ends of what a client sent; raises OSError where nobody answers."""
        self._sock.connect((client, _NOBODYS))
        found = facts.asked(self._sock)
        asking = facts.sides(found, abi.Proto.UDP, self._port)
        return facts.Facts(client, client_port, self._server, self._port, found, asking)

    def say(self, data: bytes, client: str, client_port: int) -> None:
        """Answer; raises OSError."""
        self._sock.sendto(data, (client, client_port))

    def close(self) -> None:
        self._sock.close()
