"""One kernel event to one line in Hubble's JSON schema.

Conventions of the schema: names as in flow.proto, defaults left out, 64-bit numbers as strings, enums as names. What
Hubble has no field for is in `extensions`, a Struct under "sockmesh".
"""

import dataclasses
import functools
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from control import names
from control.flow import classify, directory, summary
from loader import abi, record

Json = dict[str, Any]

STRUCT = "type.googleapis.com/google.protobuf.Struct"
KERNEL_RING = "PERF_EVENT_RING_BUFFER"
OBSERVER_QUEUE = "OBSERVER_EVENTS_QUEUE"
CONNTRACK = UNKNOWN = "UNKNOWN_LOST_EVENT_SOURCE"  # Hubble's schema has no word for it

_EVENT_WORDS = {int(kind): kind.name.lower() for kind in abi.EventType}
_HOOK_WORDS = {int(hook): hook.name.lower() for hook in abi.Hook}
_DROP_NAMES = {int(reason): reason.name for reason in abi.DropReason if reason}
_PORT_PROTOS = {int(abi.Proto.UDP): "UDP", int(abi.Proto.SCTP): "SCTP"}
_ICMP_PROTOS = {int(abi.Proto.ICMP): "ICMPv4", int(abi.Proto.ICMPV6): "ICMPv6"}

_ENDINGS = [b"%03x" % n for n in range(4096)]
# Seeded from the kernel once: asking it for each record would cost a system call each.
_generator = random.Random(random.SystemRandom().getrandbits(256))
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


