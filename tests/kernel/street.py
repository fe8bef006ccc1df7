"""The pods that the policy tests share, and short ways to say what they do and what policy says."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from pyroute2 import IPRoute

from tests.hosts import Mesh, Node, Pod
from tests.hosts.node import BRIDGE, IFA_F_NODAD
from tests.kernel.puppet import Puppet

Json = dict[str, Any]
# The node answers to these; they are nobody's pod and not the node's own as far as the mesh knows: the world.
WORLD = {4: ("192.0.2.1", "192.0.2.200"), 6: ("2001:db8::1", "2001:db8::ff01")}
SERVICE = {4: "10.96.0.1", 6: "fd00:96::1"}


@dataclasses.dataclass
class Street:
    """client, server and third are enrolled whole, bare without its cgroup, stranger not at all."""

    node: Node
    mesh: Mesh
    puppets: dict[str, Puppet]

    def __getitem__(self, name: str) -> Puppet:
        return self.puppets[name]

    def ip(self, name: str, family: int = 4) -> str:
        pod = self.node.pods[name]
        return pod.ip if family == 4 else pod.ip6

    def gateway(self, family: int) -> str:
        return self.node.gateway if family == 4 else self.node.gateway6

    def enforce(self, *documents: Json) -> None:
        """Put policies (or services) in force in place of those before."""
        assert self.enforce_with_problems(*documents) == []

    def enforce_with_problems(self, *documents: Json) -> list[str]:
        self.mesh.apply("policy", *documents)
        return list(self.mesh.call("reconcile")["problems"])

    def relax(self) -> None:
        """Take all policies away."""
        for path in self.mesh.config.glob("policy*.yaml"):
            path.unlink()
        assert self.mesh.call("reconcile")["problems"] == []

    def connect(self, caller: str, ip: str, port: int, wait: float = 5.0) -> str:
        """Try a TCP connection; with nobody listening ECONNREFUSED is the far end's own word: both ways are open."""
        return str(self[caller].do("result = connect(ip, port, wait)[0]", ip=ip, port=port, wait=wait))

    def drop(self, **wanted: Any) -> Json:
        """Return the record of a drop with these fields of `IP` and `l4`, waiting for it."""
        return self.mesh.wait_flow(lambda flow: flow["verdict"] == "DROPPED" and matches(flow, **wanted), f"{wanted}")


def matches(
    flow: Json, source: str = "", destination: str = "", port: int = 0, proto: str = "TCP", hook: str = ""
) -> bool:
    ends, l4 = flow.get("IP", {}), flow.get("l4", {}).get(proto)
    return (
        l4 is not None
        and source in ("", ends.get("source"))
        and destination in ("", ends.get("destination"))
        and port in (0, l4.get("destination_port"))
        and hook in ("", mesh_part(flow)["hook"])
    )


def mesh_part(flow: Json) -> Json:
    """Return what a record says beyond Hubble's schema."""
    part: Json = flow["extensions"]["value"]["sockmesh"]
    return part


def policy(name: str, app: str, **spec: Any) -> Json:
    """Return a policy that selects the pods with that app label."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"endpointSelector": {"matchLabels": {"app": app}}, **spec},
    }


def app(name: str) -> Json:
    return {"matchLabels": {"app": name}}


def to_port(first: int, last: int = 0, proto: str = "TCP") -> list[Json]:
    port: Json = {"port": str(first), "protocol": proto}
    return [{"ports": [port | ({"endPort": last} if last else {})]}]


def nobody(name: str, app: str, direction: str) -> Json:
    """Return a policy that closes one direction of a pod: "ingress" or "egress"."""
    return policy(name, app, **{direction: [{}]})


def open_street() -> Iterator[Street]:
    with Node("street") as node:
        for name in ("client", "server", "third", "bare", "stranger"):
            node.pod(name)
        with IPRoute(netns=node.netns) as ipr:
            bridge = ipr.link_lookup(ifname=BRIDGE)[0]
            for ip in (*WORLD[4], *WORLD[6]):
                length, flags = (128, IFA_F_NODAD) if ":" in ip else (32, 0)
                ipr.addr("add", index=bridge, address=ip, prefixlen=length, flags=flags)
        hosts: list[Pod | Node] = [*node.pods.values(), node]
        puppets = {host.name: Puppet(host, ears=True) for host in hosts}
        args = []
        for ip in (node.gateway, node.gateway6):
            args += ["--node-ip", ip]
        for cidr in (node.subnet, node.subnet6):
            args += ["--cluster-cidr", str(cidr)]
        with Mesh(node, pods=[node.pods[n] for n in ("client", "server", "third")], args=args) as mesh:
            bare = node.pods["bare"].workload_yaml()
            del bare["spec"]["cgroup"]
            mesh.apply("workload-bare", bare)
            street = Street(node, mesh, puppets)
            street.relax()
            yield street
