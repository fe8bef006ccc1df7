"""An open connection whose pod loses its address is reset: it would go on as that of the pod that has it now."""

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
    said = [program.communicate(timeout=20)[0].strip() for program in programs]
    assert set(said) <= {"ConnectionAbortedError", "ConnectionResetError"}
    town.require_record(4302, "one", "server")


@pytest.mark.parametrize("short_cut", [True, False], ids=["short-cut", "plain"])
def test_nothing_passes_before_the_agent_comes_to_it(town: Town, short_cut: bool) -> None:
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
