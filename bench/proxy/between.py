"""Two nodes with a wire between them: nothing in the way, an Envoy on each with mutual TLS, or sockmesh on each."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from bench.ground import policy
from bench.proxy import envoy, envoys, origin, usage, ways
from tests.hosts import Mesh, Node
from tests.hosts.site import meshed, nodes
from tests.hosts.wait import wait_until
from tests.programs import running, streams

Json = dict[str, Any]


def policies() -> list[Json]:
    """Return the rules of the server: the same for requests as on one node, and bulk without a look at its bytes."""
    http = {
        "ports": [{"port": str(origin.HTTP_PORT), "protocol": "TCP"}],
        "rules": {"http": [{"method": origin.HTTP_METHOD, "path": origin.HTTP_PATH}]},
    }
    bulk = {"ports": [{"port": str(streams.IPERF_PORT), "protocol": "TCP"}]}
    rule = {"fromEndpoints": [{"matchLabels": {"app": "client"}}], "toPorts": [http, bulk]}
    return [policy("server-by-request", "server", {"ingress": [rule]})]


@dataclass
class Across(ways.Way):
    """From a client on one node to a server on another."""

    where = ", two nodes"
    DUTIES: ClassVar[dict[str, int]] = {"allowed": 200, "path": 403, "method": 403}

    def duties(self) -> dict[str, int]:
        """Return the statuses of requests: there are rules for HTTP/1.1 alone."""
        return {
            "allowed": ways.status(self, self.http + origin.ANSWER),
            "path": ways.status(self, self.http + origin.SHUT),
            "method": ways.status(self, self.http + origin.ANSWER, "-X", "DELETE"),
        }

    def told(self) -> ways.Told:
        return {}

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """The server has its programs for requests; iperf3's is for one at a time, as it comes."""
        with origin.serve(self.server, self.directory), streams.iperf_server(self.server, self.directory):
            yield


@dataclass
class Envoys(Across):
    name = ways.ENVOY
    children: list[subprocess.Popen[Any]] = field(default_factory=list)

    def pids(self) -> list[int]:
        return [pid for child in self.children for pid in usage.family(child.pid)]


@dataclass
class Meshed(Across):
    name = ways.SOCKMESH
    proxies: list[subprocess.Popen[Any]] = field(default_factory=list)
    meshes: list[Mesh] = field(default_factory=list)

    def pids(self) -> list[int]:
        return [pid for child in self.proxies for pid in usage.family(child.pid)]

    def beside(self) -> list[int]:
        return [mesh.agent.pid for mesh in self.meshes if mesh.agent is not None]


@contextlib.contextmanager
def _ground(kind: type[Across]) -> Iterator[tuple[Node, Node, Across]]:
    with nodes() as (near, far):
        client, server = origin.prepare(near.pods["client"]), origin.prepare(far.pods["server"])
        directory = near.directory / "bench"
        directory.mkdir()
        way = kind(near, client, server, server.ip, directory)
        with way.serving():
            yield near, far, way


@contextlib.contextmanager
def no_mesh() -> Iterator[Across]:
    with _ground(Across) as (_, _, way):
        yield way


@contextlib.contextmanager
def two_envoys(workers: int) -> Iterator[Across]:
    """Each in a pod of its node: the near one takes bytes into TLS 1.3, the far one has the rules, and its log."""
    binary = envoy.program()
    with _ground(Envoys) as (near, far, way):
        assert isinstance(way, Envoys)
        sides = (near.pod("proxy"), far.pod("proxy"))
        configs = envoys.configure(way.directory, sides[0].ip, sides[1].ip, way.server.ip)
        with contextlib.ExitStack() as stack:
            for pod, config in zip(sides, configs, strict=True):
                words = envoy.command(binary, config, workers)
                log = way.directory / f"{config.stem}.log"
                way.children.append(
                    stack.enter_context(running.running(origin.prepare(pod), words, streams.IPERF_PORT, log))
                )
            way.address = sides[0].ip
            yield way


@contextlib.contextmanager
def two_nodes(workers: int) -> Iterator[Across]:
    with _ground(Meshed) as (near, far, way), meshed(near, far, "strict", policies(), workers) as site:
        assert isinstance(way, Meshed)
        way.meshes, way.proxies = [site.near_mesh, site.far_mesh], site.proxies
        wait_until(
            lambda: ways.status(way, way.http + origin.ANSWER) == 200, "a request comes through both proxies", 30
        )
        yield way
