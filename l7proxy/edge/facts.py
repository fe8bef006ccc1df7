"""Who is at both ends of a connection that was led to the proxy, and what they ask of it: by the kernel's word."""

import socket
from typing import NamedTuple

from l7proxy.policy.book import Side
from loader import abi

_WHO_ASKS, _WHO_WOULD = 0x5E50, 0x5E51  # bpf/proxy.c
_IP_TRANSPARENT, _IPV6_TRANSPARENT, _IP_BIND_ADDRESS_NO_PORT = 19, 75, 24
_DOOR = ("::", 1)


class Facts(NamedTuple):
    """One connection. `sides`: whoever wants its bytes looked into; None where an end refuses it."""

    client: str
    client_port: int
    server: str
    server_port: int
    kernel: abi.ProxyFacts
    sides: tuple[Side, ...] | None


def of(sock: socket.socket) -> Facts:
    """Ask for an accepted socket; raises OSError where nobody answers: the agent has taken its hook away."""
    found = asked(sock)
    server, server_port = sock.getsockname()[:2]
    client, client_port = sock.getpeername()[:2]
    return Facts(
        client.removeprefix("::ffff:"), client_port, server.removeprefix("::ffff:"), server_port, found,
        sides(found, abi.Proto.TCP, server_port),
    )  # fmt: skip


def between(client: str, client_port: int, server: str, server_port: int) -> Facts:
    """Ask for a connection that has not come here by packets, but through another node's proxy; raises OSError."""
    with of_others(socket.SOCK_DGRAM, client, 0) as sock:  # nothing is sent: it only says for whom is asked
        sock.connect((server, server_port))
        raw = sock.getsockopt(socket.IPPROTO_IP, _WHO_WOULD, abi.ProxyFacts.SIZE)
    found = abi.ProxyFacts.unpack(raw)
    return Facts(client, client_port, server, server_port, found, sides(found, abi.Proto.TCP, server_port))


def is_pod(identity: int) -> bool:
    """Tell whether an identity is a pod's: not the world's, nor that of a range of addresses."""
    return abi.FIRST_POD_IDENTITY <= identity < abi.FIRST_CIDR_IDENTITY


def needs_mesh(found: Facts) -> bool:
    """Tell whether the server is another node's pod that must not be called in plaintext."""
    return bool(found.kernel.flags & abi.ProxyFactsFlag.MESH)


def unknown(client: str, client_port: int, server: str, server_port: int) -> Facts:
    """Return what is known of ends that the kernel was not asked about: their addresses."""
    nothing = abi.ProxyFacts.unpack(bytes(abi.ProxyFacts.SIZE))
    return Facts(client, client_port, server, server_port, nothing, ())


def asked(sock: socket.socket) -> abi.ProxyFacts:
    """Return what the kernel says of a socket's ends; raises OSError."""
    return abi.ProxyFacts.unpack(sock.getsockopt(socket.IPPROTO_IP, _WHO_ASKS, abi.ProxyFacts.SIZE))


def sides(found: abi.ProxyFacts, proto: abi.Proto, port: int) -> tuple[Side, ...] | None:
    """Return whoever wants the bytes looked into; None where an end refuses."""
    ends = [(way, found.side[way]) for way in (abi.Direction.EGRESS, abi.Direction.INGRESS)]
    if any(end.endpoint and end.verdict == abi.Verdict.DENY for _, end in ends):
        return None
    return tuple(
        Side(end.set_id, int(way), end.peer, int(proto), port)
        for way, end in ends
        if end.endpoint and end.verdict == abi.Verdict.PROXY
    )


def listener(transparent: bool = True) -> socket.socket:
    """Return a socket that takes calls to whatever address the kernel steers to it, on both families."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    if transparent:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
    sock.bind(_DOOR)
    sock.listen(4096)
    return sock


def is_door(sock: socket.socket) -> bool:
    """Tell whether `listener` made it."""
    return bool(sock.getsockname()[:2] == _DOOR)


def caller(address: str) -> socket.socket:
    """Return a TCP socket that calls from somebody else's address, from a port that is chosen when it calls."""
    return of_others(socket.SOCK_STREAM, address, 0, (socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT))


def of_others(kind: socket.SocketKind, address: str, port: int, *options: tuple[int, int]) -> socket.socket:
    """Return a socket, not blocking, that has somebody else's address; `options` of it are switched on."""
    is_v6 = ":" in address
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, kind | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        if is_v6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
        for level, option in options:
            sock.setsockopt(level, option, 1)
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock
