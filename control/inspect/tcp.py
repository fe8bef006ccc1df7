"""Payload that open connections moved over TCP, asked of the kernel: no map counts it until a socket closes."""

from collections.abc import Iterable, Mapping

from control.names import Names
from loader import abi, sockdiag

# Payload bytes (sent, received) by a socket's name with cookie 0.
Counts = Mapping[sockdiag.SocketName, tuple[int, int]]
Conns = Iterable[tuple[abi.ConnKey, abi.Conn]]


def namespaces(conns: Conns, names: Names) -> tuple[str, ...]:
    """Return the network namespaces that hold a socket of these connections, each once."""
    ids = {end.endpoint for _, conn in conns for end in conn.end if end.endpoint and not end.closed}
    known = (names.endpoint(id) for id in sorted(ids))
    return tuple(dict.fromkeys(name.netns for name in known if name and name.netns))


def look(conns: Conns, names: Names) -> Counts:
    """Return the counts of the sockets of these connections, as far as the kernel shows them to the caller."""
    found: dict[sockdiag.SocketName, tuple[int, int]] = {}
    for netns in namespaces(conns, names):
        found.update(sockdiag.byte_counts(netns))
    return found


def received(key: abi.ConnKey, conn: abi.Conn, side: int, counts: Counts) -> int | None:
    """Return the payload that a side has received over TCP; None: nobody can tell.

    A side that is not of this node is taken to have what its peer sent.
    """
    here, there = (key.addr0, key.port0), (key.addr1, key.port1)
    if side:
        here, there = there, here
    end, other = conn.end[side], conn.end[1 - side]
    if end.cookie:
        if end.closed:
            return end.tcp_received
        own = counts.get((*here, *there, 0))
        return own[1] if own else None
    if other.closed:
        return other.tcp_sent
    peer = counts.get((*there, *here, 0))
    return peer[0] if peer else None
