"""Records of sockets: what is left of those that are gone ends, and what lives long gets a record now and then."""

import dataclasses
import struct
import time
from collections.abc import Callable, Container, Iterator, Mapping, Set
from typing import NamedTuple

from control import names
from control.agent import enforce, spares
from loader import abi, sockdiag
from loader.maps import Maps

Counts = Mapping[sockdiag.SocketName, tuple[int, int]]
_AT = {name: at for name, _, at in abi.End.FIELDS}
_END = f"Q{_AT['endpoint'] - 8}xI{_AT['closed'] - _AT['endpoint'] - 4}xB{abi.End.SIZE - _AT['closed'] - 1}x"
_ENDS = struct.Struct(f"={_END}{_END}").unpack_from


class Side(NamedTuple):
    """What a look through all records takes of an end."""

    cookie: int
    endpoint: int
    closed: int


def those_with(opened: Maps, wanted: Callable[[Side, Side], bool]) -> list[tuple[abi.ConnKey, abi.Conn]]:
    """Return the connections that `wanted` wants by their ends: of very many it is mostly few, and to read each record
    as a whole takes ten times as long."""
    found = []
    for key, raw in opened.conns.raw_items():
        ends = _ENDS(raw)
        if wanted(Side(*ends[:3]), Side(*ends[3:])):
            found.append((abi.ConnKey.unpack(key), abi.Conn.unpack(raw)))
    return found


def socket_name(key: abi.ConnKey, side: int, cookie: int = 0) -> sockdiag.SocketName:
    """Return the name of an end's socket."""
    ends = ((key.addr0, key.port0), (key.addr1, key.port1))
    return (*ends[side], *ends[1 - side], cookie)


def over_tcp(key: abi.ConnKey, conn: abi.Conn, counts: Counts) -> tuple[int, int]:
    """Return the bytes that side 0 and side 1 received over TCP so far, as far as `counts` or the record know."""
    received = [end.tcp_received for end in conn.end]
    for side in (0, 1):
        if conn.end[side].closed:
            continue
        here = counts.get(socket_name(key, side))
        if here:
            received[side] = here[1]
            if not conn.end[1 - side].cookie:
                received[1 - side] = here[0]
    return received[0], received[1]


def conn_event(
    kind: abi.EventType, key: abi.ConnKey, conn: abi.Conn, now: int, counts: Counts | None = None
) -> abi.FlowEvent:
    """Return a record of a TCP connection as it stands."""
    side, saddr, sport, daddr, dport = enforce.initiator(key, conn)
    source, target = conn.end[side], conn.end[1 - side]
    received = over_tcp(key, conn, counts or {})
    return abi.FlowEvent.blank(
        time=now, type=int(kind), hook=int(abi.Hook.AGENT), proto=int(abi.Proto.TCP),
        cookie=source.cookie or target.cookie,
        saddr=saddr, daddr=daddr, sport=sport, dport=dport,
        src_endpoint=source.endpoint, dst_endpoint=target.endpoint,
        src_identity=source.identity, dst_identity=target.identity,
        egress_rule=source.rule, ingress_rule=target.rule,
        verdict=int(abi.Verdict.DENY if conn.denied else abi.Verdict.ALLOW),
        accel=int(any(end.redirect_msgs for end in conn.end)),
        accel_reason=(source.reason, target.reason),
        tx_bytes=source.redirect_bytes + received[1 - side], rx_bytes=target.redirect_bytes + received[side],
        tx_redirected=source.redirect_bytes, rx_redirected=target.redirect_bytes,
        duration=now - conn.opened, flags=conn.flags,
    )  # fmt: skip


class LongLived:
    """Yields a PERIODIC record for each connection that has lived another interval."""

    def __init__(self, interval_s: float) -> None:
        self._interval = int(interval_s * 1_000_000_000)
        self._due: dict[abi.ConnKey, int] = {}

    def records(self, opened: Maps, known: names.Names, now: int) -> Iterator[abi.FlowEvent]:
        due: dict[abi.ConnKey, int] = {}
        ripe: list[tuple[abi.ConnKey, abi.Conn]] = []
        for key, conn in opened.conns.items():
            when = self._due.get(key, conn.opened + self._interval)
            if now >= when:
                ripe.append((key, conn))
                when = now + self._interval
            due[key] = when
        self._due = due
        counts: dict[sockdiag.SocketName, tuple[int, int]] = {}
        owners = _Owners(opened)
        for id in sorted({owner for key, conn in ripe for owner in owners.of(key, conn) if owner}):
            name = known.endpoint(id)
            if name and name.netns:
                counts.update(sockdiag.byte_counts(name.netns))
        for key, conn in ripe:
            yield conn_event(abi.EventType.PERIODIC, key, conn, now, counts)


