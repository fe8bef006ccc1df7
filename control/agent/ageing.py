"""What ages: conntrack entries nobody sees any more, records of sockets that are gone, and long-lived connections,
which get a record now and then.
"""

import contextlib
import dataclasses
import struct
import time
from collections.abc import Container, Iterator, Mapping

from control import names
from control.agent import enforce
from loader import abi, bpf, sockdiag
from loader.maps import Maps

_ICMP = (int(abi.Proto.ICMP), int(abi.Proto.ICMPV6))


def limit_s(proto: int, flags: int, config: abi.Config) -> int:
    """Return after how many idle seconds a conntrack entry is dead; the twin of ct_expired in bpf/conntrack.h."""
    if proto == abi.Proto.TCP:
        return config.tcp_close_timeout_s if flags & abi.CtFlag.CLOSING else config.tcp_timeout_s
    return config.icmp_timeout_s if proto in _ICMP else config.udp_timeout_s


def expire(opened: Maps, config: abi.Config, now: int) -> Iterator[abi.FlowEvent]:
    """Delete dead conntrack entries; yield the CLOSE of each whose opening was recorded by the packet hook.

    The packet hook does the same with one that it meets again (`ended` in bpf/report.h).
    The kernel takes a dead entry for none, and its LRU makes room: those that nobody was told of stay until a quiet
    moment, so that a node with many short connections does not pay twice for each.
    """
    dead = {abi.CtKey.unpack(key): abi.CtEntry.unpack(raw) for key, raw in _dead(opened, config, now)}
    for key, value in dead.items():
        # What came back meanwhile lives; of what ended then, the packet hook has told. Whoever deletes an entry tells.
        if opened.ct.get(key) != value or not opened.ct.delete(key) or not value.flags & abi.CtFlag.REPORTED:
            continue
        egress = key.direction == abi.Direction.EGRESS
        endpoint = opened.endpoints.get(abi.EndpointKey(key.endpoint))
        own = endpoint.identity if endpoint else 0
        other_ref = opened.endpoint_ips.get(abi.AddrKey(key.daddr if egress else key.saddr))
        other = other_ref.id if other_ref else 0
        # The other end's entry, which was not reported: it knows the rule that let the call in there.
        mirror = dataclasses.replace(key, endpoint=other, direction=int(not key.direction))
        answer = (dead.get(mirror) or opened.ct.get(mirror)) if other else None
        other_rule = answer.rule_id if answer else 0
        icmp = key.proto in _ICMP
        yield abi.FlowEvent.blank(
            time=value.last_seen, type=int(abi.EventType.CLOSE), hook=int(abi.Hook.AGENT), proto=key.proto,
            saddr=key.saddr, daddr=key.daddr, sport=0 if icmp else key.sport, dport=0 if icmp else key.dport,
            icmp_type=key.dport & 0xFF if icmp else 0,
            src_endpoint=key.endpoint if egress else other, dst_endpoint=other if egress else key.endpoint,
            src_identity=own if egress else value.peer_identity, dst_identity=value.peer_identity if egress else own,
            egress_rule=value.rule_id if egress else other_rule,
            ingress_rule=other_rule if egress else value.rule_id,
            direction=key.direction, verdict=int(abi.Verdict.ALLOW), tx_bytes=value.tx_bytes, rx_bytes=value.rx_bytes,
            duration=value.last_seen - value.created,
        )  # fmt: skip


_LAST_SEEN = next(at for name, _, at in abi.CtEntry.FIELDS if name == "last_seen")
_FLAGS = next(at for name, _, at in abi.CtEntry.FIELDS if name == "flags")
_PROTO = next(at for name, _, at in abi.CtKey.FIELDS if name == "proto")
_QUIET = 2048  # so many unreported entries may be deleted in one round


def _dead(opened: Maps, config: abi.Config, now: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield raw dead entries: all that were reported, and some of the others."""
    limits = {
        (proto, flags): limit_s(proto, flags, config) * 1_000_000_000
        for proto in range(256)
        for flags in (0, int(abi.CtFlag.CLOSING))
    }
    read = struct.Struct("=Q").unpack_from
    closing, reported = int(abi.CtFlag.CLOSING), int(abi.CtFlag.REPORTED)
    quiet = _QUIET
    for key, raw in opened.ct.raw_items():
        flags = raw[_FLAGS]
        if now - read(raw, _LAST_SEEN)[0] <= limits[key[_PROTO], flags & closing]:
            continue
        if not flags & reported:
            if not quiet:
                continue
            quiet -= 1
        yield key, raw


Counts = Mapping[sockdiag.SocketName, tuple[int, int]]


def over_tcp(key: abi.ConnKey, conn: abi.Conn, counts: Counts) -> tuple[int, int]:
    """Return the bytes that side 0 and side 1 received over TCP so far, as far as `counts` or the record know."""
    ends = ((key.addr0, key.port0), (key.addr1, key.port1))
    received = [end.tcp_received for end in conn.end]
    for side in (0, 1):
        if conn.end[side].closed:
            continue
        here = counts.get((*ends[side], *ends[1 - side], 0))
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
        for id in sorted({end.endpoint for _, conn in ripe for end in conn.end if end.endpoint}):
            name = known.endpoint(id)
            if name and name.netns:
                counts.update(sockdiag.byte_counts(name.netns))
        for key, conn in ripe:
            yield conn_event(abi.EventType.PERIODIC, key, conn, now, counts)


def close_ends(opened: Maps, endpoints: Container[int]) -> None:
    """Mark every open end of these endpoints closed: their pods are gone, whoever has their ids now.

    The record ends with the other end's close, or with the next look of `abandoned`.
    """
    for key, seen in list(opened.conns.items()):
        if not any(end.endpoint in endpoints for end in seen.open_ends):
            continue
        conn = opened.conns.get(key)  # as late as can be: what the other end's hooks write meanwhile is lost
        if conn is None or [end.cookie for end in conn.end] != [end.cookie for end in seen.end]:
            continue
        left, right = (
            dataclasses.replace(e, closed=1) if e.cookie and e.endpoint in endpoints else e for e in conn.end
        )
        with contextlib.suppress(FileNotFoundError):  # the other end closed just now, and the record with it
            opened.conns.put(key, dataclasses.replace(conn, end=(left, right)), bpf.BPF_EXIST)


def abandoned(opened: Maps) -> Iterator[abi.FlowEvent]:
    """Delete the records of connections whose close nobody reported; yield a CLOSE for each.

    That is: both ends closed in the same instant, or their pods went, or were withdrawn, while they were open.
    """
    now = time.monotonic_ns()
    here = {key.id for key, _ in opened.endpoints.items()}
    for key, conn in list(opened.conns.items()):
        if not any(end.endpoint in here for end in conn.open_ends) and opened.conns.delete(key):
            yield conn_event(abi.EventType.CLOSE, key, conn, now)