@dataclasses.dataclass(frozen=True)
class ClockOffset:
    """What to add to CLOCK_MONOTONIC to get wall time, in nanoseconds. It changes when the wall clock is set."""

    ns: int

    @classmethod
    def measure(
        cls, wall: Callable[[], int] = time.time_ns, monotonic: Callable[[], int] = time.monotonic_ns, tries: int = 5
    ) -> "ClockOffset":
        """Return the offset from the closest of several readings, so that being scheduled away does not spoil it."""
        best: tuple[int, int] | None = None
        for _ in range(tries):
            before = monotonic()
            now = wall()
            after = monotonic()
            if best is None or after - before < best[0]:
                best = (after - before, now - (before + after) // 2)
        assert best is not None
        return cls(best[1])


@functools.lru_cache(maxsize=64)
def second(seconds: int) -> str:
    """Return RFC 3339 as far as the seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def timestamp(wall_ns: int) -> str:
    """Return RFC 3339 in UTC, always with nine decimals, so that lines sort as text.

    >>> timestamp(1_700_000_000_000_000_007)
    '2023-11-14T22:13:20.000000007Z'
    """
    seconds, ns = divmod(wall_ns, 1_000_000_000)
    return f"{second(seconds)}.{ns:09d}Z"


def _alike() -> Iterator[bytes]:
    digits = f"{_generator.getrandbits(128):032x}"[:-3]
    start = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}".encode()
    return map(start.__add__, _ENDINGS)


# UUIDs (RFC 9562, version 4) without end. They name records and keep no secret, so three digits are counted: 108 random
# bits for 4096 records in a row keep them apart as well, at a fifth of the cost.
uuids: Iterator[bytes] = itertools.chain.from_iterable(iter(_alike, None))


def new_uuid() -> str:
    """Return the next of `uuids` as text."""
    return next(uuids).decode()


@functools.lru_cache(maxsize=16384)
def _address(raw: bytes) -> tuple[str, str]:
    text = record.unpack_addr(raw)
    return text, "IPv6" if ":" in text else "IPv4"


@functools.lru_cache(maxsize=256)
def _flags(bits: int) -> Json:
    return {name: True for name, bit in summary.TCP_FLAGS if bits & bit}


def _l4(event: abi.FlowEvent) -> Json | None:
    if event.proto == abi.Proto.TCP:
        tcp = _ports(event)
        if event.tcp_flags:
            tcp["flags"] = _flags(event.tcp_flags)
        return {"TCP": tcp}
    if name := _PORT_PROTOS.get(event.proto):
        return {name: _ports(event)}
    if name := _ICMP_PROTOS.get(event.proto):
        icmp = {"type": event.icmp_type, "code": event.icmp_code}
        return {name: {key: value for key, value in icmp.items() if value}}
    return None


def _ports(event: abi.FlowEvent) -> Json:
    ports: Json = {}
    if event.sport:
        ports["source_port"] = event.sport
    if event.dport:
        ports["destination_port"] = event.dport
    return ports


def _extension(event: abi.FlowEvent, known: directory.Directory) -> Json:
    out: Json = {"event": _EVENT_WORDS.get(event.type) or str(event.type)}
    if event.hook:
        out["hook"] = _HOOK_WORDS.get(event.hook) or str(event.hook)
    if event.type == abi.EventType.FAILED and event.reason:
        out["error"] = summary.call_error(event.reason)
    if event.type == abi.EventType.STUCK:
        out["reader"] = {"end": summary.reader(event), "reason": summary.accel_word(event.reason)}
    measured = event.type in (abi.EventType.PERIODIC, abi.EventType.CLOSE)
    tcp = event.proto == abi.Proto.TCP
    if measured or event.tx_bytes or event.rx_bytes:
        out["bytes_sent"] = str(event.tx_bytes)
        out["bytes_received"] = str(event.rx_bytes)
    if (measured and tcp) or event.tx_redirected or event.rx_redirected:
        out["short_cut_bytes_sent"] = str(event.tx_redirected)
        out["short_cut_bytes_received"] = str(event.rx_redirected)
    if measured or event.duration:
        out["duration_ns"] = str(event.duration)
    if tcp and event.type in summary.LIFECYCLE:
        out["short_cut"] = bool(event.accel)
    if any(event.accel_reason):
        at_source, at_destination = map(summary.accel_word, event.accel_reason)
        out["short_cut_reason"] = {"source": at_source, "destination": at_destination}
    if summary.proto_name(event.proto).startswith("IP "):
        out["protocol"] = event.proto
    rules: Json = {}
    sources: Json = {}
    for key, id in (("egress", event.egress_rule), ("ingress", event.ingress_rule)):
        if (rule := known.rule(id)) and rule.rule:
            rules[key] = rule.rule
        if rule and rule.source:
            sources[key] = rule.source
    if sources:
        rules["source"] = sources
    if rules:
        out["rule"] = rules
    return out


def flow_in(known: directory.Directory, event: abi.FlowEvent, clock: ClockOffset, uuid: str) -> Json:
    """Return the record of one event with the names of a directory that may be used for many."""
    when = timestamp(event.time + clock.ns)
    said = classify.verdict(event)
    source_ip, version = _address(event.saddr if any(event.saddr) else known.source(event.src_endpoint, event.daddr))
    destination_ip, _ = _address(event.daddr)
    inner: Json = {"time": when, "uuid": uuid, "verdict": said}
    reason = classify.drop_reason(event) if said == "DROPPED" else 0
    if reason:
        inner["drop_reason"] = reason
    inner["IP"] = {"source": source_ip, "destination": destination_ip, "ipVersion": version}
    if l4 := _l4(event):
        inner["l4"] = l4
    if source := known.side(event.src_endpoint, event.src_identity, source_ip):
        inner["source"] = source
    if destination := known.side(event.dst_endpoint, event.dst_identity, destination_ip):
        inner["destination"] = destination
    inner["Type"] = "SOCK" if classify.is_socket_event(event) else "L3_L4"
    if known.node:
        inner["node_name"] = known.node
    inner["event_type"] = classify.event_type(event, reason)
    # A call that a backend was found for has that one's address. One that is known as a pod's is not a service's now.
    if not event.dst_endpoint and (service := known.service(destination_ip)):
        inner["destination_service"] = service
    inner["traffic_direction"] = classify.direction(event)
    if point := classify.observation_point(event):
        inner["trace_observation_point"] = point
    if reason in _DROP_NAMES:
        inner["drop_reason_desc"] = _DROP_NAMES[reason]
    inner["is_reply"] = bool(event.is_reply)  # of others, source and destination are those of the first packet
    if event.ifindex:
        inner["interface"] = {"index": event.ifindex}
    if event.cookie:
        inner["socket_cookie"] = str(event.cookie)
    inner["Summary"] = summary.summary(event)
    inner["extensions"] = {"@type": STRUCT, "value": {"sockmesh": _extension(event, known)}}
    refused = said in ("DROPPED", "AUDIT")
    for direction, id in ((abi.Direction.EGRESS, event.egress_rule), (abi.Direction.INGRESS, event.ingress_rule)):
        if policy := known.policy(id):
            outcome = "denied" if refused and event.direction == direction else "allowed"
            inner[f"{direction.name.lower()}_{outcome}_by"] = [policy]
    return _response("flow", inner, known.node, when)


def _response(arm: str, inner: Json, node: str, when: str) -> Json:
    return {arm: inner, "node_name": node, "time": when} if node else {arm: inner, "time": when}


def flow(event: abi.FlowEvent, known: names.Names, clock: ClockOffset, uuid: Callable[[], str] = new_uuid) -> Json:
    """Return the one record of one event; a number without a name stays a number."""
    return flow_in(directory.Directory(known), event, clock, uuid())


def lost(count: int, source: str, node: str, wall_ns: int) -> Json:
    """Return the record that says how many events are missing here, and which queue was full."""
    inner = {"source": source, "num_events_lost": str(count)}
    return _response("lost_events", inner, node, timestamp(wall_ns))


def line(response: Json) -> bytes:
    """Return a record as one line of JSON, newline included. Plain ASCII, so that no name can break a terminal."""
    return _encode(response).encode("ascii") + b"\n"


def extension(inner: Mapping[str, Any]) -> Json:
    """Return what sockmesh added to a flow, or an empty dict for a flow that something else wrote."""
    found = inner.get("extensions")
    value = found.get("value") if isinstance(found, dict) else None
    ours = value.get("sockmesh") if isinstance(value, dict) else None
    return ours if isinstance(ours, dict) else {}
