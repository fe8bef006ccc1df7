"""Requests become Hubble's lines: whole lines compared, cheap ones with those made in full, and counts with both."""

import contextlib
import doctest
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import names
from control.flow import directory, printer, record, recorder, redact, request_counts, requests, told
from control.flow.told import Alike, Seen
from loader import abi

WEB = names.EndpointName(1, "shop", "web-7d9f", 256, ("k8s:app=web",), ("10.0.0.1", "fd00::1"))
API = names.EndpointName(2, "shop", "api", 257, ("k8s:team=a",), ("10.0.0.2", "fd00::2"))
RULE = names.RuleName("CiliumNetworkPolicy", "shop", "api-in", "spec.ingress[0]", "api.yaml:3")
NAMES = names.Names(
    node="n1", endpoints={1: WEB, 2: API}, identities={256: WEB.labels, 257: API.labels}, rules={7: RULE}, revision=3,
    services={4: names.ServiceName(4, "shop", "db", ("10.9.0.1",))},
)  # fmt: skip
CLOCK = record.ClockOffset(1_700_000_000_000_000_000)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ALIKE = Alike(
    "10.0.0.1", "10.0.0.2", 80, 1, 256, 2, 257, 0, 7, int(abi.Direction.INGRESS), True, "HTTP/1.1", "GET", 200,
    told.NO_GRPC_STATUS, "", "",
)  # fmt: skip
SEEN = Seen(5, 3_900_000, 40212, "http://api/x?a=1")


def flow(seen: Seen = SEEN, **changes: Any) -> dict[str, Any]:
    out = requests.flow(ALIKE._replace(**changes), seen, directory.Directory(NAMES), CLOCK, "u")
    inner: dict[str, Any] = out["flow"]
    return inner


def batch(rows: list[tuple[Alike, Seen]]) -> told.Batch:
    gathered = told.Gathered()
    for alike, seen in rows:
        gathered.add(tuple(alike[:9]), tuple(alike[9:]), *seen)
    return told.read(json.loads(json.dumps(gathered.content(0))))


def test_an_answer_is_a_reply() -> None:
    when = "2023-11-14T22:13:20.000000005Z"
    server = {"ID": 2, "identity": 257, "namespace": "shop", "labels": ["k8s:team=a"], "pod_name": "api"}
    client = {"ID": 1, "identity": 256, "namespace": "shop", "labels": ["k8s:app=web"], "pod_name": "web-7d9f"}
    assert flow() == {
        "time": when, "uuid": "u", "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.2", "destination": "10.0.0.1", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 80, "destination_port": 40212}}, "source": server, "destination": client,
        "Type": "L7", "node_name": "n1", "event_type": {"type": 129}, "traffic_direction": "INGRESS", "is_reply": True,
        "l7": {"type": "RESPONSE", "latency_ns": "3900000",
               "http": {"code": 200, "method": "GET", "url": "http://api/x?a=1", "protocol": "HTTP/1.1"}},
        "Summary": "HTTP/1.1 200 3ms (GET http://api/x?a=1)",
        "extensions": {"@type": record.STRUCT, "value": {"sockmesh": {
            "event": "request", "hook": "agent",
            "rule": {"source": {"ingress": "api.yaml:3"}, "ingress": "spec.ingress[0]"}}}},
        "ingress_allowed_by": [{"name": "api-in", "namespace": "shop", "revision": "3", "kind": "CiliumNetworkPolicy"}],
    }  # fmt: skip


def test_a_refused_request_names_the_policy() -> None:
    found = flow(allowed=False, status=403)
    assert (found["verdict"], found["l7"]["type"], found["is_reply"]) == ("DROPPED", "REQUEST", False)
    assert found["source"]["pod_name"] == "web-7d9f" and found["l4"]["TCP"]["source_port"] == 40212
    assert found["ingress_denied_by"][0]["name"] == "api-in" and "ingress_allowed_by" not in found
    assert "drop_reason" not in found and found["Summary"] == "HTTP/1.1 GET http://api/x?a=1"
    grpc = flow(allowed=False, status=200, grpc_status=7, protocol="HTTP/2")
    assert grpc["verdict"] == "DROPPED" and record.extension(grpc)["grpc_status"] == 7


def test_what_was_no_request_is_an_error() -> None:
    found = flow(Seen(5, 0, 1, ""), allowed=False, status=400, why="a bare LF", method="")
    assert found["verdict"] == "ERROR" and record.extension(found)["why"] == "a bare LF"
    assert not {"ingress_denied_by", "ingress_allowed_by"} & set(found)


