"""A request meets policy at the node proxy: led there by the kernel, and on to the server from the client's address."""

import json
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.hosts import Mesh, Node, Pod
from tests.hosts.mesh import ROOT
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e
Json = dict[str, Any]
_RECORDED = ["--record-header", "X-Request-Id", "--record-header", "authorization"]

_SERVER = """
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{self.client_address[0]} {self.command} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", 80), Handler).serve_forever()
"""


def rules(direction: str, who: str, peer: str) -> Json:
    way = {"ingress": "fromEndpoints", "egress": "toEndpoints"}[direction]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": f"{who}-{direction}", "namespace": "default"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": who}},
            direction: [
                {
                    way: [{"matchLabels": {"app": peer}}],
                    "toPorts": [
                        {
                            "ports": [{"port": "80", "protocol": "TCP"}],
                            "rules": {"http": [{"method": "GET", "path": "/public/.*"}]},
                        }
                    ],
                }
            ],
        },
    }


@dataclass
class Place:
    node: Node
    mesh: Mesh
    client: Pod
    server: Pod

    def curl(self, *words: str, pod: Pod | None = None) -> str:
        return (pod or self.client).run(["curl", "-s", "-m", "5", "-w", " %{http_code}", *words], check=False).stdout


@pytest.fixture(scope="module", params=["ingress", "egress"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    who, peer = ("server", "client") if request.param == "ingress" else ("client", "server")
    with Node("intercept") as node:
        client, server = node.pod("client"), node.pod("server")
        node.pod("other")
        server.popen([sys.executable, "-c", _SERVER])
        server.wait_listening(80)
        with Mesh(node, [rules(request.param, who, peer)], args=["--proxy", *_RECORDED]) as mesh:
            command = [
                sys.executable,
                "-m",
                "control.cli.main",
                "proxy",
                "--run-dir",
                str(mesh.run_dir),
                "--workers",
                "2",
            ]
            with (node.directory / "proxy.log").open("ab") as log:
                proxy = node.popen(command, stdout=log, stderr=log, cwd=ROOT)
            place = Place(node, mesh, client, server)
            try:
                wait_until(lambda: "200" in place.curl(f"http://{server.ip}/public/x"), "a request passes", 20)
                yield place
            finally:
                proxy.send_signal(signal.SIGTERM)
                proxy.wait(timeout=10)
                print((node.directory / "proxy.log").read_text())


def test_a_request_that_a_rule_allows_comes_from_the_client(place: Place) -> None:
    assert place.curl(f"http://{place.server.ip}/public/a") == f"{_seen(place.client.ip)} GET /public/a 200"


def test_another_request_is_refused_and_the_connection_lives_on(place: Place) -> None:
    url = f"http://{place.server.ip}"
    said = place.curl("-v", f"{url}/private", f"{url}/public/b")
    assert ("403" in said and said.endswith("GET /public/b 200 ")) or said.endswith("200")


def test_ipv6(place: Place) -> None:
    assert place.curl(f"http://[{place.server.ip6}]/public/a") == f"{place.client.ip6} GET /public/a 200"


def test_records(place: Place) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "x-request-id": "seven", "authorization": "hush-hush"}
    words = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    place.curl(*words, f"http://{place.server.ip}/public/recorded?a")
    flow = place.mesh.wait_flow(lambda f: _url(f).endswith("/public/recorded?a"))
    print(json.dumps(flow))
    assert flow["l7"]["http"]["code"] == 200 and int(flow["l7"]["latency_ns"]) > 0
    assert (flow["verdict"], flow["is_reply"], flow["l7"]["type"]) == ("FORWARDED", True, "RESPONSE")
    assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("server", "client")
    assert flow["trace_context"] == {"parent": {"trace_id": trace}}
    recorded = {header["key"]: header["value"] for header in flow["l7"]["http"]["headers"]}
    assert recorded == {"x-request-id": "seven", "authorization": "HUBBLE_REDACTED"}
    assert "hush-hush" not in json.dumps(flow)


def test_a_record_of_a_refusal_names_the_policy(place: Place) -> None:
    place.curl(f"http://{place.server.ip}/private/recorded")
    flow = place.mesh.wait_flow(lambda f: _url(f).endswith("/private/recorded"))
    assert (flow["verdict"], flow["is_reply"], flow["source"]["pod_name"]) == ("DROPPED", False, "client")
    assert flow["l7"]["http"]["code"] == 403
    way = flow["traffic_direction"].lower()
    (policy,) = flow[f"{way}_denied_by"]
    assert policy["name"].endswith(f"-{way}")


def test_observe(place: Place) -> None:
    place.curl("-H", "x-request-id: eight", f"http://{place.server.ip}/public/observed")
    place.mesh.wait_flow(lambda f: _url(f).endswith("/public/observed"))
    words = ["--all"]
    filters = {
        "type": "l7", "http-method": "get", "http-status": "2+", "http-header": "x-request-id:eight",
        "to-pod": "client", "http-path": "^/public/observed$",
    }  # fmt: skip
    words += [word for name, value in filters.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "control.cli.main", "observe", "--run-dir", str(place.mesh.run_dir), *words]
    (line,) = place.node.run(command, cwd=ROOT).stdout.splitlines()
    assert re.search(r": default/client:\d+ \(ID:\d+\) <- default/server:80 \(ID:\d+\) http-response FORWARDED", line)
    assert re.search(rf"\(HTTP/1.1 200 \d+ms \(GET http://{place.server.ip}/public/observed\)\)$", line)


def test_metrics(place: Place) -> None:
    before = _counted(place, 'sockmesh_http_requests_refused_total{reason="policy"}')
    for path in ("public/counted", "private/counted"):
        place.curl(f"http://{place.server.ip}/{path}")
    name = 'sockmesh_http_requests_refused_total{reason="policy"}'
    wait_until(lambda: _counted(place, name) == before + 1, "the refused request is counted")
    ends = 'destination="default/server",method="GET",source="default/client"'
    assert _counted(place, f'sockmesh_http_requests_total{{{ends},status="2xx"}}') > 0
    ends = 'destination="default/server",le="+Inf",source="default/client"'
    assert _counted(place, f"sockmesh_http_request_duration_seconds_bucket{{{ends}}}") > 1


def _counted(place: Place, series: str) -> float:
    lines = place.node.run(["curl", "-s", "127.0.0.1:9965/metrics"]).stdout.splitlines()
    found = [line for line in lines if line.startswith("sockmesh_http")]
    return next((float(line.rpartition(" ")[2]) for line in found if line.startswith(f"{series} ")), 0.0)


def _url(flow: Json) -> str:
    return str(flow.get("l7", {}).get("http", {}).get("url", ""))


def _seen(ip: str) -> str:
    return f"::ffff:{ip}"
