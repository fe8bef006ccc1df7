"""Requests through the node proxy as spans at a real collector, and what the server sees of the trace."""

import json
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from subprocess import PIPE
from typing import Any

import pytest

from tests.hosts import Mesh, Node, Pod
from tests.hosts.collector import PORT, Collector
from tests.hosts.mesh import ROOT
from tests.hosts.proxy import proxy
from tests.hosts.site import meshed, nodes
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e
Json = dict[str, Any]

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SHORT = TRACE[16:].rjust(32, "0")
# What has come of each header that is about traces, one a line.
_HEADERS = ("traceparent", "tracestate", "b3", "x_b3_traceid", "x_b3_spanid", "x_b3_parentspanid", "x_b3_sampled")
_NGINX = """
daemon off; pid DIR/nginx.pid; error_log /dev/null;
events {}
http {
  access_log off; client_body_temp_path DIR/t1; proxy_temp_path DIR/t2; fastcgi_temp_path DIR/t3;
  uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5;
  server {
    listen 80; listen 81 http2; listen 82;
    location /public/bad { return 503; }
    location / { return 200 "SAYS"; }
  }
}
"""
# Asks for each path that it is told of, all on one connection, and says the first line of each answer.
_ASKS = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1])
connection.connect()
connection.auto_open = 0
for path in sys.stdin:
    connection.request("GET", path.strip())
    print(connection.getresponse().read().decode().splitlines()[0], flush=True)
"""
VERSIONS = pytest.mark.parametrize(
    ("port", "flag", "version"), [(80, "--http1.1", "1.1"), (81, "--http2-prior-knowledge", "2")]
)


@dataclass
class Place:
    node: Node
    mesh: Mesh
    client: Pod
    server: Pod
    collector: Collector

    def ask(self, path: str, *headers: str, port: int = 80, flag: str = "--http1.1", more: tuple[str, ...] = ()) -> str:
        words = [word for header in headers for word in ("-H", header)]
        url = f"http://{self.server.ip}:{port}{path}"
        return self.client.run(["curl", "-s", "-m", "5", flag, *words, *more, url], check=False).stdout

    def heard(self, path: str, *headers: str, port: int = 80, flag: str = "--http1.1") -> dict[str, str]:
        """Ask, and return what the server has heard of traces."""
        said = self.ask(path, *headers, port=port, flag=flag)
        return {name: value for name, _, value in (line.partition("=") for line in said.splitlines()) if value}

    @property
    def where(self) -> list[str]:
        return ["--run-dir", str(self.mesh.run_dir), "--pin-dir", str(self.node.pins)]

    def span(self, path: str) -> Json:
        return self.collector.wait(lambda span: span["attributes"].get("url.path") == path, f"a span of {path}")

    def metric(self, series: str) -> float:
        lines = self.node.run(["curl", "-s", "127.0.0.1:9965/metrics"]).stdout.splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} ")), -1.0)

    def losses(self, reason: str) -> float:
        return self.metric(f'sockmesh_spans_lost_total{{reason="{reason}"}}')


def policy(*ports: int) -> Json:
    """What the server is asked on these ports."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "reading", "namespace": "default"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "client"}}], "toPorts": [_requests(*ports)]}],
        },
    }


def _requests(*ports: int) -> Json:
    return {
        "ports": [{"port": str(port), "protocol": "TCP"} for port in ports],
        "rules": {"http": [{"method": "GET", "path": "/public/.*"}]},
    }


def serve(server: Pod, node: Node) -> None:
    says = "".join(f"{name}=$http_{name}\\n" for name in _HEADERS)
    config = node.directory / "nginx.conf"
    config.write_text(_NGINX.replace("DIR", str(node.directory)).replace("SAYS", says))
    server.popen(["nginx", "-c", str(config)])
    server.wait_listening(80)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patched, Node("tracing") as node:
        patched.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")  # of a collector that is not there
        client, server = node.pod("client"), node.pod("server")
        serve(server, node)
        args = ["--proxy", "--otlp-endpoint", f"http://127.0.0.1:{PORT}"]
        with (
            Mesh(node, [policy(80, 81)], args=args) as mesh,
            proxy(node, mesh, "--workers", "1"),
            Collector(node) as collector,
        ):
            place = Place(node, mesh, client, server, collector)
            wait_until(lambda: "traceparent=" in place.ask("/public/x"), "a request passes", 20)
            yield place


