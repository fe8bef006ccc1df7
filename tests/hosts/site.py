"""Two nodes with a wire between them, an agent and a node proxy on each, and mTLS between."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.hosts.mesh import Mesh
from tests.hosts.node import Node
from tests.hosts.pod import Pod
from tests.hosts.proxy import proxy

Json = dict[str, Any]
_ADDRESSES = ("172.31.255.1", "172.31.255.2")  # of Node.join


@dataclass
class Site:
    """`client` and `stranger` are pods of `near`, `server` is one of `far`; each has a service account of its name."""

    near: Node
    far: Node
    near_mesh: Mesh
    far_mesh: Mesh
    proxies: list[subprocess.Popen[Any]] = field(default_factory=list)  # the near one's first

    @property
    def client(self) -> Pod:
        return self.near.pods["client"]

    @property
    def server(self) -> Pod:
        return self.far.pods["server"]


@contextlib.contextmanager
def nodes() -> Iterator[tuple[Node, Node]]:
    """Two nodes with their pods, and no mesh."""
    with Node("near", "10.1.0.0/24", "fd00:1::/64") as near, Node("far", "10.2.0.0/24", "fd00:2::/64") as far:
        near.join(far)
        near.pod("client", service_account="client")
        near.pod("stranger", service_account="stranger")
        far.pod("server", service_account="server")
        yield near, far


@contextlib.contextmanager
def meshed(
    near: Node,
    far: Node,
    mode: str | tuple[str, str],
    policies: Sequence[Json] = (),
    workers: int = 2,
    args: Sequence[str] = (),
) -> Iterator[Site]:
    """Run an agent and a proxy on both nodes, of one trust domain; the policies are on both. `mode`: of both, or the
    near one's and the far one's; `args`: of the agents."""
    modes = (mode, mode) if isinstance(mode, str) else mode
    with contextlib.ExitStack() as stack:
        meshes: list[Mesh] = []
        proxies: list[subprocess.Popen[Any]] = []
        for here, there, way in ((near, far, modes[0]), (far, near, modes[1])):
            mesh = Mesh(here, policies, args=[*mtls_options(near, way), *args])
            mesh.config.mkdir()
            for node, address in zip((near, far), _ADDRESSES, strict=True):
                mesh.apply(f"node-{node.name}", _node(node.name, address))
            for pod in there.pods.values():
                mesh.apply(f"far-{pod.name}", _elsewhere(pod, there.name))
            meshes.append(stack.enter_context(mesh))
            proxies.append(stack.enter_context(proxy(here, mesh, "--workers", str(workers))))
        yield Site(near, far, meshes[0], meshes[1], proxies)


def mtls_options(near: Node, mode: str) -> tuple[str, ...]:
    """Return the options by which an agent of the site serves a mode."""
    return ("--proxy", "--mtls", mode, *(() if mode == "off" else ("--ca-dir", str(near.directory / "ca"))))


def _node(name: str, address: str) -> Json:
    addresses = [{"type": "InternalIP", "address": address}]
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses}}


def _elsewhere(pod: Pod, node: str) -> Json:
    found = pod.workload_yaml()
    found["spec"] = {key: found["spec"][key] for key in ("ips", "serviceAccount")} | {"node": node}
    return found
