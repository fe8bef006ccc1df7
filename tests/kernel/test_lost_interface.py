"""Connections of a pod that loses its interface: one whose socket lives goes on when the pod has another, and who waits
for the last word of one that is gone is told."""

import contextlib
import socket
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute

from control.agent import lastgood
from loader import abi
from tests.hosts import Mesh, Node, Pod
from tests.hosts.wait import wait_until
from tests.kernel.pairs import Maker, Pair, connect, receive
from tests.kernel.street import mesh_part

COUNT = 20_000


class Place:
    """A client and a server with a connection on the short cut, and a pod that nothing happens to."""

    def __init__(self, node: Node, mesh: Mesh, makers: tuple[Maker, Maker], pair: Pair) -> None:
        self.node, self.mesh, self.makers, self.pair = node, mesh, makers, pair

    def unplug(self, pod: Pod) -> None:
        """Take its interface away, and return when the agent has seen it."""
        with IPRoute(netns=self.node.netns) as ipr:
            ipr.link("del", index=ipr.link_lookup(ifname=pod.interface)[0])
        assert len(self.mesh.call("reconcile")["problems"]) == 1

    def plug(self, pod: Pod) -> None:
        self.node.plug(pod)
        assert self.mesh.call("reconcile")["problems"] == []

    def events(self) -> list[str]:
        return [mesh_part(flow)["event"] for flow in self.mesh.flows()]

    def hold(self, sender: socket.socket) -> int:
        """Send until packets to the other end, which does not read, are held back; return how many bytes that took."""
        sent, other = 0, self.pair.a if sender is self.pair.b else self.pair.b

        def is_held() -> bool:
            nonlocal sent
            with contextlib.suppress(BlockingIOError):
                sent += sender.send(b"x" * 65536)
            return self.pair.end(other).held > 0

        wait_until(is_held, "packets are held back")
        return sent


@pytest.fixture
def place(root: None) -> Iterator[Place]:
    with Node("lost") as node:
        makers = Maker(node.pod("client")), Maker(node.pod("server"))
        node.pod("other")
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            pair = connect(*makers, maps)
            assert pair.warm_up()
            yield Place(node, mesh, makers, pair)
            pair.close()


def test_what_was_held_back_comes_when_the_pod_has_another(place: Place) -> None:
    """Its program is at work, and its kernel sends again: nobody waits for ever."""
    server = place.node.pods["server"]
    sent = place.hold(place.pair.b)
    place.unplug(server)
    place.plug(server)
    assert len(receive(place.pair.a, sent)) == sent
    place.pair.b.send(b"and on")
    assert receive(place.pair.a, 6) == b"and on"
    assert "stuck" not in place.events()


def test_a_last_word_that_was_held_back_comes_then(place: Place) -> None:
    server = place.node.pods["server"]
    place.pair.b.send(b"x" * COUNT)
    place.pair.b.close()
    wait_until(lambda: place.pair.end(place.pair.a).held, "the end is held back")
    place.unplug(server)
    place.plug(server)
    assert receive(place.pair.a, COUNT) == b"x" * COUNT
    assert receive(place.pair.a, 1) == b""
    assert "stuck" not in place.events()


def test_the_record_of_who_is_back_goes_on(place: Place) -> None:
    """None of its ends has closed, so its bytes are counted to its end, which is told once."""
    server = place.node.pods["server"]
    place.unplug(server)
    assert place.pair.end(place.pair.b).closed == abi.Closed.CUT
    place.plug(server)
    wait_until(lambda: not place.pair.end(place.pair.b).closed, "both ends are open")
    place.pair.a.send(b"x" * COUNT)
    assert receive(place.pair.b, COUNT) == b"x" * COUNT
    place.pair.a.close()
    assert receive(place.pair.b, 1) == b""
    place.pair.b.close()
    flow = place.mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "close")
    assert int(mesh_part(flow)["bytes_sent"]) == 40 * 4 + COUNT
    assert int(mesh_part(flow)["bytes_received"]) == 40 * 4
    assert place.events().count("close") == 1


def test_who_waits_for_a_pod_that_was_withdrawn_before_it_went_is_told(place: Place) -> None:
    """Its Workload goes first, then the pod, as when somebody tidies up; nothing of it is the agent's by then."""
    server = place.node.pods["server"]
    place.pair.b.send(b"x" * COUNT)
    place.pair.b.close()
    place.mesh.delete("workload-server")
    place.mesh.settle()
    place.makers[1].close()
    place.node.remove(server)
    place.mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "stuck", "it is on record")
    assert receive(place.pair.a, COUNT) == b"x" * COUNT
    with pytest.raises(ConnectionError):
        assert receive(place.pair.a, 1, timeout=5) == b""
        raise ConnectionResetError  # an end is an end, too


def test_who_waits_for_a_pod_is_told_while_an_agent_waits_for_its_configuration(place: Place) -> None:
    """Nothing that was adopted goes out of force then, but a pod can go all the same."""
    place.mesh.kill()
    (place.mesh.run_dir / lastgood.NAME).unlink()
    (place.mesh.config / "broken.yaml").write_text("[")
    place.mesh.start()
    place.pair.b.send(b"x" * COUNT)
    place.pair.b.close()
    place.makers[1].close()
    place.node.remove(place.node.pods["server"])
    place.mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "stuck", "it is on record")
    assert receive(place.pair.a, COUNT) == b"x" * COUNT
    with pytest.raises(ConnectionError):
        assert receive(place.pair.a, 1, timeout=5) == b""
        raise ConnectionResetError  # an end is an end, too
    place.mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "close", "so is its end")
