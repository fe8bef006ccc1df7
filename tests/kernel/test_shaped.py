"""What is there to hold bytes back holds those of the short cut back, too: a queue on a pod's interface, a socket's own
bound."""

import socket
from collections.abc import Callable, Iterator

import pytest
from pyroute2 import IPRoute

from loader import abi
from tests.hosts import Mesh, Node
from tests.hosts.node import BRIDGE
from tests.hosts.wait import wait_until
from tests.kernel.pairs import Maker, Pair, connect
from tests.kernel.scenarios.reading import attach_filter
from tests.kernel.scenarios.sending import pace

OPTIONS, QUEUE = abi.AccelReason.OPTIONS, abi.AccelReason.QUEUE


class Bench:
    """A node with a client and a server."""

    def __init__(self, node: Node, mesh: Mesh) -> None:
        self.node, self.mesh, self.maps = node, mesh, mesh.open_maps()
        self.makers = Maker(node.pods["client"]), Maker(node.pods["server"])

    def connect(self, prepare: Callable[[socket.socket], None] = lambda sock: None) -> Pair:
        return connect(*self.makers, self.maps, prepare=prepare)

    def queue(self, change: str, pod: str = "server", *kind: str, **values: object) -> None:
        with IPRoute(netns=self.node.netns) as ipr:
            index = ipr.link_lookup(ifname=self.node.pods[pod].interface)[0]
            ipr.tc(change, *kind, index=index, root=True, **values)

    def is_shaped(self, pod: str) -> bool:
        """Tell whether the agent has put it in force that a queue shapes what a pod gets."""
        ips = {ref.id for key, ref in self.maps.endpoint_ips.items() if key.addr[12:] == socket.inet_aton(self.ip(pod))}
        (held,) = (self.maps.endpoints.get(abi.EndpointKey(id)) for id in ips)
        assert held is not None
        return not held.flags & abi.EndpointFlag.UNSHAPED

    def ip(self, pod: str) -> str:
        return self.node.pods[pod].ip

    def close(self) -> None:
        for maker in self.makers:
            maker.close()
        self.maps.close()


@pytest.fixture(scope="module")
def bench(root: None) -> Iterator[Bench]:
    with Node("shaping") as node:
        node.pod("client")
        node.pod("server")
        with Mesh(node) as mesh:
            made = Bench(node, mesh)
            yield made
            made.close()


def reasons(pair: Pair) -> set[int]:
    return {end.marked or end.reason for end in pair.record().end}


@pytest.mark.parametrize("pod", ["client", "server"])
def test_a_queue_that_comes_and_goes(bench: Bench, pod: str) -> None:
    old = bench.connect()
    assert old.warm_up()
    bench.queue("add", pod, "tbf", rate="100mbit", burst=1 << 16, latency="50ms")
    try:
        wait_until(lambda: bench.is_shaped(pod), "the agent has seen the queue", 5)
        bench.mesh.settle()
        before = [old.redirected(end) for end in (old.a, old.b)]
        old.warm_up()
        assert [old.redirected(end) for end in (old.a, old.b)] == before and QUEUE in reasons(old)
        wait_until(lambda: not any(end.enrolled for end in old.record().end), "both sockets are TCP's again", 5)
        new = bench.connect()
        assert not new.warm_up() and reasons(new) == {QUEUE}
        new.close()
    finally:
        bench.queue("del", pod)
    wait_until(lambda: not bench.is_shaped(pod), "the agent has seen the queue go", 5)
    bench.mesh.settle()
    free = bench.connect()
    assert free.warm_up()
    for pair in (old, free):
        pair.close()


def test_a_filter_that_leads_packets_to_another_interface(bench: Bench) -> None:
    """What the bandwidth plugin does to what a pod sends: there an ifb's queue shapes it. This one matches nobody."""
    old = bench.connect()
    assert old.warm_up()
    where = ["dev", bench.node.pods["client"].interface, "ingress", "prio", "7", "protocol", "ip"]
    for how, is_shaped in (("mirror", False), ("redirect", True)):
        action = ["action", "mirred", "egress", how, "dev", BRIDGE]
        bench.node.run(["tc", "filter", "add", *where, "u32", "match", "ip", "dst", "192.0.2.1", *action])
        bench.mesh.settle()
        assert bench.is_shaped("client") == is_shaped
        if is_shaped:
            new = bench.connect()
            assert not new.warm_up() and reasons(new) == {QUEUE}
            old.warm_up()
            assert QUEUE in reasons(old)
            new.close()
        bench.node.run(["tc", "filter", "del", *where])
    old.close()
    bench.mesh.settle()
    assert not bench.is_shaped("client")


@pytest.mark.parametrize("bound", [pace, attach_filter], ids=["pacing", "filter"])
def test_a_bound_of_the_socket_itself(bench: Bench, bound: Callable[[socket.socket], None]) -> None:
    before = bench.connect(bound)
    assert not before.warm_up() and reasons(before) == {OPTIONS}
    late = bench.connect()
    assert late.warm_up()
    bound(late.a)
    sent = [late.redirected(end) for end in (late.a, late.b)]
    late.warm_up()
    assert [late.redirected(end) for end in (late.a, late.b)] == sent and OPTIONS in reasons(late)
    for pair in (before, late):
        pair.close()
