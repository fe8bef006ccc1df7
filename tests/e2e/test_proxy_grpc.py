"""gRPC with the node proxy between client and server: every kind of call, on one node and across two with mTLS."""

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.hosts import Pod
from tests.hosts.site import Site, meshed, nodes
from tests.hosts.wait import wait_until
from tests.programs import running

pytestmark = pytest.mark.e2e
Json = dict[str, Any]
Ask = Callable[..., Json]
PORT, SHORT_PORT, DYING_PORT = 50051, 50052, 50053
DENIED = "PERMISSION_DENIED: Access denied"
POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "orders", "namespace": "default"},
    "spec": {
        "endpointSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["beside", "server"]}]},
        "ingress": [
            {
                "fromEndpoints": [{"matchLabels": {"app": "client"}}],
                "toPorts": [
                    {
                        "ports": [{"port": str(port), "protocol": "TCP"} for port in (PORT, SHORT_PORT, DYING_PORT)],
                        "rules": {"http": [{"method": "POST", "path": "/shop.Orders/.*"}]},
                    }
                ],
            }
        ],
    },
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with nodes() as (near, far), contextlib.ExitStack() as stack:
        pods = [near.pod("beside", service_account="beside"), far.pods["server"]]
        argv = [sys.executable, running.HERE / "src" / "grpc_server.py", PORT, SHORT_PORT]
        for pod in pods:
            log = far.directory / f"grpc-{pod.name}.log"
            stack.enter_context(running.running(pod, argv, SHORT_PORT, log))
        with meshed(near, far, "strict", [POLICY]) as site:
            for pod in pods:
                url = f"http://{pod.ip}:{PORT}/shop.Admin"
                wait_until(functools.partial(_is_refused, site.client, url), f"{url} is refused", 20)
            yield site


def _is_refused(client: Pod, url: str) -> bool:
    command = ["curl", "-s", "-m", "5", "--http2-prior-knowledge", "-o", "/dev/null", "-w", "%{http_code}", url]
    return client.run(command, check=False).stdout == "403"


@pytest.fixture(params=["beside", "elsewhere"])
def ask(site: Site, request: pytest.FixtureRequest) -> Ask:
    server = site.near.pods["beside"] if request.param == "beside" else site.server

    def run(what: str, port: int = PORT) -> Json:
        found: Json = running.ask(site.client, "grpc_client.py", f"{server.ip}:{port}", what)
        return found

    return run


def test_unary_with_metadata_both_ways(ask: Ask) -> None:
    assert ask("unary") == {"same": 10, "of": 10}


def test_streams_of_every_kind(ask: Ask) -> None:
    assert ask("streams") == {"down": True, "up": True, "both": True, "count": True}


def test_both_sides_in_turn(ask: Ask) -> None:
    assert ask("turns") == {"said": 200}


def test_a_deadline_is_known_to_both(ask: Ask) -> None:
    found = ask("deadline")
    assert found["status"] == "DEADLINE_EXCEEDED: Deadline Exceeded" and found["same connection"]
    assert found["ended"][-1] == ["slow", True, False]


def test_a_call_that_is_cancelled_ends_at_the_server(ask: Ask) -> None:
    found = ask("cancel")
    assert found["got"] == [1000] * 3 and found["status"].startswith("CANCELLED") and found["same connection"]
    assert found["ended"][-1][0] == "endless"


def test_a_failure_and_what_the_server_says_of_it(ask: Ask) -> None:
    assert ask("fail") == {"code": "NOT_FOUND", "said": "no such order: größer % 7", "trailers": {"x-order": "7"}}


def test_a_refused_method_and_the_channel_lives_on(ask: Ask) -> None:
    found = ask("refused")
    assert found["statuses"] == {name: {DENIED: 20} for name in ("unary", "down", "up", "both")}
    assert ["admin"] not in found["ended"] and found["same connection"]


def test_many_calls_at_once(ask: Ask) -> None:
    answers = {"Orders/Echo OK": 320, f"Admin/Delete {DENIED}": 320}
    assert ask("crowd") == {"answers": answers, "stream": 1000}


def test_a_server_that_bids_farewell_loses_no_call(ask: Ask) -> None:
    assert ask("short", SHORT_PORT) == {"statuses": ["OK"], "connections": True}


@pytest.mark.parametrize("where", ["beside", "elsewhere"])
def test_a_server_that_dies_is_unavailable(site: Site, where: str) -> None:
    server = site.near.pods["beside"] if where == "beside" else site.server
    server.popen([sys.executable, str(running.HERE / "src" / "grpc_server.py"), str(DYING_PORT), str(DYING_PORT + 1)])
    server.wait_listening(DYING_PORT)
    found = running.ask(site.client, "grpc_client.py", f"{server.ip}:{DYING_PORT}", "die")
    assert (found["got"], found["statuses"]) == (1000, ["UNAVAILABLE", "UNAVAILABLE"]), found["said"]


def test_a_refusal_is_on_record(site: Site) -> None:
    running.ask(site.client, "grpc_client.py", f"{site.near.pods['beside'].ip}:{PORT}", "refused")
    flow = site.near_mesh.wait_flow(
        lambda flow: flow.get("l7", {}).get("http", {}).get("url", "").endswith("/shop.Admin/Delete")
    )
    assert (flow["verdict"], flow["source"]["pod_name"], flow["destination"]["pod_name"]) == (
        "DROPPED",
        "client",
        "beside",
    )
    assert flow["extensions"]["value"]["sockmesh"]["grpc_status"] == 7
    assert flow["ingress_denied_by"][0]["name"] == "orders"
