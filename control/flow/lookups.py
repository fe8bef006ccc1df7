"""One DNS query that the node proxy has seen, as a line in Hubble's JSON schema: an L7 flow."""

import typing
from collections.abc import Sequence
from typing import Any, NamedTuple

from control.flow import directory, record
from control.flow.requests import L7
from loader import abi
from loader.record import pack_addr

Json = record.Json
_RCODES = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")
_TYPES = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 35: "NAPTR", 43: "DS",
    48: "DNSKEY", 64: "SVCB", 65: "HTTPS", 251: "IXFR", 252: "AXFR", 255: "ANY", 257: "CAA",
}  # fmt: skip


class Seen(NamedTuple):
    """A query and its ends, as the proxy tells of it: JSON's types only. Times are CLOCK_MONOTONIC."""

    began: int
    ended: int
    client: str
    client_port: int
    server: str
    server_port: int
    proto: int
    source_endpoint: int
    source_identity: int
    target_endpoint: int
    target_identity: int
    egress_rule: int
    ingress_rule: int
    refused_at: int  # abi.Direction of the end that refused, where `allowed` is not
    allowed: bool
    query: str
    type: int
    rcode: int
    addresses: list[str]
    ttl: int
    cnames: list[str]
    why: str

    @classmethod
    def read(cls, given: Sequence[Any]) -> "Seen":
        """Raises TypeError, ValueError for what the proxy cannot have meant."""
        seen = cls(*given)
        for value, kind in zip(seen, cls.__annotations__.values(), strict=True):
            if type(value) is not (typing.get_origin(kind) or kind):
                raise TypeError(f"{value!r}: not {kind}")
        if not all(isinstance(each, str) for each in (*seen.addresses, *seen.cnames)):
            raise TypeError("addresses and cnames are texts")
        return seen


def flow(seen: Seen, known: directory.Directory, clock: record.ClockOffset, uuid: str) -> Json:
    """Return the record of one query, answered or refused."""
    allowed = seen.allowed
    event = abi.FlowEvent.blank(
        time=seen.ended, type=int(abi.EventType.OPEN if allowed else abi.EventType.DROP), hook=int(abi.Hook.AGENT),
        saddr=pack_addr(seen.client), daddr=pack_addr(seen.server), sport=seen.client_port, dport=seen.server_port,
        proto=seen.proto, src_endpoint=seen.source_endpoint, dst_endpoint=seen.target_endpoint,
        src_identity=seen.source_identity, dst_identity=seen.target_identity,
        egress_rule=seen.egress_rule if allowed else 0, ingress_rule=seen.ingress_rule if allowed else 0,
        direction=seen.refused_at, verdict=int(abi.Verdict.ALLOW if allowed else abi.Verdict.DENY),
    )  # fmt: skip
    out = record.flow_in(known, event, clock, uuid)
    inner = out["flow"]
    inner["Type"] = "L7"
    inner["event_type"] = {"type": L7}
    inner.pop("trace_observation_point", None)
    kind = _TYPES.get(seen.type, f"TYPE{seen.type}")
    name = seen.query + "."
    dns: Json = {"query": name, "qtypes": [kind], "observation_source": "proxy"}
    if seen.rcode:
        dns["rcode"] = seen.rcode
    if seen.addresses:
        dns |= {"ips": seen.addresses, "ttl": seen.ttl}
    if seen.cnames:
        dns["cnames"] = [f"{each}." for each in seen.cnames]
    inner["l7"] = {"type": "RESPONSE", "latency_ns": str(seen.ended - seen.began), "dns": dns}
    answer = ", ".join(seen.addresses) or _rcode(seen.rcode)
    inner["Summary"] = f"DNS Answer {answer} TTL: {seen.ttl} (Proxy {name} {kind})"
    said = inner["extensions"]["value"]["sockmesh"]
    said["event"] = "lookup"
    if seen.why:
        said["why"] = seen.why
    return out


def _rcode(number: int) -> str:
    return _RCODES[number] if number < len(_RCODES) else f"RCODE{number}"
