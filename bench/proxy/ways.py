"""A way from client to server, the one without a proxy, and the check that a proxy does its duties."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bench.proxy import origin
from tests.hosts import Node, Pod

SECOND = "second"  # a pod, and its label
NO_MESH, ENVOY, SOCKMESH = "no mesh", "Envoy", "sockmesh"
Told = dict[str, Any]


class NotThere(Exception):
    """This way cannot be measured here; the words say why."""


@dataclass
class Way:
    """Where the client calls, and which processes stand between it and the server."""

    name: ClassVar[str] = NO_MESH
    where: ClassVar[str] = ""  # added to the name where it is told what a proxy did
    DUTIES: ClassVar[dict[str, int]] = {
        "allowed": 200, "path": 403, "method": 403, "call": 200, "call-path": 403, "call-method": 403,
    }  # fmt: skip
    node: Node
    client: Pod
    server: Pod
    address: str  # what the client calls, on the ports of `origin`
    directory: Path
    made: int = field(default=0, kw_only=True)  # the requests that load programs made this way

    @property
    def http(self) -> str:
        return f"http://{self.address}:{origin.HTTP_PORT}"

    @property
    def grpc(self) -> str:
        return f"http://{self.address}:{origin.GRPC_PORT}"

    @property
    def callers(self) -> list[Pod]:
        """Return pods of several workloads that the proxy lets through: it grants none all of its connections."""
        return [self.client, self.node.pods[SECOND]]

    def pids(self) -> list[int]:
        """Return the proxy's processes, all of them."""
        return []

    def beside(self) -> list[int]:
        """Return processes that are not the proxy's and do some of its work; their cost is noted beside it."""
        return []

    def told(self) -> Told:
        """Return what the proxy has logged and counted beside the requests made, as evidence that it did."""
        return {"requests_made": self.made}

    def duties(self) -> dict[str, int]:
        """Return the statuses of requests that a proxy must let through, and of those that it must refuse."""
        # Calls without a body: this curl loses an answer that comes, with a reset, before it has sent one.
        h2 = ["--http2-prior-knowledge", "-X"]
        return {
            "allowed": status(self, self.http + origin.ANSWER),
            "path": status(self, self.http + origin.SHUT),
            "method": status(self, self.http + origin.ANSWER, "-X", "DELETE"),
            "call": status(self, self.grpc + origin.CALL, *h2, "POST"),
            "call-path": status(self, self.grpc + origin.SHUT, *h2, "POST"),
            "call-method": status(self, self.grpc + origin.CALL, *h2, "GET"),
        }

    def tidy(self) -> None:
        """Keep a log from filling the disk; called between samples."""


def pods(node: Node) -> tuple[Pod, Pod, Path]:
    """Make client and server on a node, the server serving until the node's end."""
    client, server, _ = (origin.prepare(node.pod(name)) for name in ("client", "server", SECOND))
    directory = node.directory / "bench"
    directory.mkdir()
    return client, server, directory


@contextlib.contextmanager
def no_mesh() -> Iterator[Way]:
    """Client and server on one node, and nothing between them but its bridge."""
    with Node("plain", "10.245.0.0/24", "fd00:245::/64") as node:
        client, server, directory = pods(node)
        with origin.serve(server, directory):
            yield Way(node, client, server, server.ip, directory)


def status(way: Way, url: str, *args: str) -> int:
    """Return the status that curl gets for the URL in the client's pod; 0 for no answer."""
    words = ["curl", "-s", "-o", "/dev/null", "-m", "10", "-w", "%{http_code}", *args, url]
    return int(way.client.run(words, check=False).stdout or 0)
