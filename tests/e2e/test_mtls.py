"""mTLS between two nodes with real agents and proxies: any protocol, both ends proved, nothing in plaintext."""

import contextlib
import json
import re
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from loader import netns
from tests.e2e.test_interception import rules
from tests.hosts import Pod
from tests.hosts.site import Site, meshed, nodes
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e
Json = dict[str, Any]
_ETH_P_ALL = 3

# Port 80: HTTP, which says who calls. Port 7000: the server speaks first, sends back what it gets, and a hash of it.
_SERVER = """
import hashlib, http.server, socket, threading
def talk(c, peer):
    c.sendall(f"welcome {peer.removeprefix('::ffff:')}\\n".encode())
    whole = hashlib.sha256()
    while data := c.recv(65536):
        whole.update(data)
        c.sendall(data)
    c.sendall(whole.hexdigest().encode())
    c.close()
def talks():
    l = socket.create_server(("::", 7000), family=socket.AF_INET6, dualstack_ipv6=True)
    while True:
        c, (peer, *_) = l.accept()
        threading.Thread(target=talk, args=(c, peer), daemon=True).start()
threading.Thread(target=talks, daemon=True).start()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{self.client_address[0].removeprefix('::ffff:')} {self.path}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
Server(("::", 80), Handler).serve_forever()
"""
# Sends so many bytes while it reads what comes back, ends its side, and says what it got.
_TALK = """
import hashlib, os, socket, sys, threading
ip, count = sys.argv[1], int(sys.argv[2])
s = socket.create_connection((ip, 7000), 10)
first = s.recv(100).decode().strip()
sent, got, n = hashlib.sha256(), hashlib.sha256(), 0
def send():
    left = count
    while left:
        piece = os.urandom(min(left, 100_000))
        sent.update(piece)
        s.sendall(piece)
        left -= len(piece)
    s.shutdown(socket.SHUT_WR)
t = threading.Thread(target=send)
t.start()
rest = b""
while data := s.recv(65536):
    piece = data[:max(0, count - n)]
    got.update(piece)
    n += len(piece)
    rest += data[len(piece):]
t.join()
print(first, n == count and sent.digest() == got.digest() and rest.decode() == sent.hexdigest())
"""

# Calls so many times, one after the other, and says who was welcome.
_CALLS = """
import socket, sys
for _ in range(int(sys.argv[2])):
    with socket.create_connection((sys.argv[1], 7000), 10) as s:
        s.shutdown(socket.SHUT_WR)
        said = b""
        while data := s.recv(1000):
            said += data
    print("".join(said.decode().split("\\n")[0].split()))
"""


