"""Spans of requests, by OpenTelemetry's semantic conventions for HTTP servers: what the agent tells of one, as JSON.

The proxy stands between a client and its server, so `client.*` is whom the kernel saw call, `server.address` whom it
asked for, and `network.*.address` are the connection's own. Which pods these are, and which policy let the request
through, is under `sockmesh.*`.
"""

import re
from typing import Any, NamedTuple

from control.flow import directory, request_counts, requests
from control.flow.told import NO_GRPC_STATUS, Alike, Batch
from loader import abi

Json = dict[str, Any]
_METHODS = request_counts.METHODS
_NO_METHOD = "_OTHER"
_GRPC_ERRORS = frozenset((2, 4, 12, 13, 14, 15))  # of those, a server is at fault: unknown, deadline, unimplemented ...
_TRACE, _ID = 32, 48  # where the digits of a span's trace end, and its own
_URL = re.compile(r"http://([^/?#]*)([^?#]*)")


class Span(NamedTuple):
    """One request. `parent` "": the trace begins here; times in nanoseconds of the wall clock; `error`: why, if it is
    one, else None."""

    name: str
    trace: str
    id: str
    parent: str
    start: int
    end: int
    attributes: Json
    error: str | None


def of(batch: Batch, known: directory.Directory, offset_ns: int) -> list[Span]:
    """Return the spans of a batch. `offset_ns`: from the records' clock to the wall's."""
    alike = {index: _alike(batch.kinds[index], known) for index in {batch.kind[row] for row, _ in batch.spans}}
    return [_span(batch, row, digits, alike[batch.kind[row]], offset_ns) for row, digits in batch.spans]


def _span(batch: Batch, row: int, digits: str, alike: Json, offset_ns: int) -> Span:
    kind, end = batch.kinds[batch.kind[row]], batch.ended[row] + offset_ns
    attributes = {**alike, "client.port": batch.client_port[row]}
    if match := _URL.match(batch.url[row]):
        attributes["server.address"] = _name(match[1]) or kind.server
        if match[2]:
            attributes["url.path"] = match[2]
    error = kind.why if "error.type" in alike else None
    name = kind.method if kind.method in _METHODS else "HTTP"
    trace, own, parent = digits[:_TRACE], digits[_TRACE:_ID], digits[_ID:]
    start = max(0, end - batch.latency[row])  # whatever a worker says: one span must not spoil those beside it
    return Span(name, trace, own, parent, start, end, attributes, error)


def _name(host: str) -> str:
    """Return a host without its port, or a star for one as a whole (OPTIONS)."""
    name = host.removesuffix("*")
    return re.sub(r":[0-9]*\Z", "", name).strip("[]")


def _alike(kind: Alike, known: directory.Directory) -> Json:
    out: Json = {
        "http.request.method": kind.method if kind.method in _METHODS else _NO_METHOD,
        "url.scheme": "http",
        "network.protocol.name": "http",
        "network.protocol.version": kind.protocol.partition("/")[2],
        "network.peer.address": kind.client,
        "network.local.address": kind.server,
        "client.address": kind.client,
        "server.address": kind.server,
        "server.port": kind.server_port,
        "sockmesh.verdict": requests.verdict(kind),
        "sockmesh.direction": abi.Direction(kind.asked_at).name.lower(),
    }
    if kind.method not in _METHODS:
        out["http.request.method_original"] = kind.method
    if kind.status:
        out["http.response.status_code"] = kind.status
    if kind.grpc_status != NO_GRPC_STATUS:
        out["rpc.system"] = "grpc"
        out["rpc.grpc.status_code"] = kind.grpc_status
    if error := _error(kind):
        out["error.type"] = error
    rule = kind.ingress_rule if kind.asked_at == abi.Direction.INGRESS else kind.egress_rule
    if policy := known.policy(rule):
        names = (policy.get(key) for key in ("kind", "namespace", "name"))
        out["sockmesh.policy"] = "/".join(filter(None, names))
    for end, side in (
        ("source", known.side(kind.source_endpoint, kind.source_identity, kind.client)),
        ("destination", known.side(kind.target_endpoint, kind.target_identity, kind.server)),
    ):
        out[f"sockmesh.{end}.workload"] = request_counts.workload(side)
        if pod := side.get("pod_name"):
            out[f"sockmesh.{end}.pod"] = f"{side['namespace']}/{pod}" if side.get("namespace") else pod
    return out


def _error(kind: Alike) -> str:
    """Return OpenTelemetry's `error.type`; "" for what is no error of the server's side: a refusal is none."""
    if kind.status >= 500:
        return str(kind.status)
    if not kind.status:
        return request_counts.refusal(kind) or "gone"
    return str(kind.grpc_status) if kind.grpc_status in _GRPC_ERRORS else ""
