"""Nobody gets past the node proxy, and nobody speaks in its stead: the kernel's side of interception."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from loader import abi
from tests.hosts import Mesh, Node, Pod
from tests.hosts.proxy import proxy
from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.puppet import Puppet

pytestmark = pytest.mark.kernel
Json = dict[str, Any]

SERVER = """
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        print(self.path, flush=True)
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
WAIT_S = 4 * PATIENCE
HTTP = {"http": [{"method": "GET", "path": "/public/.*"}]}
OPEN: Json = {}


def policy(who: str, rules: Json | None, direction: str = "ingress", **peer: Any) -> Json:
    """Return a policy that lets port 80 be called, for these requests."""
    way: Json = dict(peer)
    if rules is not None:
        way["toPorts"] = [{"ports": [{"port": "80", "protocol": "TCP"}], **({"rules": rules} if rules else {})}]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "rules", "namespace": "default"},
        "spec": {"endpointSelector": {"matchLabels": {"app": who}}, direction: [way]},
    }


FROM_CLIENT: dict[str, Any] = {"fromEndpoints": [{"matchLabels": {"app": "client"}}]}


def serve(pod: Pod) -> None:
    pod.popen([sys.executable, "-c", SERVER])
    pod.wait_listening(80)


def curl(pod: Pod, *words: str) -> str:
    """Return what came, and the status; 000: nothing."""
    return pod.run(["curl", "-s", "-m", f"{WAIT_S:g}", "-w", " %{http_code}", *words], check=False).stdout.strip()


@pytest.fixture
def node() -> Iterator[Node]:
    with Node("detour") as node:
        node.pod("client")
        serve(node.pod("server"))
        yield node


@contextlib.contextmanager
def meshed(node: Node, *policies: Json, **given: Any) -> Iterator[Mesh]:
    with Mesh(node, policies, args=["--proxy"], **given) as mesh, proxy(node, mesh, "--workers", "1"):
        yield mesh


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_a_call_from_another_node_meets_the_rules_of_the_server(family: str) -> None:
    with Node("far", "10.1.0.0/24", "fd00:1::/64") as far, Node("near", "10.2.0.0/24", "fd00:2::/64") as near:
        far.join(near)
        client, server = far.pod("client"), near.pod("server")
        serve(server)
        with meshed(near, policy("server", HTTP, fromEntities=["world"])):
            address = f"[{server.ip6}]" if family == "ip6" else server.ip
            assert curl(client, f"http://{address}/public/a") == f"{getattr(client, family)} /public/a 200"
            assert curl(client, f"http://{address}/private").endswith("403")


@pytest.mark.parametrize("family", ["ip", "ip6"])
def test_a_call_to_another_node_meets_the_rules_of_the_client(family: str) -> None:
    with Node("near", "10.1.0.0/24", "fd00:1::/64") as near, Node("far", "10.2.0.0/24", "fd00:2::/64") as far:
        near.join(far)
        client, server = near.pod("client"), far.pod("server")
        serve(server)
        with meshed(near, policy("client", HTTP, "egress", toEntities=["world"])):
            address = f"[{server.ip6}]" if family == "ip6" else server.ip
            assert curl(client, f"http://{address}/public/a") == f"{getattr(client, family)} /public/a 200"
            assert curl(client, f"http://{address}/private").endswith("403")


def test_without_a_proxy_nobody_is_called(node: Node) -> None:
    client, server = node.pods["client"], node.pods["server"]
    with Mesh(node, [policy("server", HTTP, **FROM_CLIENT)], args=["--proxy"]):
        assert curl(client, f"http://{server.ip}/public/a") == "000"


def test_both_ends_may_ask(node: Node) -> None:
    client, server = node.pods["client"], node.pods["server"]
    egress = policy("client", {"http": [{"path": "/public/a"}]}, "egress", toEndpoints=[{}])
    egress["metadata"]["name"] = "egress"
    with meshed(node, policy("server", HTTP, **FROM_CLIENT), egress):
        assert curl(client, f"http://{server.ip}/public/a") == f"{client.ip} /public/a 200"
        assert curl(client, f"http://{server.ip}/public/b").endswith("403")
        assert curl(client, "-X", "POST", f"http://{server.ip}/public/a").endswith("403")


