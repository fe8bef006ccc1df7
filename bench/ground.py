"""Where the bench runs: the same pods on a node without a mesh and on one with it, and a Unix socket beside them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import load
from bench.result import MESH, PLAIN, UNIX
from tests.hosts import Mesh, Node, Pod, namespaces
from tests.programs import nginx

PORT = 7000
SERVER_CPU, CLIENT_CPU = 0, 1
# Fast reconnecting runs out of ports otherwise; the same on both sides.
_PORTS = {"ipv4/ip_local_port_range": "1024 65535", "ipv4/tcp_tw_reuse": "1"}
Json = dict[str, Any]


def policy(name: str, subject: str, rules: Json) -> Json:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"endpointSelector": {"matchLabels": {"app": subject}}, **rules},
    }


def policies() -> list[Json]:
    """Both ends are selected, so each connection is judged twice: by peer at both, and nothing else may pass."""
    peers = [{"matchLabels": {"app": name}} for name in ("server", "target")]
    to_server = policy("client-to-server", "client", {"egress": [{"toEndpoints": peers}]})
    from_client = policy(
        "server-from-client", "server", {"ingress": [{"fromEndpoints": [{"matchLabels": {"app": "client"}}]}]}
    )
    return [to_server, from_client]


@dataclass(frozen=True)
class Pair:
    """A client, a server, and a pod that is only asked about; `directory` is for the programs' files."""

    client: Pod
    server: Pod
    target: Pod
    directory: Path

    @property
    def http(self) -> str:
        return f"http://{self.server.ip}:{nginx.PORT}"

    @property
    def address(self) -> list[str]:
        return ["--connect", self.server.ip, "--port", str(PORT)]


@dataclass(frozen=True)
class Ground:
    """Both sides, by name. The Unix socket is served and called by the plain pods."""

    pairs: dict[str, Pair]
    mesh: Mesh
    unix_path: Path

    def host(self, side: str) -> Pod:
        return self.pairs[PLAIN if side == UNIX else side].client

    def address(self, side: str) -> list[str]:
        return ["--unix", str(self.unix_path)] if side == UNIX else self.pairs[side].address


def _pair(node: Node) -> Pair:
    pair = Pair(node.pod("client"), node.pod("server"), node.pod("target"), node.directory / "bench")
    pair.directory.mkdir()
    for pod in (pair.client, pair.server):
        namespaces.set_sysctls(pod.netns, _PORTS)
    return pair


def _serve(stack: contextlib.ExitStack, pair: Pair) -> None:
    words = [load.build(), "server", "--listen", pair.server.ip, "--port", PORT, "--cpu", SERVER_CPU]
    pair.server.popen([str(word) for word in words])
    pair.server.wait_listening(PORT)
    stack.enter_context(nginx.serve(pair.server, pair.directory))


@contextlib.contextmanager
def ground(before: Callable[[Pair], None], args: Sequence[str] = ()) -> Iterator[Ground]:
    """Give both sides with their servers running; `before` gets the plain pair while the kernel has no mesh."""
    with (
        Node("plain", "10.245.0.0/24", "fd00:245::/64") as plain_node,
        Node("mesh") as mesh_node,
        contextlib.ExitStack() as stack,
    ):
        pairs = {PLAIN: _pair(plain_node), MESH: _pair(mesh_node)}
        plain = pairs[PLAIN]
        unix_path = plain.directory / "pingpong.sock"
        plain.server.popen([str(load.build()), "server", "--unix", str(unix_path), "--cpu", str(SERVER_CPU)])
        _serve(stack, plain)
        before(plain)
        mesh = stack.enter_context(Mesh(mesh_node, policies(), args=args))
        _serve(stack, pairs[MESH])
        yield Ground(pairs, mesh, unix_path)
