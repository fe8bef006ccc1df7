"""Workloads of running pods get other names: nothing else about a pod changes, and no moment is open."""

import itertools
from collections.abc import Iterator

import pytest

from loader import abi
from loader.record import pack_addr
from tests.hosts import Mesh, Node, namespaces
from tests.hosts.wait import wait_until
from tests.kernel.puppet import Puppet
from tests.kernel.street import policy

pytestmark = pytest.mark.kernel
ROUNDS = 40
OUT = """
tried = hammer(lambda: connect(ip, 4711, 0.3)[0])
packets = flood(udp_packet(mine, ip, 4712, 4712, 'out-of-closed'), ip)
"""
IN = """
tried = hammer(lambda: connect(ip, 4713, 0.3)[0])
packets = flood(udp_packet(mine, ip, 4714, 4714, 'into-closed'), ip)
"""


class Street:
    """closed may call nobody and be called by nobody, open may do both; "bare" is not the mesh's."""

    def __init__(self, node: Node, mesh: Mesh) -> None:
        self.node, self.mesh = node, mesh
        node.pod("bare")
        self.puppets = {name: Puppet(pod, ears=True) for name, pod in node.pods.items()}

    def name(self, names: dict[str, str], **spec: str) -> list[str]:
        """Give each pod the name in `names`, in one edit."""
        documents = []
        for pod, name in names.items():
            document = self.node.pods[pod].workload_yaml()
            document["metadata"]["name"] = name
            document["spec"] |= spec
            documents.append(document)
        self.mesh.apply("all", *documents)
        return list(self.mesh.call("reconcile")["problems"])

    def id(self, pod: str) -> int:
        with self.mesh.open_maps() as maps:
            ref = maps.endpoint_ips.get(abi.AddrKey(pack_addr(self.node.pods[pod].ip)))
            return ref.id if ref else 0

    def is_closed(self) -> bool:
        """Tell whether the closed pod cannot be called: only its packet hook has a say in calls of "bare"."""
        call = "result = connect(ip, 4715, 0.5)[0]"
        return str(self.puppets["bare"].do(call, ip=self.node.pods["closed"].ip)) == "timeout"


@pytest.fixture
def street() -> Iterator[Street]:
    with Node("names") as node:
        for name in ("open", "closed"):
            node.pod(name)
        with Mesh(node, [policy("closed", "closed", egress=[{}], ingress=[{}])]) as mesh:
            made = Street(node, mesh)
            for name in ("open", "closed"):
                mesh.delete(f"workload-{name}")
            assert made.name({"open": "open", "closed": "closed"}) == [] and made.is_closed()
            yield made


@pytest.mark.parametrize(
    "names", [{"open": "closed", "closed": "open"}, {"open": "closed", "closed": "before"}], ids=["exchanged", "free"]
)
def test_names_that_pass_from_pod_to_pod_open_no_moment(street: Street, names: dict[str, str]) -> None:
    closed, bare = street.node.pods["closed"].ip, street.node.pods["bare"].ip
    ids = {street.id("closed")}
    street.puppets["closed"].do(OUT, ip=bare, mine=closed)
    street.puppets["bare"].do(IN, ip=closed, mine=bare)
    for number in range(ROUNDS):
        assert street.name({"open": "open", "closed": "closed"} if number % 2 else names) == []
        ids.add(street.id("closed"))
    (called, sent), (tried, packets) = (
        street.puppets[name].do("result = [tried(), packets()]") for name in ("closed", "bare")
    )
    assert sent > 1000 and packets > 1000
    assert called.keys() == {"EPERM"} and tried.keys() == {"timeout"}
    assert "out-of-closed" not in street.puppets["bare"].do("result = heard()")
    assert "into-closed" not in street.puppets["closed"].do("result = heard()")
    assert len(ids) == 1  # a pod is the same endpoint under any name


def test_a_new_name_and_a_mistake_in_one_edit_open_nothing(street: Street) -> None:
    id = street.id("closed")
    mistakes = {"new": {"netns": "/run/netns/nowhere"}, "newer": {"interface": "vh-nowhere"}}
    for restarted, (name, mistake) in itertools.product((False, True), mistakes.items()):
        if restarted:
            street.mesh.kill()
            street.mesh.start()
        problems = street.name({"closed": name}, **mistake)
        assert ["the last good values stay" in problem for problem in problems] == [True]
        assert street.is_closed() and street.id("closed") == id


def test_names_are_exchanged_though_no_namespace_can_be_entered(street: Street) -> None:
    """Their files are unmounted, processes live in them: the interfaces say whose name is whose."""
    ids = {pod: street.id(pod) for pod in ("open", "closed")}
    for pod in ids:
        namespaces.remove(street.node.pods[pod].netns.rpartition("/")[2])
    wait_until(lambda: len(street.mesh.call("status")["problems"]) == 2, "the loss is told")
    for names in ({"open": "closed", "closed": "open"}, {"open": "closed", "closed": "before"}):
        problems = street.name(names)
        assert len(problems) == 2 and all("the last good values stay" in problem for problem in problems)
        assert street.is_closed() and {pod: street.id(pod) for pod in ids} == ids
