"""An open connection whose pod loses its address is reset: it would go on as that of the pod that has it now."""

import contextlib
import dataclasses
import itertools
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from control.agent import apply
from loader import abi
from loader.record import pack_addr
from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.pairs import Maker, connect
from tests.kernel.puppet import Puppet
from tests.kernel.street import Json, mesh_part, policy
from tests.kernel.test_policy_cut import OUTSIDE

WITHIN_S = 1.0 * PATIENCE
BROKEN = ("ECONNRESET", "ECONNABORTED", "EPIPE")
PORTS = itertools.count(4901)


class Town:
    """server may talk to what is good. one and other have each its address, or that of the other."""

    def __init__(self, node: Node, mesh: Mesh) -> None:
        self.node, self.mesh = node, mesh
        self.puppets = {name: Puppet(pod) for name, pod in node.pods.items()}

    def ip(self, name: str, family: int) -> str:
        pod = self.node.pods[name]
        return pod.ip if family == 4 else pod.ip6

    def write(self, is_passed: bool, is_relabelled: bool = False) -> None:
        documents = []
        for name, address, label in (("one", "other", "bad"), ("other", "one", "good")):
            document = self.node.pods[name].workload_yaml()
            if is_passed:
                document["spec"]["ips"] = [self.ip(address, 4), self.ip(address, 6)]
            if is_relabelled:
                document["metadata"]["labels"]["is"] = label
            documents.append(document)
        self.mesh.apply("pods", *documents)
        assert self.mesh.call("reconcile")["problems"] == []

    def give_away(self) -> None:
        """one is a pod of the mesh no more, and other, which is good now, has its address."""
        document = self.node.pods["other"].workload_yaml()
        document["spec"]["ips"] = [self.ip("one", 4), self.ip("one", 6)]
        document["metadata"]["labels"]["is"] = "good"
        self.mesh.apply("pods", document)
        assert self.mesh.call("reconcile")["problems"] == []

    def resets(self, port: int) -> list[Json]:
        flows = (flow for flow in self.mesh.flows() if mesh_part(flow)["event"] == "policy_reset")
        return [flow for flow in flows if flow["l4"]["TCP"]["destination_port"] == port]

    def require_record(self, port: int, caller: str, server: str) -> None:
        """Of the pods that had the connection, and not again with another edit."""
        wait_until(lambda: self.resets(port), "the reset is on record")
        self.mesh.apply("policy-more", policy("more", "other", ingress=[{"fromEndpoints": [{}]}]))
        assert self.mesh.call("reconcile")["problems"] == []
        self.mesh.delete("policy-more")
        assert self.mesh.call("reconcile")["problems"] == []
        (flow,) = self.resets(port)
        assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == (caller, server)
        assert (flow["verdict"], flow["drop_reason_desc"]) == ("DROPPED", "INVALID_SOURCE_IP")


@pytest.fixture(scope="module")
def whole() -> Iterator[Town]:
    with Node("passed") as node:
        for name, label in (("one", "good"), ("other", "bad"), ("server", "good")):
            node.pod(name, labels={"app": name, "is": label})
        ends = ({key: [{"matchLabels": {"is": "good"}}]} for key in ("fromEndpoints", "toEndpoints"))
        rules = policy("good", "server", ingress=[next(ends)], egress=[next(ends)])
        with Mesh(node, [rules], pods=[node.pods["server"]]) as mesh:
            yield Town(node, mesh)


@pytest.fixture
def town(whole: Town) -> Iterator[Town]:
    whole.write(is_passed=False)
    yield whole
    whole.write(is_passed=False)


@pytest.mark.parametrize("is_relabelled", [True, False], ids=["labels too", "addresses"])
@pytest.mark.parametrize("short_cut", [True, False], ids=["short-cut", "plain"])
@pytest.mark.parametrize(("caller", "server"), [("one", "server"), ("server", "one")])
def test_it_is_reset_at_both_ends(
    town: Town, family: int, caller: str, server: str, short_cut: bool, is_relabelled: bool
) -> None:
    port, ip = next(PORTS), town.ip(server, family)
    far, near = town.puppets[server], town.puppets[caller]
    far.do("ends = []; echo_unblocked(ip, port, ends)", ip=ip, port=port)
    order = "s = socket.create_connection((ip, port), 5); s.setblocking(not short_cut); exchange(s, 40)"
    near.do(order, ip=ip, port=port, short_cut=short_cut)
    with town.mesh.open_maps() as maps:
        (conn,) = [conn for key, conn in maps.conns.items() if port in (key.port0, key.port1)]
    assert any(end.redirect_msgs for end in conn.end) == short_cut
    near.start("result = watch(s, True, 5.0)")
    time.sleep(0.05)  # in use by now; later is no harm
    edited = time.monotonic()
    town.write(True, is_relabelled)
    how, when = near.answer()
    ends = wait_until(lambda: far.do("result = ends"), "the server's end breaks, too")
    assert {how, *(how for how, _ in ends)} <= {*BROKEN}
    assert max([when, *(when for _, when in ends)]) - edited < WITHIN_S
    town.require_record(port, caller, server)
    near.do("s.close()")