def close_ends(opened: Maps, endpoints: Set[int], cut: Set[int] = frozenset()) -> None:
    """Mark every open end of these endpoints closed: their pods are gone, whoever has their ids now. Those of `cut` are
    gone with their interfaces.

    The record ends with the other end's close, or with the next look of `abandoned`.
    """
    owners = _Owners(opened)

    def is_theirs(end: Side) -> bool:  # or may be
        return bool(end.cookie and not end.closed and (end.endpoint in endpoints or not owners.has(end.endpoint)))

    with spares.Replacing(opened) as replacing:
        for key, seen in those_with(opened, lambda left, right: is_theirs(left) or is_theirs(right)):
            whose = [{end.endpoint, owner} for end, owner in zip(seen.end, owners.of(key, seen), strict=True)]
            ends = zip(seen.end, whose, strict=True)
            if not any(ids & endpoints and not end.closed for end, ids in ends if end.cookie):
                continue

            def closed(conn: abi.Conn, whose: list[set[int]] = whose) -> tuple[abi.End, abi.End]:
                left, right = (
                    dataclasses.replace(end, closed=int(abi.Closed.CUT if ids & cut else abi.Closed.POD))
                    if end.cookie and ids & endpoints and not end.closed
                    else end
                    for end, ids in zip(conn.end, whose, strict=True)
                )
                return left, right

            replacing.change(key, seen, closed)


def abandoned(opened: Maps, living: Container[abi.ConnKey] = ()) -> Iterator[abi.FlowEvent]:
    """Delete the records of connections whose close nobody reported; yield a CLOSE for each.

    That is: both ends closed in the same instant, or their pods went, or were withdrawn, while they were open. Those of
    `living` may go on yet.
    """
    now = time.monotonic_ns()
    owners = _Owners(opened)

    def is_open(end: Side) -> bool:
        return bool(end.cookie and not end.closed and owners.has(end.endpoint))

    over = []
    for key, conn in those_with(opened, lambda left, right: not (is_open(left) or is_open(right))):
        ends = zip(conn.end, owners.of(key, conn), strict=True)
        if key not in living and not any(owner and not end.closed for end, owner in ends):
            over.append((key, conn))
    with spares.Replacing(opened) as replacing:
        for key, conn in over:
            if not all(end.closed == abi.Closed.SOCKET for end in conn.end if end.cookie):
                replacing.change(key, conn, _withdrawn)
    for key, conn in over:
        if opened.conns.delete(key):
            yield conn_event(abi.EventType.CLOSE, key, conn, now)


def _withdrawn(conn: abi.Conn) -> tuple[abi.End, abi.End]:
    """Return the ends of a record that is about to be deleted, so that no program is at work on it: its element may be
    the next connection's, and a socket of a pod that was withdrawn may live and send."""
    left, right = (dataclasses.replace(end, enrolled=0) for end in conn.end)
    return left, right


class _Owners:
    """Tells whose the ends of connections are now: the endpoint on record, or else the one that has the address."""

    def __init__(self, opened: Maps) -> None:
        self._maps = opened
        self._here = {key.id for key, _ in opened.endpoints.items()}

    def has(self, endpoint: int) -> bool:
        """Tell whether the endpoint on record is the owner."""
        return endpoint in self._here

    def of(self, key: abi.ConnKey, conn: abi.Conn) -> tuple[int, int]:
        return self._owner(key.addr0, conn.end[0]), self._owner(key.addr1, conn.end[1])

    def _owner(self, addr: bytes, end: abi.End) -> int:
        if not end.cookie:
            return 0
        return end.endpoint if end.endpoint in self._here else enforce.owner(self._maps, addr, 0)
