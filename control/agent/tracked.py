"""What conntrack tells besides the packet hooks: connections that are dead, those that live long, and how many ends
nobody will ever tell of.
"""

import dataclasses
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from loader import abi
from loader.maps import Maps
from loader.numbers import is_reserved

_ICMP = (int(abi.Proto.ICMP), int(abi.Proto.ICMPV6))
_CREATED = next(at for name, _, at in abi.CtEntry.FIELDS if name == "created")
_LAST_SEEN = next(at for name, _, at in abi.CtEntry.FIELDS if name == "last_seen")
_FLAGS = next(at for name, _, at in abi.CtEntry.FIELDS if name == "flags")
_PROTO = next(at for name, _, at in abi.CtKey.FIELDS if name == "proto")
_ENDPOINT = next(at for name, _, at in abi.CtKey.FIELDS if name == "endpoint")
_QUIET = 2048  # so many unreported entries may be deleted in one round
_RIPE = 2048  # so many long-lived connections get a record in one round; the others' turn is in the next

Entries = Mapping[abi.CtKey, abi.CtEntry]


def limit_s(proto: int, flags: int, config: abi.Config) -> int:
    """Return after how many idle seconds a conntrack entry is dead; the twin of ct_expired in bpf/conntrack.h."""
    if proto == abi.Proto.TCP:
        return config.tcp_close_timeout_s if flags & abi.CtFlag.CLOSING else config.tcp_timeout_s
    return config.icmp_timeout_s if proto in _ICMP else config.udp_timeout_s


class Found(NamedTuple):
    """What one walk found. `reported` counts the entries whose opening the packet hook put on record, dead or not."""

    dead: Entries
    ripe: Entries
    reported: int


class Walker:
    """Walks over conntrack; remembers when each connection that lives long was last on record."""

    def __init__(self, interval_s: float) -> None:
        self._interval = int(interval_s * 1_000_000_000)
        self._told: dict[bytes, int] = {}

    def walk(self, opened: Maps, config: abi.Config, now: int) -> Found:
        """Find what is dead (all that were reported, some of the others), and what has lived another interval."""
        limits = {
            (proto, flags): limit_s(proto, flags, config) * 1_000_000_000
            for proto in range(256)
            for flags in (0, int(abi.CtFlag.CLOSING))
        }
        time_at, number_at = struct.Struct("=Q").unpack_from, struct.Struct("=I").unpack_from
        closing, reported = int(abi.CtFlag.CLOSING), int(abi.CtFlag.REPORTED)
        before, told = self._told, {}
        dead: list[tuple[bytes, bytes]] = []
        ripe: list[tuple[bytes, bytes]] = []
        count, quiet = 0, _QUIET
        for key, raw in opened.ct.raw_items():
            flags = raw[_FLAGS]
            is_dead = now - time_at(raw, _LAST_SEEN)[0] > limits[key[_PROTO], flags & closing]
            if not flags & reported:
                if is_dead and quiet:
                    quiet -= 1
                    dead.append((key, raw))
                continue
            count += not is_reserved(number_at(key, _ENDPOINT)[0])
            if is_dead:
                dead.append((key, raw))
            elif not flags & closing:
                created = time_at(raw, _CREATED)[0]
                last = max(created, before.get(key, 0))  # it may be another connection on the same tuple
                if now - last >= self._interval and len(ripe) < _RIPE:
                    ripe.append((key, raw))
                    last = now
                if last != created:
                    told[key] = last
        self._told = told
        return Found(_unpacked(dead), _unpacked(ripe), count)


def _unpacked(raw: Iterable[tuple[bytes, bytes]]) -> Entries:
    return {abi.CtKey.unpack(key): abi.CtEntry.unpack(value) for key, value in raw}


def expire(opened: Maps, dead: Entries) -> Iterator[abi.FlowEvent]:
    """Delete dead conntrack entries; yield the CLOSE of each whose opening was recorded by the packet hook.

    The packet hook does the same with one that it meets again (`ended` in bpf/report.h).
    The kernel takes a dead entry for none, and its LRU makes room: those that nobody was told of stay until a quiet
    moment, so that a node with many short connections does not pay twice for each.
    """
    for key, value in dead.items():
        # What came back meanwhile lives; of what ended then, the packet hook has told. Whoever deletes an entry tells.
        if opened.ct.get(key) != value or not opened.ct.delete(key) or not value.flags & abi.CtFlag.REPORTED:
            continue
        yield _event(abi.EventType.CLOSE, opened, key, value, value.last_seen, dead)


def periodic(opened: Maps, ripe: Entries, now: int) -> Iterator[abi.FlowEvent]:
    """Yield the PERIODIC record of each connection."""
    for key, value in ripe.items():
        yield _event(abi.EventType.PERIODIC, opened, key, value, now, ripe)


def _event(
    kind: abi.EventType, opened: Maps, key: abi.CtKey, value: abi.CtEntry, when: int, others: Entries
) -> abi.FlowEvent:
    """Return a record of a connection as its entry has it."""
    egress = key.direction == abi.Direction.EGRESS
    own, other = value.identity, value.peer_endpoint
    # The other end's entry, which was not reported: it knows the rule that let the call in there.
    mirror = dataclasses.replace(key, endpoint=other, direction=int(not key.direction))
    answer = (others.get(mirror) or opened.ct.get(mirror)) if other else None
    other_rule = answer.rule_id if answer else 0
    icmp = key.proto in _ICMP
    return abi.FlowEvent.blank(
        time=when, type=int(kind), hook=int(abi.Hook.AGENT), proto=key.proto,
        saddr=key.saddr, daddr=key.daddr, sport=0 if icmp else key.sport, dport=0 if icmp else key.dport,
        icmp_type=key.dport & 0xFF if icmp else 0,
        src_endpoint=key.endpoint if egress else other, dst_endpoint=other if egress else key.endpoint,
        src_identity=own if egress else value.peer_identity, dst_identity=value.peer_identity if egress else own,
        egress_rule=value.rule_id if egress else other_rule,
        ingress_rule=other_rule if egress else value.rule_id,
        direction=key.direction, verdict=int(abi.Verdict.ALLOW), tx_bytes=value.tx_bytes, rx_bytes=value.rx_bytes,
        duration=when - value.created,
    )  # fmt: skip


class Balance:
    """Counts connections that the packet hook put on record, and of which no end will come: the kernel makes room in
    conntrack for new ones by forgetting old ones, and says nothing.

    What has begun, has not ended and is in the map no more was forgotten. A walk takes a while, and the events of that
    while are heard after it, so the sum is made then: what began meanwhile may be in the map already, so that too few
    are found missing, but the next walk finds the rest.
    """

    def __init__(self, left: int) -> None:
        """Go on where a predecessor was."""
        self.open = left  # so many have begun and neither ended nor been found missing
        self._seen = self._begun = 0
        self._waits = self._still = False  # for the sum; nothing was heard since the walk

    def heard(self, begun: int, ended: int) -> None:
        """Take note of events."""
        self.open += begun - ended
        self._begun += begun
        self._still = self._still and not (begun or ended)

    def walked(self, reported: int) -> None:
        """Take note of how many a walk has left in the map."""
        self._seen, self._begun, self._waits, self._still = reported, 0, True, True

    def missing(self) -> int:
        """Return how many more are missing. To be asked when every event of the time of the walk has been heard."""
        if not self._waits:
            return 0
        self._waits = False
        found = self.open - self._begun - self._seen
        if found > 0 or self._still:  # less than none: an agent was killed between events and their sum
            self.open -= found
        return max(found, 0)
