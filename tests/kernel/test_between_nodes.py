"""mTLS between nodes in the kernel: who is led to the proxy, whose plaintext is refused, what the proxy may do."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from loader import abi
from tests.hosts import Mesh, Node, Pod
from tests.hosts.wait import wait_until
from tests.kernel.fake_proxy import FakeProxy
from tests.kernel.puppet import Puppet

pytestmark = pytest.mark.kernel
Json = dict[str, Any]
FAMILIES = pytest.mark.parametrize("family", ["ip", "ip6"])

SERVER = """
import socket, threading
def echo(c, peer):
    c.sendall(f"server {peer.removeprefix('::ffff:')}".encode())
    while data := c.recv(100):
        c.sendall(data)
def datagrams():
    u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    u.bind(("::", 80))
    while True:
        data, who = u.recvfrom(100)
        u.sendto(data, who)
threading.Thread(target=datagrams, daemon=True).start()
l = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, (peer, *_) = l.accept()
    threading.Thread(target=echo, args=(c, peer), daemon=True).start()
"""
CALL = """
def call(ip, mark=0, port=80):
    s = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET)
    s.settimeout(3)
    if mark:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    try:
        s.connect((ip, port))
        return s.recv(100).decode(), s
    except OSError as error:
        return type(error).__name__, s
"""


def _with_mtls(node: Node, mode: str) -> tuple[str, ...]:
    return ("--proxy", "--mtls", mode, *(() if mode == "off" else ("--ca-dir", str(node.directory / "ca"))))


class Site:
    """Two nodes with a client and a server each, all enrolled, and a stranger on the far one. The agent is the near
    one's; `far_client` and so on are of the other."""

    def __init__(self, near: Node, far: Node) -> None:
        self.near, self.far = near, far
        self.client, self.server = near.pod("client"), near.pod("server")
        self.far_client, self.far_server, self.stranger = (
            far.pod(name) for name in ("far-client", "far-server", "stranger")
        )
        for pod in (self.server, self.far_server, self.stranger):
            pod.popen([sys.executable, "-c", SERVER])
            pod.wait_listening(80)
        self.puppets: dict[str, Puppet] = {}

    def puppet(self, pod: Pod | Node) -> Puppet:
        if pod.name not in self.puppets:
            self.puppets[pod.name] = Puppet(pod)
            self.puppets[pod.name].do(CALL)
        return self.puppets[pod.name]

    def call(self, pod: Pod | Node, ip: str, **given: Any) -> str:
        """Return what a call is answered with, or the name of the error."""
        return str(self.puppet(pod).do("result, s = call(**given)", given={"ip": ip, **given}))

    @contextlib.contextmanager
    def meshed(self, mode: str, *policies: Json) -> Iterator[tuple[Mesh, FakeProxy]]:
        mesh = Mesh(self.near, policies, args=_with_mtls(self.near, mode))
        mesh.config.mkdir()
        for pod in (self.far_client, self.far_server):
            there = pod.workload_yaml()
            there["spec"] = {key: there["spec"][key] for key in ("ips", "serviceAccount")} | {"node": "far"}
            mesh.apply(f"far-{pod.name}", there)
        with mesh:
            stands = FakeProxy(mesh)
            try:
                yield mesh, stands
            finally:
                stands.close()


@pytest.fixture
def site() -> Iterator[Site]:
    with Node("near", "10.1.0.0/24", "fd00:1::/64") as near, Node("far", "10.2.0.0/24", "fd00:2::/64") as far:
        near.join(far)
        yield Site(near, far)


def refused(mesh: Mesh, source: str, target: str) -> Json:
    """Return the record of a packet that was dropped for want of mTLS."""
    return mesh.wait_flow(
        lambda f: (
            f.get("drop_reason_desc") == "AUTH_REQUIRED"
            and (f["IP"]["source"], f["IP"]["destination"]) == (source, target)
        ),
        f"plaintext from {source} to {target} is refused",
    )


