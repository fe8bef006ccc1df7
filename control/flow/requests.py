"""One request that the node proxy has seen, as a line in Hubble's JSON schema: an L7 flow.

As with Hubble an answer's record is a reply: its source is the server, and `sockmesh observe` shows it with an arrow to
the left. What was refused or never answered has the client as its source.
"""

from typing import Any, NamedTuple

from control.flow import directory, record
from control.flow.told import NO_GRPC_STATUS, Alike, Seen, as_json
from loader import abi
from loader.record import pack_addr

Json = record.Json
EVENT = "request"
L7 = 129  # Hubble's event type of what a proxy has seen
FORBIDDEN, GRPC_DENIED = 403, 7
_WAYS = {int(way): way.name for way in abi.Direction}
_MIRRORED = (("source", "destination"), ("source_service", "destination_service"))
_TYPES = {"FORWARDED": abi.EventType.OPEN, "DROPPED": abi.EventType.DROP, "ERROR": abi.EventType.STUCK}


class Varying(NamedTuple):
    """What is another in each record; in the making of a form, a hole for each."""

    time: str
    uuid: str
    port: Any
    latency: str  # in nanoseconds
    ms: str
    url: str
    trace_id: str
    headers: Any  # Hubble's JSON


def verdict(alike: Alike) -> str:
    """Return Hubble's verdict: DROPPED where policy refused, ERROR for what was no request."""
    if alike.allowed:
        return "FORWARDED"
    return "DROPPED" if alike.status == FORBIDDEN or alike.grpc_status == GRPC_DENIED else "ERROR"


def start(alike: Alike, known: directory.Directory) -> Json:
    """Return what the records of like requests have in common: a record for `finish` to complete."""
    said = verdict(alike)
    rules = (alike.egress_rule, alike.ingress_rule) if said != "ERROR" else (0, 0)
    event = abi.FlowEvent.blank(
        type=int(_TYPES[said]), hook=int(abi.Hook.AGENT), saddr=pack_addr(alike.client), daddr=pack_addr(alike.server),
        dport=alike.server_port, proto=int(abi.Proto.TCP), src_endpoint=alike.source_endpoint,
        dst_endpoint=alike.target_endpoint, src_identity=alike.source_identity, dst_identity=alike.target_identity,
        egress_rule=rules[0], ingress_rule=rules[1], direction=alike.asked_at,
        verdict=int(abi.Verdict.ALLOW if alike.allowed else abi.Verdict.DENY),
    )  # fmt: skip
    out = record.flow_in(known, event, record.ClockOffset(0), "")
    inner = out["flow"]
    inner["Type"] = "L7"
    inner["event_type"] = {"type": L7}
    inner["traffic_direction"] = _WAYS[alike.asked_at]
    inner["is_reply"] = alike.allowed and alike.status != 0
    if inner["is_reply"]:
        _mirror(inner)
    ours = inner["extensions"]["value"]["sockmesh"]
    ours["event"] = EVENT
    ours.pop("short_cut", None)  # whose connection took it is another record's
    if alike.why:
        ours["why"] = alike.why
    if alike.grpc_status != NO_GRPC_STATUS:
        ours["grpc_status"] = alike.grpc_status
    if alike.told:
        ours["mismatched_headers"] = alike.told.split(",")
    return out


def _mirror(inner: Json) -> None:
    """Have the server as the source."""
    addresses = inner["IP"]
    inner["IP"] = {**addresses, "source": addresses["destination"], "destination": addresses["source"]}
    inner["l4"] = {"TCP": {"source_port": inner["l4"]["TCP"]["destination_port"]}}
    for one, other in _MIRRORED:
        ends = inner.pop(one, None), inner.pop(other, None)
        inner.update({name: end for name, end in zip((other, one), ends, strict=True) if end})


def finish(started: Json, alike: Alike, one: Varying) -> Json:
    """Return the record of one request."""
    inner = dict(started["flow"])
    reply = inner["is_reply"]
    port = {"destination_port" if reply else "source_port": one.port}
    inner["time"], inner["uuid"] = one.time, one.uuid
    inner["l4"] = {"TCP": {**inner["l4"]["TCP"], **port}}
    if not alike.protocol.startswith("HTTP"):  # a connection that was cut off, whatever was in it
        inner["l7"] = {"type": "REQUEST", "latency_ns": one.latency}
        inner["Summary"] = f"{alike.protocol} cut off: {alike.why}"
        return {**started, "flow": inner, "time": one.time}
    http: Json = {"code": alike.status} if alike.status else {}
    http |= {"method": alike.method, "url": one.url, "protocol": alike.protocol}
    if one.headers:
        http["headers"] = one.headers
    inner["l7"] = {"type": "RESPONSE" if reply else "REQUEST", "latency_ns": one.latency, "http": http}
    if one.trace_id:
        inner["trace_context"] = {"parent": {"trace_id": one.trace_id}}
    asked = f"{alike.method} {one.url}"
    inner["Summary"] = f"{alike.protocol} {alike.status} {one.ms}ms ({asked})" if reply else f"{alike.protocol} {asked}"
    return {**started, "flow": inner, "time": one.time}


def varying(seen: Seen, offset_ns: int, uuid: str) -> Varying:
    """Return the texts of one request."""
    return Varying(
        record.timestamp(seen.ended + offset_ns), uuid, seen.client_port, str(seen.latency),
        str(seen.latency // 1_000_000), seen.url, seen.trace_id, as_json(seen.headers) if seen.headers else None,
    )  # fmt: skip


def flow(alike: Alike, seen: Seen, known: directory.Directory, clock: record.ClockOffset, uuid: str) -> Json:
    """Return the record of one request, made in full."""
    return finish(start(alike, known), alike, varying(seen, clock.ns, uuid))
