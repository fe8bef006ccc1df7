"""Both hops through the node proxy take the short cut: the same bytes, no gap in policy, a reset where it turns."""

import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from loader import abi
from loader.maps import Maps
from tests.e2e.test_interception import rules
from tests.hosts import Mesh, Node, Pod, namespaces
from tests.hosts.proxy import proxy
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e
_BODY = 1_500_000
_PORTS = "ipv4/ip_local_port_range"

# Answers what it was sent, hashed, or as many bytes as the path says; in non-blocking mode, as servers are.
_LENGTH = """
def length_in(head):
    lines = head.lower().split(b"\\r\\n")
    return int(next((line.split(b":")[1] for line in lines if line.startswith(b"content-length")), 0))
"""
_SERVER = (
    _LENGTH
    + """
import asyncio, hashlib
async def serve(reader, writer):
    try:
        await answer_all(reader, writer)
    except (asyncio.IncompleteReadError, OSError):
        writer.close()
async def answer_all(reader, writer):
    while head := await reader.readuntil(b"\\r\\n\\r\\n"):
        path = head.split()[1].decode()
        length = length_in(head)
        body = await reader.readexactly(length)
        answer = hashlib.sha256(body).hexdigest().encode() if length else open(path[len("/public"):], "rb").read()
        writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(answer) + answer)
        await writer.drain()
async def main():
    await (await asyncio.start_server(serve, None, 80)).serve_forever()
asyncio.run(main())
"""
)
# One connection, kept: `times` requests, then waits for a byte on its standard input, and one more.
_CLIENT = (
    _LENGTH
    + """
import asyncio, hashlib, sys
host, path, times, body = sys.argv[1], sys.argv[2], int(sys.argv[3]), b"x" * int(sys.argv[4])
async def ask(reader, writer):
    method, length = b"PUT" if body else b"GET", b"Content-Length: %d" % len(body)
    writer.write(b"%s %s HTTP/1.1\\r\\nHost: a\\r\\n%s\\r\\n\\r\\n" % (method, path.encode(), length) + body)
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    return head.split()[1].decode(), hashlib.sha256(await reader.readexactly(length_in(head))).hexdigest()
async def main():
    reader, writer = await asyncio.open_connection(host, 80, limit=1 << 22)
    seen = {await ask(reader, writer) for _ in range(times)}
    print(writer.get_extra_info("sockname")[1], *sorted(" ".join(each) for each in seen), sep=";", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    try:
        print(*await ask(reader, writer), flush=True)
    except (OSError, asyncio.IncompleteReadError) as error:
        print(type(error).__name__, flush=True)
asyncio.run(main())
"""
)


@dataclass
class Place:
    node: Node
    mesh: Mesh
    client: Pod
    server: Pod
    content: bytes = field(default_factory=lambda: os.urandom(_BODY))

    def begin(self, host: str, path: str, times: int = 40, body: int = 0) -> Any:
        words = [sys.executable, "-c", _CLIENT, host, path, str(times), str(body)]
        return self.client.popen(words, stdin=-1, stdout=-1, text=True)

    def hops(self, maps: Maps, port: int) -> list[abi.Conn]:
        """Return the open connections that the node proxy has a part in, the client's first."""
        led = abi.ConnFlag.TO_PROXY | abi.ConnFlag.FROM_PROXY
        found = [(key, conn) for key, conn in maps.conns.items() if conn.flags & led and len(conn.open_ends) == 2]
        return [conn for _, conn in sorted(found, key=lambda each: port not in (each[0].port0, each[0].port1))]


def _policies(which: str) -> list[dict[str, Any]]:
    found = [rules("ingress", "server", "client"), rules("egress", "client", "server")]
    for each, way in zip(found, ("ingress", "egress"), strict=True):
        (port,) = each["spec"][way][0]["toPorts"]
        port["rules"]["http"] = [{"method": "GET|PUT", "path": "/public/.*"}]
    return found if which == "both" else [each for each in found if which in each["spec"]]