def test_a_mark_of_the_client_counts_for_nothing(node: Node) -> None:
    client, server = node.pods["client"], node.pods["server"]
    ask = """
s = socket.socket()
s.settimeout(wait)
s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x5e500000)
s.connect((ip, 80))
s.sendall(b"GET /private HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
result = s.recv(12).decode()
"""
    with meshed(node, policy("server", HTTP, **FROM_CLIENT)):
        puppet = Puppet(client)
        puppet.do("import socket")
        with contextlib.suppress(OSError):  # it goes nowhere, or to the proxy
            assert puppet.do(ask, ip=server.ip, wait=WAIT_S).endswith("403")


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_nobody_else_speaks_on_the_proxys_connection(node: Node, direction: str) -> None:
    client, server = node.pods["client"], node.pods["server"]
    rules = (
        policy("server", HTTP, **FROM_CLIENT)
        if direction == "ingress"
        else policy("client", HTTP, "egress", toEndpoints=[{"matchLabels": {"app": "server"}}])
    )
    with meshed(node, rules) as mesh, mesh.open_maps() as maps:
        puppet = Puppet(client)
        puppet.do("import http.client, socket, struct; c = http.client.HTTPConnection(ip, timeout=wait)",
                  ip=server.ip, wait=WAIT_S)  # fmt: skip
        ask = "c.request('GET', path); r = c.getresponse(); r.read(); result = r.status"
        assert puppet.do(ask, path="/public/a") == 200

        def inner() -> int:
            return next((k.sport for k, v in maps.ct.items() if v.flags & abi.CtFlag.FROM_PROXY and k.dport == 80), 0)

        port = wait_until(inner, "the proxy has called the server")
        before = len(mesh.flows())
        puppet.do(
            """
body = b"GET /private HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
a, b = (socket.inet_pton(socket.AF_INET, ip) for ip in (mine, ip))
tcp = struct.pack("!HHIIBBHHH", port, 80, 1, 1, 5 << 4, 0x18, 1000, 0, 0) + body
total = checksum(a + b + struct.pack("!BBH", 0, 6, len(tcp)) + tcp)
tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + a + b
send_packet(head[:10] + struct.pack("!H", checksum(head)) + head[12:] + tcp, ip)
""",
            mine=client.ip, ip=server.ip, port=port,
        )  # fmt: skip
        flow = mesh.wait_flow(
            lambda f: f["verdict"] == "DROPPED" and f["l4"].get("TCP", {}).get("source_port") == port,
            "the forged packet is dropped", since=before,
        )  # fmt: skip
        assert flow["source"]["pod_name"] == "client"
        # The connection itself lives on.
        puppet.do("same = c.sock")
        assert puppet.do(ask, path="/public/b") == 200
        assert puppet.do("result = c.sock is same")


def test_what_is_open_is_reset_when_it_is_to_be_looked_into(node: Node) -> None:
    client, server = node.pods["client"], node.pods["server"]
    with meshed(node, policy("server", OPEN, **FROM_CLIENT)) as mesh:
        puppet = Puppet(client)
        puppet.do("import socket")
        ask = "s.sendall(b'GET /private HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); result = s.recv(4096).decode()[:12]"
        puppet.do("s = socket.create_connection((ip, 80)); s.settimeout(wait)", ip=server.ip, wait=WAIT_S)
        assert puppet.do(ask) == "HTTP/1.1 200"
        mesh.apply("policy-0", policy("server", HTTP, **FROM_CLIENT))
        mesh.settle()
        with pytest.raises(OSError):
            puppet.do(ask)
        assert curl(client, f"http://{server.ip}/public/a").endswith("200")
        assert curl(client, f"http://{server.ip}/private").endswith("403")


def test_what_goes_by_the_proxy_follows_policy(node: Node) -> None:
    client, server = node.pods["client"], node.pods["server"]
    with meshed(node, policy("server", HTTP, **FROM_CLIENT)) as mesh:
        puppet = Puppet(client)
        puppet.do("import http.client; c = http.client.HTTPConnection(ip, timeout=wait); c.connect(); same = c.sock",
                  ip=server.ip, wait=WAIT_S)  # fmt: skip
        ask = "c.request('GET', path); r = c.getresponse(); r.read(); result = r.status if c.sock is same else 'anew'"

        def asked(path: str) -> int:
            return int(puppet.do(ask, path=path))

        def put(rules: Json) -> None:
            mesh.apply("policy-0", rules)
            mesh.settle()

        assert (asked("/public/a"), asked("/private")) == (200, 403)
        put(policy("server", {"http": [{"path": "/private"}]}, **FROM_CLIENT))
        assert (asked("/public/a"), asked("/private")) == (403, 200)
        put(policy("server", OPEN, **FROM_CLIENT))
        assert (asked("/public/a"), asked("/private")) == (200, 200)
        put(policy("server", OPEN, fromEndpoints=[{"matchLabels": {"app": "nobody"}}]))
        with pytest.raises((OSError, AssertionError)):
            asked("/private")


def test_a_tls_client_is_judged_by_the_name_that_it_asks_for(node: Node) -> None:
    client, server = node.pods["client"], node.pods["server"]
    names = policy("server", OPEN, **FROM_CLIENT)
    names["spec"]["ingress"][0]["toPorts"] = [
        {"ports": [{"port": "443", "protocol": "TCP"}], "serverNames": ["good.example"]}
    ]
    listen = (
        "import socket\nl = socket.create_server(('', 443))\nwhile True:\n c, _ = l.accept()\n"
        " c.recv(5)\n c.sendall(b'HELLO')\n c.close()"
    )
    server.popen([sys.executable, "-c", listen])
    server.wait_listening(443)

    def said(name: str) -> str:
        ask = ["curl", "-sSk", "-m", f"{5 * PATIENCE:g}", "--resolve", f"{name}:443:{server.ip}", f"https://{name}/"]
        return client.run(ask, check=False).stderr

    with meshed(node, names) as mesh:
        assert "wrong version number" in said("good.example")  # the server's HELLO
        assert "reset" in said("bad.example").lower()
        flow = mesh.wait_flow(lambda f: f["Type"] == "L7", "the refusal is on record")
        assert (flow["verdict"], flow["destination"]["pod_name"]) == ("DROPPED", "server")
        assert "bad.example" in flow["Summary"]