def test_headers_trace_and_told() -> None:
    found = flow(SEEN._replace(trace_id=TRACE, headers=[["x-id", "7"]]), told="x-role,x-b")
    assert found["trace_context"] == {"parent": {"trace_id": TRACE}}
    assert found["l7"]["http"]["headers"] == [{"key": "x-id", "value": "7"}]
    assert record.extension(found)["mismatched_headers"] == ["x-role", "x-b"]


def test_a_call_to_a_service_without_backends_names_it_at_the_side_that_it_is_on() -> None:
    changes: dict[str, Any] = {"server": "10.9.0.1", "target_endpoint": 0, "target_identity": 0}
    assert flow(**changes)["source_service"]["name"] == "db"
    assert flow(**changes, status=0)["destination_service"]["name"] == "db"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "shop/web-7d9f:40212 (ID:256) <- shop/api:80 (ID:257) http-response FORWARDED "
             "(HTTP/1.1 200 3ms (GET http://api/x?a=1))"),
        ({"allowed": False, "status": 403}, "shop/web-7d9f:40212 (ID:256) -> shop/api:80 (ID:257) http-request DROPPED "
                                            "(HTTP/1.1 GET http://api/x?a=1)"),
    ],
)  # fmt: skip
def test_compact(changes: dict[str, Any], words: str) -> None:
    response = requests.flow(ALIKE._replace(**changes), SEEN, directory.Directory(NAMES), CLOCK, "u")
    assert printer.compact(response, printer.Style()).partition(": ")[2] == words


TEXT = st.text(max_size=20) | st.sampled_from(["%", '"', "\\", "\0url\0", "\0#port\0", "{}", "\x7f\xff", "\ud800"])
NUMBER = st.integers(0, 3)
KINDS = st.builds(
    Alike,
    client=st.sampled_from(["10.0.0.1", "fd00::1", "8.8.8.8"]), server=st.sampled_from(["10.0.0.2", "10.9.0.1"]),
    server_port=st.sampled_from([80, 65535]), source_endpoint=NUMBER, source_identity=st.sampled_from([0, 2, 256]),
    target_endpoint=NUMBER, target_identity=st.sampled_from([0, 257]), egress_rule=st.sampled_from([0, 7, 9]),
    ingress_rule=st.sampled_from([0, 7]), asked_at=st.integers(0, 1), allowed=st.booleans(),
    protocol=st.sampled_from(["HTTP/1.1", "HTTP/2"]), method=st.sampled_from(["GET", "%s"]) | TEXT,
    status=st.sampled_from([0, 200, 403, 503]), grpc_status=st.sampled_from([-1, 0, 7]), why=TEXT, told=TEXT,
)  # fmt: skip
SEENS = st.builds(
    Seen, ended=st.integers(0, 1 << 50), latency=st.integers(0, 1 << 40), client_port=st.integers(1, 65535), url=TEXT,
    trace_id=st.sampled_from(["", TRACE]),
    headers=st.none() | st.lists(st.tuples(TEXT, TEXT).map(list), min_size=1, max_size=3),
)  # fmt: skip


@given(st.lists(KINDS, min_size=1, max_size=3), st.lists(st.tuples(st.integers(0, 2), SEENS), max_size=12))
def test_the_cheap_way_writes_the_same_bytes(kinds: list[Alike], picks: list[tuple[int, Seen]]) -> None:
    rows = [(kinds[which % len(kinds)], seen) for which, seen in picks]
    maker = recorder.Recorder(NAMES, CLOCK, (b"%d" % n for n in itertools.count()))
    found = [line for half in (rows[:5], rows[5:]) for line in maker.requests(batch(half))]
    known = directory.Directory(NAMES)
    assert found == [record.line(requests.flow(*row, known, CLOCK, str(n))) for n, row in enumerate(rows)]
    counts = maker.counts.snapshot()
    assert sum(counts.served.values()) == sum(sum(row) for row, _ in counts.latency.values()) == len(rows)
    assert sum(total for _, total in counts.latency.values()) == sum(seen.latency for _, seen in rows)