def test_programs_outside_their_pods_cgroups_both_lose_it(town: Town) -> None:
    """No socket record tells of it."""

    def outside(pod: str, what: str) -> Any:
        netns = town.node.pods[pod].netns
        command = ["nsenter", f"--net={netns}", sys.executable, "-c", OUTSIDE, what, town.ip("server", 4)]
        return town.node.popen(command, stdout=subprocess.PIPE, text=True)

    programs = [outside("server", "serve")]
    town.node.pods["server"].wait_listening(4302)
    programs.append(outside("one", "call"))
    assert [program.stdout.readline() for program in programs] == ["open\n"] * 2
    town.write(True, is_relabelled=True)
    said = [program.communicate(timeout=20 * PATIENCE)[0].strip() for program in programs]
    assert set(said) <= {"ConnectionAbortedError", "ConnectionResetError"}
    town.require_record(4302, "one", "server")


@pytest.mark.parametrize("is_gone", [False, True], ids=["without it", "gone"])
@pytest.mark.parametrize("short_cut", [True, False], ids=["short-cut", "plain"])
def test_nothing_passes_before_the_agent_comes_to_it(town: Town, short_cut: bool, is_gone: bool) -> None:
    """What one had of server, other has now, in the maps: its address and what is allowed to it."""
    pods = [town.node.pods[name] for name in ("one", "server")]
    with town.mesh.open_maps() as maps:
        pair = connect(Maker(pods[0]), Maker(pods[1]), maps)
        for end in () if short_cut else (pair.a, pair.b):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 2)  # bars the short cut
        assert pair.warm_up() == short_cut
        town.mesh.kill()
        try:
            ips = [abi.AddrKey(pack_addr(town.ip(name, 4))) for name in ("one", "other")]
            refs = [maps.endpoint_ips.get(ip) for ip in ips]
            one, other = ((key, maps.endpoints.get(key)) for key in (abi.EndpointKey(ref.id) for ref in refs if ref))
            assert one[1] and other[1]
            maps.endpoints.put(other[0], dataclasses.replace(other[1], identity=one[1].identity))
            for ip, ref in zip(ips, refs[::-1], strict=True):
                assert ref
                maps.endpoint_ips.put(ip, ref)
            if is_gone:
                maps.endpoint_ips.delete(ips[1])
                maps.endpoints.delete(one[0])
            apply.bump(maps)
            sent = [pair.redirected(end) for end in (pair.a, pair.b)]
            for end in (pair.a, pair.b):
                end.send(b"late")
            time.sleep(1)  # they are sent again meanwhile
            assert sent == [pair.redirected(end) for end in (pair.a, pair.b)]
            for end in (pair.a, pair.b):
                with pytest.raises(BlockingIOError):
                    end.recv(4)
        finally:
            town.mesh.start()
            pair.close()


@pytest.mark.parametrize("caller", ["one", "server"])
def test_what_a_pod_had_that_is_no_more_is_not_its_heirs(town: Town, caller: str) -> None:
    """Its processes live on. Policy lets the heir do all that it did."""
    pods = [town.node.pods[name] for name in ((caller, "server") if caller == "one" else ("server", "one"))]
    with town.mesh.open_maps() as maps:
        pair = connect(Maker(pods[0]), Maker(pods[1]), maps)
        assert pair.warm_up()
        port = pair.b.getsockname()[1]
        of_one, of_server = (pair.a, pair.b) if caller == "one" else (pair.b, pair.a)
        town.give_away()
        of_server.setblocking(True)
        of_server.settimeout(WITHIN_S)
        with pytest.raises((ConnectionResetError, ConnectionAbortedError)):
            of_server.recv(4)
        with contextlib.suppress(ConnectionError):  # its own end may have been told, too
            of_one.send(b"late")
        flow = wait_until(lambda: town.resets(port), "the reset is on record")[0]
        ends = [flow["source"], flow["destination"]]
        his, servers = ends if caller == "one" else ends[::-1]
        assert (servers["pod_name"], his["pod_name"]) == ("server", "one")
        assert [label for label in his["labels"] if "app=" in label] == ["k8s:app=one"]
        assert (flow["verdict"], flow["drop_reason_desc"]) == ("DROPPED", "INVALID_SOURCE_IP")
        pair.close()


def test_the_end_of_a_conversation_names_whom_it_was_with(town: Town) -> None:
    """Over UDP: the packet hook tells of it when the next packet meets an address that is another pod's."""
    port = next(PORTS)
    town.puppets["one"].do("echo_udp(ip, port)", ip=town.ip("one", 4), port=port)
    order = """
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.connect((ip, port))
u.settimeout(5)
for _ in range(3):
    u.send(b"x")
    u.recv(10)
"""
    town.puppets["server"].do(order, ip=town.ip("one", 4), port=port)
    town.write(is_passed=True)
    said = town.puppets["server"].do(
        "result = None\ntry:\n    u.send(b'x')\nexcept OSError as e:\n    result = e.errno"
    )
    assert said in (None, 1)
    packet = "send_packet(udp_packet(mine, ip, sport, port, 'late'), ip)"  # past the call's hook, which refuses it
    sport = town.puppets["server"].do("result = u.getsockname()[1]")
    town.puppets["server"].do(packet, mine=town.ip("server", 4), ip=town.ip("one", 4), sport=sport, port=port)
    flows = [
        town.mesh.wait_flow(
            lambda flow, event=event: (
                mesh_part(flow)["event"] == event  # type: ignore[misc]
                and flow["l4"].get("UDP", {}).get("destination_port") == port
            )
        )
        for event in ("open", "close")
    ]
    for flow in flows:
        assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("server", "one")
        assert [label for label in flow["destination"]["labels"] if "app=" in label] == ["k8s:app=one"]