@pytest.fixture(scope="module", params=["permissive", "strict"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    policy = rules("ingress", "server", "client")
    policy["spec"]["ingress"].append(
        {
            "fromEndpoints": [{"matchLabels": {"app": app}} for app in ("client", "reader")],
            "toPorts": [{"ports": [{"port": "7000", "protocol": "TCP"}]}],
        }
    )
    with nodes() as (near, far):
        near.pod("reader", service_account="reader")
        far.pods["server"].popen([sys.executable, "-c", _SERVER])
        far.pods["server"].wait_listening(80)
        far.pods["server"].wait_listening(7000)
        with meshed(near, far, request.param, [policy]) as found:
            yield found


def curl(pod: Pod, *words: str) -> str:
    command = ["curl", "-s", "-m", "8", "-w", " %{http_code}", *words]
    return pod.run(command, check=False).stdout


def ready(site: Site) -> None:
    wait_until(lambda: "200" in curl(site.client, f"http://{site.server.ip}/public/x"), "a request passes", 20)


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_a_request_comes_from_its_client_and_meets_the_rules_of_the_server(site: Site, family: str) -> None:
    ready(site)
    theirs, mine = getattr(site.server, family), getattr(site.client, family)
    url = f"http://[{theirs}]" if ":" in theirs else f"http://{theirs}"
    assert curl(site.client, f"{url}/public/a") == f"{mine} /public/a 200"
    assert curl(site.client, f"{url}/private").endswith("403")


def test_any_protocol_both_ways_with_the_same_bytes(site: Site) -> None:
    ready(site)
    for count in (0, 1, 20_000_000):
        said = site.client.run([sys.executable, "-c", _TALK, site.server.ip, str(count)]).stdout.split()
        assert said == ["welcome", site.client.ip, "True"], count


def test_policy_of_the_server_is_against_another_client(site: Site) -> None:
    ready(site)
    assert curl(site.near.pods["stranger"], f"http://{site.server.ip}/public/a") == " 000"
    flow = site.far_mesh.wait_flow(lambda f: "denied by policy" in json.dumps(f.get("extensions", "")))
    assert flow["source"]["pod_name"] == "stranger" or flow["IP"]["source"] == site.near.pods["stranger"].ip


def test_who_proves_nothing_is_on_record_and_costs_nobody_a_record(site: Site) -> None:
    ready(site)
    before = len(site.far_mesh.flows())
    listening = site.far.run(["ss", "-Hltn", "sport", "=", ":4743"]).stdout.split()
    code = """
import socket, sys
with socket.create_connection((sys.argv[1], 4743), 10) as s:
    s.sendall(b"not in TLS " * 10)
    print(s.getsockname()[1])
    try:
        s.recv(100)
    except ConnectionResetError:
        pass
"""
    address = listening[3].rpartition(":")[0].strip("[]")
    port = int(site.near.run([sys.executable, "-c", code, address]).stdout)
    assert [curl(site.client, f"http://{site.server.ip}/public/{n}")[-3:] for n in range(5)] == ["200"] * 5
    flow = site.far_mesh.wait_flow(lambda f: f.get("l4", {}).get("TCP", {}).get("source_port") == port, since=before)
    assert flow["extensions"]["value"]["sockmesh"]["why"].startswith("mTLS: TLS: ")
    wanted = {f"http://{site.server.ip}/public/{n}" for n in range(5)}

    def recorded() -> set[str]:
        return {flow.get("l7", {}).get("http", {}).get("url") for flow in site.far_mesh.flows()[before:]}

    wait_until(lambda: wanted <= recorded(), "the others' records are there")


def test_nothing_of_it_is_in_plaintext_on_the_wire(site: Site) -> None:
    ready(site)
    # Of no protocol until it is bound: else it hears all interfaces before, and so what comes late of the last request.
    with netns.inside(site.far.netns, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) as tap:
        tap.bind(("wire1", _ETH_P_ALL))
        assert "200" in curl(site.client, f"http://{site.server.ip}/public/not-to-be-read")
        tap.setblocking(False)
        seen: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                seen.append(tap.recv(65536))
    assert len(b"".join(seen)) > 500 and not any(b"not-to-be-read" in each for each in seen)
    address = bytes(map(int, site.client.ip.split(".")))
    assert [each.hex() for each in seen if address in each] == [], "the pod's own address is not on the wire"


def test_connections_are_kept_for_the_next(site: Site) -> None:
    ready(site)

    def connections() -> set[str]:
        """Return the ports of all that go to the other node, and of those that have ended in the last minute."""
        shown = site.near.run(["ss", "-Hatn", "dport", "=", ":4743"]).stdout
        return {line.split()[3].rpartition(":")[2] for line in shown.splitlines()}

    # Of a pod that nobody else here calls from; each call begins when the one before has been told its server's end, as
    # then the proxy has been told it, too, and has its connection back.
    before = connections()
    reader = site.near.pods["reader"]
    said = reader.run([sys.executable, "-c", _CALLS, site.server.ip, "20"]).stdout.split()
    assert said == [f"welcome{reader.ip}"] * 20
    assert len(connections() - before) == 2, "one for each worker, as they get clients in turn"

    def handshakes() -> float:
        text = site.near.run(["curl", "-sS", "127.0.0.1:9965/metrics"]).stdout
        return sum(float(n) for n in re.findall(r'^sockmesh_mtls_handshakes_total{[^}]*"ok"[^}]*} (\S+)$', text, re.M))

    wait_until(lambda: handshakes() >= 2, "they are counted")
