"""Another queueing discipline in the place of ours: told of, and no hook is put where it would judge the wrong way."""

from pyroute2 import IPRoute

from loader import netns
from tests.hosts import Mesh, Node
from tests.hosts.wait import wait_until


def test_a_clsact_that_shares_its_filters_is_told_of() -> None:
    """No interface can have filters of its own on a shared block."""
    with Node("qdisc") as node:
        pod, other = node.pod("pod"), node.pod("other")
        shared = ["ingress_block", "7", "egress_block", "8", "clsact"]
        node.run(["tc", "qdisc", "add", "dev", pod.interface, *shared])
        with Mesh(node, pods=[other]) as mesh:
            mesh.apply("pod", pod.workload_yaml())
            (problem,) = mesh.call("reconcile")["problems"]
            assert f"interface {pod.interface}: its `clsact` shares its filters" in problem
            assert problem.endswith("; the workload is NOT under the policy of this agent")
            node.run(["tc", "qdisc", "del", "dev", pod.interface, "clsact"])
            mesh.call("reconcile")
            wait_until(lambda: mesh.call("status")["problems"] == [], "it is under policy", 40)


def test_beside_an_ingress_discipline_no_hook_has_a_place() -> None:
    with Node("qdisc") as node:
        pod, other = node.pod("pod"), node.pod("other")

        def on_it(change: str) -> None:
            with IPRoute() as ipr:
                ipr.tc(change, "ingress", ipr.link_lookup(ifname=pod.interface)[0])

        netns.inside(node.netns, lambda: on_it("add"))
        with Mesh(node, pods=[other], args=["--no-self-test"]) as mesh:
            mesh.apply("pod", pod.workload_yaml())
            problems = mesh.call("reconcile")["problems"]
            assert [f"interface {pod.interface}: has a queueing discipline `ingress`" in told for told in problems] == [
                True
            ]
            netns.inside(node.netns, lambda: on_it("del"))
            mesh.call("reconcile")
            wait_until(lambda: mesh.call("status")["problems"] == [], "it is under policy", 40)