@FAMILIES
@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_calls_to_pods_of_another_node_are_led_to_the_proxy(site: Site, mode: str, family: str) -> None:
    mine, theirs = getattr(site.client, family), getattr(site.far_server, family)
    with site.meshed(mode) as (mesh, proxy):
        assert site.call(site.client, theirs) == "proxy"
        (seen,) = proxy.seen()
        facts = seen[3]
        assert seen[:3] == (mine, theirs, 80)
        assert facts.flags == abi.ProxyFactsFlag.MESH
        side, none = facts.side[abi.Direction.EGRESS], facts.side[abi.Direction.INGRESS]
        assert (side.verdict, side.peer, side.identity) == (abi.Verdict.ALLOW, facts.target, facts.source)
        assert none.endpoint == 0
        flow = mesh.wait_flow(lambda f: f["verdict"] == "REDIRECTED", "the call is on record")
        assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("client", "far-server")


def test_all_else_goes_as_ever(site: Site) -> None:
    udp = "s = socket.socket(type=2); s.settimeout(3); s.connect((ip, 80)); s.send(b'x'); result = len(s.recv(9))"
    with site.meshed("strict") as (_, proxy):
        assert site.call(site.client, site.server.ip) == f"server {site.client.ip}"
        assert site.call(site.client, site.stranger.ip) == f"server {site.client.ip}"
        assert site.call(site.stranger, site.server.ip) == f"server {site.stranger.ip}"
        assert site.puppet(site.client).do(udp, ip=site.far_server.ip) == 1
        assert site.puppet(site.far_client).do(udp, ip=site.server.ip) == 1
        assert proxy.seen() == []


def test_without_mtls_nothing_is_led(site: Site) -> None:
    with site.meshed("off") as (_, proxy):
        assert site.call(site.client, site.far_server.ip) == f"server {site.client.ip}"
        assert site.call(site.far_client, site.server.ip) == f"server {site.far_client.ip}"
        assert proxy.seen() == [] and proxy.would(site.client.ip, site.far_server.ip).flags == 0


@FAMILIES
def test_strict_refuses_plaintext_of_another_nodes_pods(site: Site, family: str) -> None:
    mine, theirs = getattr(site.server, family), getattr(site.far_client, family)
    with site.meshed("strict") as (mesh, _):
        assert site.call(site.far_client, mine) == "TimeoutError"
        flow = refused(mesh, theirs, mine)
        assert (flow["drop_reason"], flow["traffic_direction"], flow["verdict"]) == (189, "INGRESS", "DROPPED")
        assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("far-client", "server")
        assert "ingress_denied_by" not in flow


def test_permissive_lets_plaintext_of_another_nodes_pods_in(site: Site) -> None:
    with site.meshed("permissive") as (mesh, _):
        assert site.call(site.far_client, site.server.ip) == f"server {site.far_client.ip}"
        assert mesh.wait_flow(lambda f: f["destination"].get("pod_name") == "server")["verdict"] == "FORWARDED"


ECHO = "s.sendall(b'x'); result = s.recv(9).decode()"


@pytest.mark.parametrize("mode", ["permissive", "strict"])
def test_what_is_open_in_plaintext_is_reset_where_it_is_refused(site: Site, mode: str) -> None:
    ends = [(site.client, site.far_server), (site.far_client, site.server), (site.client, site.server)]
    with site.meshed("off") as (mesh, _):
        callers = []
        for number, (here, there) in enumerate(ends):
            caller = Puppet(here)
            caller.do(CALL)
            assert caller.do("result, s = call(ip)", ip=there.ip) == f"server {here.ip}", number
            callers.append(caller)
        mesh.stop()
        mesh.args = _with_mtls(mesh.node, mode)
        mesh.start()
        assert callers[2].do(ECHO) == "x"
        if mode == "permissive":
            assert [caller.do(ECHO) for caller in callers] == ["x"] * 3
            return
        for (here, there), way in zip(ends[:2], ("EGRESS", "INGRESS"), strict=True):
            flow = mesh.wait_flow(
                lambda f, here=here, there=there: f["Type"] == "SOCK"  # type: ignore[misc]
                and f.get("drop_reason_desc") == "AUTH_REQUIRED"
                and (f["IP"]["source"], f["IP"]["destination"]) == (here.ip, there.ip),
                "the reset is on record", 1,
            )  # fmt: skip
            assert flow["traffic_direction"] == way
        with pytest.raises(ConnectionAbortedError):
            callers[0].do(ECHO)
        # The other one's end is on the other node, which that node's own agent resets; here it speaks to nobody.
        assert site.server.run(["ss", "-Htn", "dst", site.far_client.ip]).stdout == ""


