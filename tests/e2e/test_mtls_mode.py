"""What is open in plaintext through the node proxies when mTLS is turned on: it goes on until plaintext is refused."""

import json
import select
import subprocess
import sys
from typing import Any

import pytest

from tests.e2e.test_interception import _SERVER, rules
from tests.hosts import Mesh, Pod
from tests.hosts.site import meshed, mtls_options, nodes
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e

# Asks on one connection for each line that it is told, and says the status; "lost" at once when it is over.
_ASKS = """
import http.client, select, sys
connection = http.client.HTTPConnection(sys.argv[1], timeout=5)
connection.connect()
connection.auto_open = 0
while True:
    ready, _, _ = select.select([sys.stdin, connection.sock], [], [])
    if connection.sock in ready:
        try:
            said = connection.sock.recv(1)
        except ConnectionResetError:
            said = b""
        print(said or "lost", flush=True)
        break
    if not sys.stdin.readline():
        break
    connection.request("GET", "/public/x")
    answer = connection.getresponse()
    answer.read()
    print(answer.status, flush=True)
"""


class Asks:
    """A client's connection to a server."""

    def __init__(self, client: Pod, server: Pod) -> None:
        command = [sys.executable, "-c", _ASKS, server.ip]
        self._child = client.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self) -> str:
        assert self._child.stdin
        self._child.stdin.write(b"\n")
        self._child.stdin.flush()
        return self.heard(10)

    def heard(self, within_s: float) -> str:
        """Return what it says next, "" if it does not in time."""
        out: Any = self._child.stdout
        return str(out.readline().decode().strip()) if select.select([out], [], [], within_s)[0] else ""


def turn(mesh: Mesh, options: tuple[str, ...]) -> None:
    """Start the agent anew in another mode."""
    mesh.stop()
    mesh.args = options
    mesh.start()


@pytest.mark.parametrize("whose", ["client's", "server's"])
def test_a_connection_in_plaintext_ends_when_its_node_turns_strict(whose: str) -> None:
    """By rules of the client, whose proxy calls in plaintext, or by the server's, whose proxy is called so."""
    policy = rules("egress", "client", "server") if whose == "client's" else rules("ingress", "server", "client")
    with nodes() as (near, far):
        far.pods["server"].popen([sys.executable, "-c", _SERVER])
        far.pods["server"].wait_listening(80)
        with meshed(near, far, ("off", "off" if whose == "client's" else "permissive"), [policy], workers=1) as site:
            mesh = site.near_mesh if whose == "client's" else site.far_mesh
            url = f"http://{site.server.ip}/public/x"
            call = ["curl", "-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", url]
            wait_until(lambda: site.client.run(call, check=False).stdout == "200", "a request passes", 20)
            asks = Asks(site.client, site.server)
            assert asks.ask() == "200"
            turn(mesh, mtls_options(near, "permissive"))
            assert asks.ask() == "200"
            turn(mesh, mtls_options(near, "strict"))
            assert asks.heard(within_s=1) == "lost"
            server = site.server.run(["ss", "-Htn", "state", "established", "sport", "=", ":80"]).stdout
            assert whose == "client's" or not server, "the server's end, which is on that node, is gone, too"
            is_it = lambda flow: "plaintext between nodes is refused now" in json.dumps(flow)  # noqa: E731
            mesh.wait_flow(is_it, "it is on record")
