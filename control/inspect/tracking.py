"""Connection tracking entries: what each endpoint's policy has let through, all protocols."""

import dataclasses
from collections.abc import Iterable

from control.inspect import words
from control.names import Names
from loader import abi

_ICMP = (int(abi.Proto.ICMP), int(abi.Proto.ICMPV6))


@dataclasses.dataclass(frozen=True)
class CtRow:
    """One entry: the endpoint whose policy let it through, and the packets of it that were judged at its interface.

    Those of a TCP connection that is open at its socket pass uncounted and leave `idle_ns` as it is.
    """

    endpoint: int
    endpoint_name: str
    direction: str
    proto: str
    source: words.End
    destination: words.End
    sent_packets: int  # in the direction of the first packet
    sent_bytes: int
    received_packets: int
    received_bytes: int
    age_ns: int
    idle_ns: int
    flags: tuple[str, ...]
    peer_identity: int
    peer_word: str
    rule: str
    rule_source: str  # file:line
    current: bool  # judged under the policy that is in force now; else asked again before the next packet passes


def rows(
    entries: Iterable[tuple[abi.CtKey, abi.CtEntry]], names: Names, generation: int, now: int
) -> tuple[CtRow, ...]:
    """Return every entry, the busiest endpoint's together; `now` is CLOCK_MONOTONIC."""
    found = [_row(key, value, names, generation, now) for key, value in entries]
    return tuple(sorted(found, key=lambda r: (r.endpoint_name, r.direction, str(r.destination), str(r.source))))


def _row(key: abi.CtKey, value: abi.CtEntry, names: Names, generation: int, now: int) -> CtRow:
    egress = key.direction == abi.Direction.EGRESS
    own, peer = (key.endpoint, 0) if egress else (0, key.endpoint)
    sport, dport = (0, 0) if key.proto in _ICMP else (key.sport, key.dport)
    return CtRow(
        endpoint=key.endpoint,
        endpoint_name=words.endpoint_name(names, key.endpoint),
        direction=abi.Direction(key.direction).name.lower(),
        proto=words.proto_word(key.proto),
        source=words.end(names, key.saddr, sport, own),
        destination=words.end(names, key.daddr, dport, peer),
        sent_packets=value.tx_packets,
        sent_bytes=value.tx_bytes,
        received_packets=value.rx_packets,
        received_bytes=value.rx_bytes,
        age_ns=max(0, now - value.created),
        idle_ns=max(0, now - value.last_seen),
        flags=words.flag_words(value.flags, abi.CtFlag),
        peer_identity=value.peer_identity,
        peer_word=words.identity_word(names, value.peer_identity),
        rule=words.rule_word(names, value.rule_id),
        rule_source=words.rule_source(names, value.rule_id),
        current=value.generation == generation,
    )


def of(found: Iterable[CtRow], endpoint: int) -> tuple[CtRow, ...]:
    """Return the entries of one endpoint."""
    return tuple(r for r in found if r.endpoint == endpoint)


def between(found: Iterable[CtRow], source: str, destination: str) -> tuple[CtRow, ...]:
    """Return the entries from one end to another, each given as `words.End.is_called` takes it."""
    return tuple(r for r in found if r.source.is_called(source) and r.destination.is_called(destination))