@FAMILIES
def test_the_proxy_reaches_a_server_in_the_name_of_a_client_that_never_came(site: Site, family: str) -> None:
    theirs, mine = getattr(site.far_client, family), getattr(site.server, family)
    with site.meshed("strict") as (mesh, proxy), mesh.open_maps() as maps:
        assert proxy.call(theirs, mine) == f"server {theirs}"
        flow = mesh.wait_flow(lambda f: f["verdict"] == "FORWARDED" and f["IP"]["source"] == theirs)
        assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("far-client", "server")
        # Of a pod whose interface could not be read nobody knows how to reach it.
        key, endpoint = next((k, e) for k, e in maps.endpoints.items() if e.addr4.endswith(bytes([10, 1, 0, 11])))
        maps.endpoints.put(key, dataclasses.replace(endpoint, mac=0))
        lost = maps.counter(abi.Metric.PROXY_LOST)
        assert proxy.call(theirs, mine) == "TimeoutError"
        assert maps.counter(abi.Metric.PROXY_LOST) > lost


def test_the_proxy_cannot_call_another_nodes_pod_in_plaintext(site: Site) -> None:
    with site.meshed("strict") as (mesh, proxy):
        assert site.call(site.client, site.far_server.ip) == "proxy"  # so that there is a way
        assert proxy.call(site.client.ip, site.far_server.ip) == "TimeoutError"
        assert refused(mesh, site.client.ip, site.far_server.ip)["traffic_direction"] == "EGRESS"


@FAMILIES
def test_the_proxy_may_ask_before_it_calls(site: Site, family: str) -> None:
    def ip(pod: Pod) -> str:
        return str(getattr(pod, family))

    deny = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "rules", "namespace": "default"},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "server"}},
            "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "far-client"}}],
                         "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}],
        },
    }  # fmt: skip
    with site.meshed("strict", deny) as (_, proxy):
        assert site.call(site.client, ip(site.far_server)) == "proxy"
        assert proxy.would(ip(site.client), ip(site.far_server)) == proxy.seen()[0][3]  # as of one that is there
        came = proxy.would(ip(site.far_client), ip(site.server))
        side, none = came.side[abi.Direction.INGRESS], came.side[abi.Direction.EGRESS]
        assert (came.flags, none.endpoint) == (0, 0)
        assert (side.verdict, side.peer, side.identity) == (abi.Verdict.ALLOW, came.source, came.target)
        for source, port in ((site.far_client, 81), (site.far_server, 80)):
            side = proxy.would(ip(source), ip(site.server), port).side[abi.Direction.INGRESS]
            assert (side.verdict, side.endpoint) == (abi.Verdict.DENY, came.side[abi.Direction.INGRESS].endpoint)
        for kind in ("SOCK_DGRAM", "SOCK_STREAM"):  # connected to nobody, or no datagrams
            with pytest.raises(OSError):
                proxy.do(f"of(ip, 0, socket.{kind}).getsockopt(0, 0x5e51, size)", ip=ip(site.client))


def test_nothing_of_anybody_else_is_taken_for_the_proxys(site: Site) -> None:
    mark = 0x5E500000
    as_another = """
s = socket.socket()
s.setsockopt(socket.IPPROTO_IP, 19, 1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x5e500000)
s.bind((mine, 45000))
s.setblocking(False)
s.connect_ex((ip, 80))
"""
    with site.meshed("strict") as (mesh, proxy):
        assert site.call(site.client, site.far_server.ip, mark=mark) == "proxy"
        assert site.call(site.far_client, site.server.ip, mark=mark) == "TimeoutError"
        refused(mesh, site.far_client.ip, site.server.ip)
        before = len(mesh.flows())
        for host, reason in ((site.near, "AUTH_REQUIRED"), (site.client, "INVALID_SOURCE_IP")):
            site.puppet(host).do(as_another, mine=site.far_client.ip, ip=site.server.ip)
            flow = mesh.wait_flow(
                lambda f: f["l4"].get("TCP", {}).get("source_port") == 45000, "a forger is refused", since=before
            )
            assert flow["drop_reason_desc"] == reason
            before = len(mesh.flows())
        wait_until(lambda: len(proxy.seen()) == 1, "nobody else was led to the proxy")
