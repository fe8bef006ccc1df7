"""Direct delivery: packets of an open connection between two pods pass the host's bridge by; nothing else changes."""

import socket
import struct
import sys
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from loader import abi
from tests.hosts import Mesh, Node
from tests.hosts.pod import Pod
from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.pairs import Maker, Pair, connect
from tests.kernel.street import app, policy

ROUNDS = 200
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
# What hosts with a stateful firewall do, kube-proxy among them: it has seen the connection's first packets only.
_FIREWALL = """
table inet host {
  chain forward {
    type filter hook forward priority 0; policy accept;
    ct state invalid counter drop
    ct state new tcp flags & (syn | ack) != syn counter drop
  }
}
"""


class Bench:
    """A node with a client and a server, and programs in them that make sockets."""

    def __init__(self, node: Node, mesh: Mesh) -> None:
        self.node, self.mesh, self.maps = node, mesh, mesh.open_maps()
        self.makers = {name: Maker(node.pods[name]) for name in ("client", "server")}

    def connect(self, family: int) -> Pair:
        """Return a connection whose ends block, so that it is never short-cut."""
        pair = connect(self.makers["client"], self.makers["server"], self.maps, _FAMILY[family])
        for end in (pair.a, pair.b):
            end.setblocking(True)  # not settimeout: Python's own makes the socket non-blocking
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
        return pair

    def crossed(self, pair: Pair, rounds: int = ROUNDS) -> int:
        """Exchange small messages; return how many packets the host sent out of the server's interface meanwhile."""
        before = _sent(self.node, self.node.pods["server"])
        exchange(pair, rounds)
        return _sent(self.node, self.node.pods["server"]) - before

    def direct(self) -> int:
        return self.maps.counter(abi.Metric.DIRECT_PACKETS)

    def close(self) -> None:
        for maker in self.makers.values():
            maker.close()
        self.maps.close()


def _sent(node: Node, pod: Pod) -> int:
    with IPRoute(netns=node.netns) as ipr:
        link = ipr.get_links(ipr.link_lookup(ifname=pod.interface)[0])[0]
        return int(link.get_attr("IFLA_STATS64")["tx_packets"])


def exchange(pair: Pair, rounds: int = ROUNDS, size: int = 100) -> None:
    for number in range(rounds):
        message = bytes([number % 251]) * size
        for sender, receiver in ((pair.a, pair.b), (pair.b, pair.a)):
            sender.sendall(message)
            got = b""
            while len(got) < size:
                piece = receiver.recv(size - len(got))
                assert piece, "the stream ended early"
                got += piece
            assert got == message


def _rules() -> list[dict[str, object]]:
    return [
        policy("to-server", "client", egress=[{"toEndpoints": [app("server")]}]),
        policy("from-client", "server", ingress=[{"fromEndpoints": [app("client")]}]),
    ]


@pytest.fixture(scope="module")
def bench(root: None) -> Iterator[Bench]:
    with Node("direct") as node:
        node.pod("client")
        node.pod("server")
        with Mesh(node, _rules()) as mesh:
            made = Bench(node, mesh)
            yield made
            made.close()


def test_packets_of_an_open_connection_pass_the_bridge_by(bench: Bench, family: int) -> None:
    pair = bench.connect(family)
    before = bench.direct()
    assert bench.crossed(pair) < 5
    assert bench.direct() - before >= 2 * ROUNDS
    pair.close()


def test_it_can_be_switched_off_for_new_connections(bench: Bench) -> None:
    old = bench.connect(4)
    bench.mesh.call("set", direct_delivery="off")
    try:
        new = bench.connect(4)
        assert bench.crossed(new) >= ROUNDS
        assert bench.crossed(old) < 5
    finally:
        bench.mesh.call("set", direct_delivery="on")
    old.close()
    new.close()


def test_the_kill_switch_leaves_everything_to_the_host(bench: Bench) -> None:
    bench.mesh.call("set", acceleration="off")
    try:
        pair = bench.connect(4)
        assert bench.crossed(pair) >= ROUNDS
    finally:
        bench.mesh.call("set", acceleration="on")
    pair.close()


def test_a_shaped_interface_is_not_passed_by() -> None:
    with Node("shaped") as node:
        node.pod("client")
        server = node.pod("server")
        with IPRoute(netns=node.netns) as ipr:
            index = ipr.link_lookup(ifname=server.interface)[0]
            ipr.tc("add", "tbf", index, 0x10000, rate="100mbit", burst=1024 * 64, latency="50ms")
        with Mesh(node, _rules()) as mesh:
            made = Bench(node, mesh)
            pair = made.connect(4)
            assert made.crossed(pair) >= ROUNDS
            pair.close()
            made.close()


def test_a_connection_that_the_host_translates_goes_where_the_host_says() -> None:
    """Routed pods, as some network plugins make them, and a rule that sends one pod's port to another pod."""
    with Node("dnat") as node:
        pods = [node.pod(name) for name in ("client", "named", "meant")]
        client, named, meant = pods
        for pod in pods:
            with IPRoute(netns=pod.netns) as ipr:
                index = ipr.link_lookup(ifname="eth0")[0]
                for other in pods:
                    if other is not pod:
                        ipr.route("add", dst=f"{other.ip}/32", gateway=node.gateway, oif=index)
        node.run(["sh", "-c", "for i in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >$i; done"])
        rule = f"ip daddr {named.ip} tcp dport 80 dnat to {meant.ip}:8080"
        chain = f"chain pre {{\ntype nat hook prerouting priority -100\n{rule}\n}}"
        node.run(["nft", "-f", "-"], input=f"table ip n {{\n{chain}\n}}\n")
        with Mesh(node):
            echo = meant.popen([sys.executable, "-c", _ECHO, meant.ip])
            meant.wait_listening(8080)
            client.run([sys.executable, "-c", _TALK, named.ip])
            assert echo.wait(10 * PATIENCE) == 0


_ECHO = """
import socket, sys
with socket.create_server((sys.argv[1], 8080)) as listener:
    peer, _ = listener.accept()
    while data := peer.recv(100):
        peer.sendall(data)
"""
_TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], 80), 5) as s:
    for _ in range(50):
        s.sendall(b"hello")
        assert s.recv(5) == b"hello"
"""


def test_an_edit_of_policy_neither_stalls_nor_leaks(bench: Bench, family: int) -> None:
    """The host's firewall takes what it has not followed for invalid: a connection must not go back through it."""
    bench.node.run(["nft", "-f", "-"], input=_FIREWALL)
    try:
        pair = bench.connect(family)
        exchange(pair, 50, size=20_000)  # far past the window that the firewall has seen
        for number in range(1, 4):  # each changes the set of rules, so that all is judged again
            bench.mesh.apply("more", policy("more", "server", ingress=[{"fromCIDR": [f"192.0.2.{number}/32"]}]))
            bench.mesh.settle()
            exchange(pair, 50, size=2_000)
        bench.mesh.apply("more", policy("more", "server", ingressDeny=[{"fromEndpoints": [app("client")]}]))

        def broken() -> bool:
            try:
                exchange(pair, 1)
            except OSError:
                return True
            return False

        wait_until(broken, "the connection is cut", 1.5)
        pair.close()
    finally:
        bench.mesh.delete("more")
        bench.mesh.settle()
        bench.node.run(["nft", "delete", "table", "inet", "host"])