def _content(**changes: Any) -> list[Any]:
    found = batch([(ALIKE, SEEN), (ALIKE, SEEN)])._replace(**changes)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": [0, 1]}, {"kind": [0, -1]}, {"kind": [0, True]}, {"kind": [0]}, {"ended": [0, 1 << 63]},
        {"latency": [-1, 0]}, {"client_port": [0, 1]}, {"client_port": [1, 65536]}, {"url": ["x" * 2049, ""]},
        {"url": [1, ""]}, {"trace_id": ["ab", ""]}, {"trace_id": ['"' * 32, ""]}, 
        {"trace_id": [TRACE, TRACE[:15] + "\n" + TRACE[16:]]}, {"headers": [[], None]}, {"headers": [[["a"]], None]},
        {"headers": [[["a", "b" * 257]], None]}, {"headers": [[["a", "b"]] * 17, None]}, {"headers": [7, None]},
        {"lost": -1}, {"lost": "1"}, {"kinds": [1]}, {"kinds": [("200", *ALIKE[1:])]},
        {"kinds": [ALIKE._replace(client="x")]}, {"kinds": [ALIKE._replace(why="x" * 513)]},
        {"kinds": [ALIKE._replace(asked_at=2)]}, {"kinds": [ALIKE._replace(egress_rule=-2)]}, {"kinds": [ALIKE[:-1]]},
        {"kinds": [([], *ALIKE[1:])]}, {"kinds": [ALIKE] * 3},
    ],
)  # fmt: skip
def test_what_no_worker_says_is_refused(changes: dict[str, Any]) -> None:
    assert len(told.read(_content()).kind) == 2
    with pytest.raises((TypeError, ValueError)):
        told.read(_content(**changes))


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x, max_size=10)))
def test_whatever_comes_is_read_or_refused(content: Any) -> None:
    with contextlib.suppress(TypeError, ValueError):
        told.read(content)


def test_an_empty_batch_tells_what_is_lost() -> None:
    assert told.read(json.loads(json.dumps(told.Gathered().content(7)))).lost == 7


def test_the_longest_batch_fits_its_frame() -> None:
    from control import proxy_feed

    gathered = told.Gathered()
    text = "\x01" * told.MOST_TEXT
    headers = [["x" * told.MOST_VALUE, "\x01" * told.MOST_VALUE]] * told.MOST_HEADERS
    for n in range(told.BATCH):
        alike = ALIKE._replace(server_port=n + 1, why=text, told=text, method="\x01" * told.MOST_METHOD)
        gathered.add(tuple(alike[:9]), tuple(alike[9:]), *SEEN._replace(url="\x01" * told.MOST_URL, headers=headers))
    frame = proxy_feed.up("requests", gathered.content(0))
    assert len(frame) < proxy_feed.MOST_UP
    assert len(told.read(json.loads(frame[4:])[1]).kind) == told.BATCH


def test_counts() -> None:
    counts = request_counts.Counts()
    known = directory.Directory(NAMES)
    denied = ALIKE._replace(allowed=False, status=403)
    stranger = ALIKE._replace(
        client="8.8.8.8", source_endpoint=0, source_identity=2, method="BREW", status=0, why="gone"
    )
    counts.add(batch([(ALIKE, SEEN), (denied, SEEN), (ALIKE, SEEN), (stranger, SEEN)]), known)
    found = counts.snapshot()
    ends = ("shop/web", "shop/api")
    assert found.served == {
        (ends, "GET", "2xx"): 2, (ends, "GET", "4xx"): 1, (("world", "shop/api"), "other", "none"): 1,
    }  # fmt: skip
    assert found.refused == {"policy": 1, "gone": 1}
    row, total = found.latency[ends]
    assert row[2] == sum(row) == 3 and total == 3 * SEEN.latency  # 3.9 ms: over 2.5, up to 5


def test_series_are_bounded() -> None:
    counts = request_counts.Counts()
    known = directory.Directory(
        names.Names(endpoints={n: names.EndpointName(n, "a", f"p{n}", 0) for n in range(1, 3000)})
    )
    for n in range(1, 3000):
        counts.add(batch([(ALIKE._replace(source_endpoint=n), SEEN)]), known)
    found = counts.snapshot()
    assert len(found.latency) == 513 and len(found.served) == 513
    assert found.served[("other", "other"), "GET", "2xx"] == 2999 - 512


@pytest.mark.parametrize("module", [redact, request_counts])
def test_examples(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    "name",
    ["authorization", "Cookie", "set-cookie", "proxy-authorization", "x-api-key", "X-Amz-Security-Token", "x-auth-key",
     "x-password", "x-session-id", "apikey", "x-client-secret", "x-vault-token", "X-CSRF", "x-hub-signature-256"],
)  # fmt: skip
def test_secrets(name: str) -> None:
    assert redact.is_secret(name)


@pytest.mark.parametrize(
    "name", ["x-request-id", "user-agent", "accept", "content-type", "x-forwarded-for", "traceparent"]
)
def test_no_secrets(name: str) -> None:
    assert not redact.is_secret(name)