@pytest.fixture(scope="module", params=["ingress", "egress", "both"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with Node("hops") as node:
        client, server, wide = (node.pod(name) for name in ("client", "server", "wide"))
        namespaces.set_sysctls(wide.netns, {_PORTS: "1024 65535"})
        server.popen([sys.executable, "-c", _SERVER])
        server.wait_listening(80)
        with Mesh(node, _policies(request.param), args=["--proxy"]) as mesh, proxy(node, mesh, "--workers", "2"):
            place = Place(node, mesh, client, server)
            (node.directory / "content").write_bytes(place.content)
            yield place


@pytest.mark.parametrize("family", [4, 6])
def test_both_hops_take_it_with_the_same_bytes(place: Place, family: int) -> None:
    host = place.server.ip if family == 4 else place.server.ip6
    asking = place.begin(host, f"/public{place.node.directory}/content")
    port, *seen = asking.stdout.readline().strip().split(";")
    assert seen == [f"200 {hashlib.sha256(place.content).hexdigest()}"]
    with place.mesh.open_maps() as maps:
        hops = place.hops(maps, int(port))
    assert [bool(conn.flags & abi.ConnFlag.TO_PROXY) for conn in hops] == [True, False]
    for conn in hops:
        carried = sum(end.redirect_bytes for end in conn.end)
        assert conn.short_cut and carried > 35 * _BODY, conn
    asking.stdin.write("\n")
    asking.stdin.flush()
    assert asking.stdout.readline().split()[0] == "200"
    assert asking.wait(10) == 0
    flow = place.mesh.wait_flow(lambda flow: _is_close_of(flow, int(port)), "the record of the client's connection")
    assert flow["verdict"] == "REDIRECTED"
    told = flow["extensions"]["value"]["sockmesh"]
    carried, received = int(told["short_cut_bytes_received"]), int(told["bytes_received"])
    assert told["short_cut"] and 41 * _BODY > carried > 35 * _BODY
    assert 41 * _BODY < received < 41 * _BODY + 41 * 100  # heads


def _is_close_of(flow: dict[str, Any], port: int) -> bool:
    told = flow.get("extensions", {}).get("value", {}).get("sockmesh", {})
    return bool(told.get("event") == "close" and flow["l4"].get("TCP", {}).get("source_port") == port)


def test_what_is_sent_arrives(place: Place) -> None:
    asking = place.begin(place.server.ip, "/public/x", body=_BODY)
    _, *seen = asking.stdout.readline().strip().split(";")
    whole = hashlib.sha256(hashlib.sha256(b"x" * _BODY).hexdigest().encode()).hexdigest()
    assert seen == [f"200 {whole}"]
    asking.stdin.close()
    asking.wait(10)


def test_an_edit_that_is_not_about_it_leaves_it(place: Place) -> None:
    asking = place.begin(place.server.ip, "/public/etc/hostname")
    port = int(asking.stdout.readline().split(";")[0])
    with place.mesh.open_maps() as maps:
        for wide in (True, False):
            place.mesh.apply("policy-8", _elsewhere(wide))
            place.mesh.settle()
            assert len(place.hops(maps, port)) == 2
    asking.stdin.write("\n")
    asking.stdin.flush()
    assert asking.stdout.readline().startswith("200")
    assert asking.wait(10) == 0
    place.mesh.delete("policy-8")
    told = [flow["extensions"]["value"]["sockmesh"]["event"] for flow in place.mesh.flows()]
    assert "policy_reset" not in told


def _elsewhere(wide: bool) -> dict[str, Any]:
    spec = {"podSelector": {"matchLabels": {"app": "wide"}}, "ingress": [{}] if wide else []}
    meta = {"name": "elsewhere", "namespace": "default"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def test_policy_that_turns_ends_it(place: Place) -> None:
    asking = place.begin(place.server.ip, "/public/etc/hostname")
    port = int(asking.stdout.readline().split(";")[0])
    with place.mesh.open_maps() as maps:
        assert [conn.short_cut for conn in place.hops(maps, port)] == [True, True]
        place.mesh.apply("policy-9", _deny())
        place.mesh.settle()
        asking.stdin.write("\n")
        asking.stdin.flush()
        assert not asking.stdout.readline().startswith("200")
        place.mesh.delete("policy-9")
        place.mesh.settle()
        wait_until(lambda: not place.hops(maps, port), "both hops are gone")
    assert asking.wait(10) == 0


def _deny() -> dict[str, Any]:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "no-more", "namespace": "default"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "server"}},
            "ingressDeny": [{"fromEndpoints": [{"matchLabels": {"app": "client"}}]}],
        },
    }


def test_a_pod_that_calls_from_the_proxys_ports_is_told_of(place: Place) -> None:
    """Last: two calls from one port to one server cannot be told apart, and the later one is dropped."""

    def told() -> list[str]:
        return [line for line in place.mesh.call("status")["problems"] if "net.ipv4.ip_local_port_range" in line]

    place.mesh.settle()
    (line,) = told()
    assert "Workload default/wide" in line and "32768 or above" in line
    namespaces.set_sysctls(place.node.pods["wide"].netns, {_PORTS: "32768 65535"})
    place.mesh.settle()
    wait_until(lambda: not told(), "it is mended")
