"""What a span says of a request: by OpenTelemetry's words, all lengths bounded, nothing of its query."""

import json
from typing import Any

import pytest

from control.flow import directory, record, recorder, told
from control.flow.told import Alike, Seen
from control.tracing import spans
from control.tracing.spans import Span
from loader import abi
from tests.unit.control.test_requests import ALIKE, CLOCK, NAMES, SEEN, TRACE

ID, PARENT = "1" * 16, "00f067aa0ba902b7"


def batch(*rows: tuple[Alike, Seen, str]) -> told.Batch:
    """Return what the agent reads; digits "": the request is not traced."""
    gathered = told.Gathered()
    for alike, seen, digits in rows:
        if digits:
            gathered.trace(digits)
        gathered.add(tuple(alike[:9]), tuple(alike[9:]), *seen)
    return told.read(json.loads(json.dumps(gathered.content(0))))


def span(seen: Seen = SEEN, digits: str = TRACE + ID + PARENT, **changes: Any) -> Span:
    (found,) = spans.of(batch((ALIKE._replace(**changes), seen, digits)), directory.Directory(NAMES), CLOCK.ns)
    return found


def test_a_request() -> None:
    end = CLOCK.ns + SEEN.ended
    assert span() == Span(
        "GET", TRACE, ID, PARENT, end - SEEN.latency, end,
        {
            "http.request.method": "GET", "http.response.status_code": 200, "url.scheme": "http", "url.path": "/x",
            "network.protocol.name": "http", "network.protocol.version": "1.1",
            "network.peer.address": "10.0.0.1", "network.local.address": "10.0.0.2",
            "client.address": "10.0.0.1", "client.port": 40212, "server.address": "api", "server.port": 80,
            "sockmesh.verdict": "FORWARDED", "sockmesh.direction": "ingress",
            "sockmesh.policy": "CiliumNetworkPolicy/shop/api-in",
            "sockmesh.source.workload": "shop/web", "sockmesh.source.pod": "shop/web-7d9f",
            "sockmesh.destination.workload": "shop/api", "sockmesh.destination.pod": "shop/api",
        },
        None,
    )  # fmt: skip


def test_only_what_is_traced_is_a_span() -> None:
    other = ALIKE._replace(status=503)
    rows = [(ALIKE, SEEN, ""), (other, SEEN, TRACE + ID), (ALIKE, SEEN, ""), (ALIKE, SEEN, TRACE + PARENT)]
    found = spans.of(batch(*rows), directory.Directory(NAMES), 0)
    assert [(each.id, each.parent, each.error) for each in found] == [(ID, "", ""), (PARENT, "", None)]


@pytest.mark.parametrize(
    ("url", "path", "address"),
    [
        ("http://api/x?a=secret", "/x", "api"), ("http://api:8080/", "/", "api"), ("http://[::1]:80/a#b", "/a", "::1"),
        ("http://api", None, "api"), ("http:///x", "/x", "10.0.0.2"), ("http://api*", None, "api"),
        ("http://api?secret", None, "api"), ("", None, "10.0.0.2"),
    ],
)  # fmt: skip
def test_urls(url: str, path: str | None, address: str) -> None:
    found = span(SEEN._replace(url=url)).attributes
    assert (found.get("url.path"), found["server.address"]) == (path, address)
    assert "secret" not in json.dumps(found)


@pytest.mark.parametrize(
    ("changes", "error", "kind"),
    [
        ({"status": 404}, None, None),
        ({"status": 500}, "", "500"),
        ({"status": 503, "allowed": False, "why": "nobody listens"}, "nobody listens", "503"),
        ({"status": 403, "allowed": False}, None, None),
        ({"status": 0, "why": "the client went away"}, "the client went away", "gone"),
        ({"grpc_status": 0}, None, None), ({"grpc_status": 5}, None, None),
        ({"grpc_status": 7, "allowed": False}, None, None),
        ({"grpc_status": 13}, "", "13"), ({"grpc_status": 14}, "", "14"),
    ],
)  # fmt: skip
def test_errors_are_those_of_the_servers_side(changes: dict[str, Any], error: str | None, kind: str | None) -> None:
    found = span(**changes)
    assert (found.error, found.attributes.get("error.type")) == (error, kind)
    if "grpc_status" in changes:
        assert found.attributes["rpc.grpc.status_code"] == changes["grpc_status"]


def test_no_time_is_before_the_clock_began() -> None:
    assert span(SEEN._replace(latency=1 << 62)).start == 0


def test_a_method_that_somebody_makes_up_is_no_name() -> None:
    found = span(method="BREW")
    assert (found.name, found.attributes["http.request.method"]) == ("HTTP", "_OTHER")
    assert found.attributes["http.request.method_original"] == "BREW"


def test_ends_that_are_no_pods() -> None:
    found = span(client="8.8.8.8", source_endpoint=0, source_identity=2, asked_at=int(abi.Direction.EGRESS)).attributes
    assert found["sockmesh.source.workload"] == "world" and "sockmesh.source.pod" not in found
    assert found["sockmesh.direction"] == "egress" and "sockmesh.policy" not in found


@pytest.mark.parametrize(
    "given",
    [
        [[2, "1" * 64]], [[-1, "1" * 64]], [[True, "1" * 64]], [["0", "1" * 64]], [[0, "1" * 63]], [[0, "1" * 32]],
        [[0, ""]], [[0, "G" * 64]], [[0, "1" * 63 + "\n"]], [[0, 7]], [[0]], [7], 7, None, [[0, "1" * 64]] * 3,
    ],
)  # fmt: skip
def test_what_no_worker_says_of_a_span_is_refused(given: Any) -> None:
    content = json.loads(json.dumps(batch((ALIKE, SEEN, ""), (ALIKE, SEEN, ""))))
    with pytest.raises((TypeError, ValueError)):
        told.read([*content[:-1], given])


def test_a_record_of_a_traced_request_is_as_ever() -> None:
    maker = recorder.Recorder(NAMES, CLOCK, iter([b"a", b"b"]))
    seen = batch((ALIKE, SEEN._replace(trace_id=TRACE), TRACE + ID), (ALIKE, SEEN._replace(trace_id=TRACE), ""))
    one, other = (json.loads(line)["flow"] for line in maker.requests(seen))
    assert one["trace_context"] == {"parent": {"trace_id": TRACE}}
    assert {**one, "uuid": ""} == {**other, "uuid": ""} and record.extension(one)["event"] == "request"
    assert [each.id for each in maker.spans(seen)] == [ID]