@VERSIONS
def test_a_traced_request_is_a_span_between_caller_and_server(place: Place, port: int, flag: str, version: str) -> None:
    path = f"/public/traced-{port}"
    before = time.time_ns()
    heard = place.heard(
        f"{path}?secret",
        f"traceparent: 00-{TRACE}-{PARENT}-01",
        "tracestate: a=1",
        "Host: shop:8080",
        port=port,
        flag=flag,
    )
    span = place.span(path)
    assert heard == {"traceparent": f"00-{TRACE}-{span['id']}-01", "tracestate": "a=1"}
    assert (span["trace"], span["parent"], span["name"], span["kind"]) == (TRACE, PARENT, "GET", 2)
    assert before < span["start"] < span["end"] < time.time_ns() and not span["error"]
    resource = span["resource"]
    assert (resource["service.name"], resource["k8s.node.name"]) == ("sockmesh-proxy", "tracing")
    ports = span["attributes"].pop("client.port")
    assert 1024 < ports < 65536 and span["attributes"] == {
        "http.request.method": "GET", "url.scheme": "http", "url.path": path, "http.response.status_code": 200,
        "network.protocol.name": "http", "network.protocol.version": version,
        "network.peer.address": place.client.ip, "network.local.address": place.server.ip,
        "client.address": place.client.ip, "server.address": "shop", "server.port": port,
        "sockmesh.verdict": "FORWARDED", "sockmesh.direction": "ingress",
        "sockmesh.policy": "CiliumNetworkPolicy/default/reading",
        "sockmesh.source.workload": "default/client", "sockmesh.source.pod": "default/client",
        "sockmesh.destination.workload": "default/server", "sockmesh.destination.pod": "default/server",
    }  # fmt: skip
    flow = place.mesh.wait_flow(lambda flow: path in json.dumps(flow))
    assert flow["trace_context"] == {"parent": {"trace_id": TRACE}}


@VERSIONS
def test_b3(place: Place, port: int, flag: str, version: str) -> None:
    single, multi = f"/public/single-{port}", f"/public/multi-{port}"
    heard = place.heard(single, f"B3: {TRACE[16:]}-{PARENT}-1", port=port, flag=flag)
    span = place.span(single)
    assert (span["trace"], span["parent"]) == (SHORT, PARENT)
    assert heard == {"b3": f"{TRACE[16:]}-{span['id']}-1-{PARENT}"}
    given = {"X-B3-TraceId": TRACE, "X-B3-SpanId": PARENT, "X-B3-Sampled": "1"}
    heard = place.heard(multi, *(f"{name}: {value}" for name, value in given.items()), port=port, flag=flag)
    span = place.span(multi)
    assert (span["trace"], span["parent"]) == (TRACE, PARENT)
    wanted = {"traceid": TRACE, "spanid": span["id"], "parentspanid": PARENT, "sampled": "1"}
    assert heard == {f"x_b3_{name}": value for name, value in wanted.items()}
    place.mesh.wait_flow(lambda flow: flow.get("trace_context") == {"parent": {"trace_id": SHORT}})


@VERSIONS
def test_what_is_not_sampled_goes_on_as_it_came_and_is_no_span(
    place: Place, port: int, flag: str, version: str
) -> None:
    path = f"/public/quiet-{port}"
    ways = [
        (f"traceparent: 00-{TRACE}-{PARENT}-00", "tracestate: a=1"),
        (f"b3: {TRACE}-{PARENT}-0",), ("b3: 0",), (f"b3: {TRACE}-{PARENT}",), (),
        (f"traceparent: 00-{TRACE}-{PARENT}-1",), (f"traceparent: ff-{TRACE}-{PARENT}-01",),
    ]  # fmt: skip
    for headers in ways:
        heard = place.heard(path, *headers, port=port, flag=flag)
        assert heard == dict(re.split(": ", header, maxsplit=1) for header in headers)
    last = f"/public/loud-{port}"
    place.ask(last, f"traceparent: 00-{TRACE}-{PARENT}-01", port=port, flag=flag)
    place.span(last)
    assert not [span for span in place.collector.spans() if span["attributes"].get("url.path") == path]


@VERSIONS
def test_errors_and_refusals(place: Place, port: int, flag: str, version: str) -> None:
    sampled = f"traceparent: 00-{TRACE}-{PARENT}-01"
    place.ask(f"/public/bad/{port}", sampled, port=port, flag=flag)
    place.ask(f"/denied/{port}", sampled, port=port, flag=flag)
    span = place.span(f"/public/bad/{port}")
    assert span["error"] and span["attributes"]["error.type"] == "503"
    span = place.span(f"/denied/{port}")
    assert not span["error"] and span["attributes"]["http.response.status_code"] == 403
    assert span["attributes"]["sockmesh.verdict"] == "DROPPED"
    assert span["attributes"]["sockmesh.policy"] == "CiliumNetworkPolicy/default/reading"


def test_metrics_and_status(place: Place) -> None:
    place.ask("/public/counted", f"traceparent: 00-{TRACE}-{PARENT}-01")
    place.span("/public/counted")
    wait_until(lambda: place.metric("sockmesh_spans_sent_total") >= len(place.collector.spans()), "they are counted")
    assert [place.losses(reason) for reason in ("queue", "collector", "exporter")] == [0, 0, 0]
    said = place.mesh.call("status")
    assert said["tracing"]["endpoint"] == f"http://127.0.0.1:{PORT}/v1/traces" and said["warnings"] == []
    shown = place.node.run([sys.executable, "-m", "control.cli.main", "status", *place.where], cwd=ROOT, check=False)
    assert re.search(r"\ntracing +[0-9]+ spans? sent to http://127.0.0.1:4318/v1/traces\n", shown.stdout)


def test_a_collector_that_is_gone_holds_no_request(place: Place) -> None:
    """Run as one of the last: the collector comes back, and so do spans."""
    place.collector.stop()
    lost = place.losses("collector")
    began = time.monotonic()
    for number in range(20):
        assert place.heard(f"/public/alone/{number}", f"traceparent: 00-{TRACE}-{PARENT}-01")
    assert time.monotonic() - began < 10
    wait_until(lambda: place.losses("collector") >= lost + 20, "they are counted as lost", 60)
    assert "takes no spans" in " ".join(place.mesh.call("status")["warnings"])
    place.collector.start()
    place.ask("/public/again", f"traceparent: 00-{TRACE}-{PARENT}-01")
    place.span("/public/again")
    assert place.mesh.call("status")["warnings"] == []
    log = place.mesh.log.read_text()
    assert log.count("takes no spans") == 1 and "takes spans again" in log


def test_an_agent_with_another_ratio_counts_for_open_connections(place: Place) -> None:
    """A client that asks on one connection, before and after."""
    client = place.client.popen([sys.executable, "-c", _ASKS, place.server.ip], stdin=PIPE, stdout=PIPE, text=True)
    assert client.stdin and client.stdout

    def ask(path: str) -> str:
        assert client.stdin and client.stdout
        client.stdin.write(f"{path}\n")
        client.stdin.flush()
        return str(client.stdout.readline()).strip()

    assert ask("/public/before") == "traceparent="
    place.mesh.stop()
    place.mesh.args = (*place.mesh.args, "--trace-ratio", "1")
    place.mesh.start()
    heard = wait_until(lambda: ask("/public/after").removeprefix("traceparent="), "a request is traced")
    span = place.span("/public/after")
    assert heard == f"00-{span['trace']}-{span['id']}-01" and not span["parent"]
    client.stdin.close()
    assert client.wait(10) == 0


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[Place, Place]]:
    """The client's node and the server's, with mTLS between them. Both ends have rules for 80 and 81, and the server
    alone for 82."""
    sending: Json = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}
    sending["metadata"] = {"name": "sending", "namespace": "default"}
    sending["spec"] = {
        "endpointSelector": {"matchLabels": {"app": "client"}},
        "egress": [
            {"toEndpoints": [{"matchLabels": {"app": "server"}}], "toPorts": [_requests(80, 81)]},
            {"toEndpoints": [{"matchLabels": {"app": "server"}}], "toPorts": [{"ports": [{"port": "82"}]}]},
        ],
    }
    args = ["--otlp-endpoint", f"http://127.0.0.1:{PORT}"]
    with nodes() as (near, far):
        serve(far.pods["server"], far)
        with (
            meshed(near, far, "strict", [policy(80, 81, 82), sending], workers=1, args=args) as site,
            Collector(near) as nears,
            Collector(far) as fars,
        ):
            place = Place(near, site.near_mesh, site.client, site.server, nears)
            wait_until(lambda: "traceparent=" in place.ask("/public/x"), "a request passes", 20)
            yield place, Place(far, site.far_mesh, site.client, site.server, fars)


@VERSIONS
def test_two_nodes_that_look_into_a_request_make_a_span_in_a_span(
    places: tuple[Place, Place], port: int, flag: str, version: str
) -> None:
    near, far = places
    path = f"/public/both-{port}"
    heard = near.heard(path, f"traceparent: 00-{TRACE}-{PARENT}-01", port=port, flag=flag)
    outer, inner = near.span(path), far.span(path)
    assert [each["trace"] for each in (outer, inner)] == [TRACE, TRACE]
    assert (outer["parent"], inner["parent"]) == (PARENT, outer["id"])
    assert heard["traceparent"] == f"00-{TRACE}-{inner['id']}-01"
    assert outer["start"] <= inner["start"] < inner["end"] <= outer["end"]
    told = ("sockmesh.direction", "sockmesh.policy", "client.address", "network.protocol.version")
    reading, sending = (f"CiliumNetworkPolicy/default/{name}" for name in ("reading", "sending"))
    assert [outer["attributes"][each] for each in told] == ["egress", sending, near.client.ip, version]
    assert [inner["attributes"][each] for each in told] == ["ingress", reading, near.client.ip, version]
    assert [each["resource"]["k8s.node.name"] for each in (outer, inner)] == ["near", "far"]


def test_a_node_that_only_carries_a_request_makes_no_span(places: tuple[Place, Place]) -> None:
    near, far = places
    path, last = "/public/one", "/public/after"
    heard = near.heard(path, f"traceparent: 00-{TRACE}-{PARENT}-01", port=82)
    span = far.span(path)
    assert span["parent"] == PARENT and heard["traceparent"] == f"00-{TRACE}-{span['id']}-01"
    near.ask(last, f"traceparent: 00-{TRACE}-{PARENT}-01")
    near.span(last)
    assert [each for each in near.collector.spans() if each["attributes"]["url.path"] == path] == []
