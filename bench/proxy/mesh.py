"""sockmesh: the client calls the server, and the rules on the server take the connection through the node's proxy."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.ground import policy
from bench.proxy import origin, usage, ways
from tests.hosts import Mesh, Node
from tests.hosts.mesh import ROOT
from tests.hosts.wait import wait_until

Json = dict[str, Any]
_COMMAND = [sys.executable, "-m", "control.cli.main", "proxy"]


def policies() -> list[Json]:
    """Return what Envoy's RBAC filter says, as a policy."""
    ports = [
        {
            "ports": [{"port": str(port), "protocol": "TCP"}],
            "rules": {"http": [{"method": method, "path": path}]},
        }
        for port, method, path in (
            (origin.HTTP_PORT, origin.HTTP_METHOD, origin.HTTP_PATH),
            (origin.GRPC_PORT, origin.GRPC_METHOD, origin.GRPC_PATH),
        )
    ]
    peers = [{"matchLabels": {"app": name}} for name in ("client", ways.SECOND)]
    return [policy("server-by-request", "server", {"ingress": [{"fromEndpoints": peers, "toPorts": ports}]})]


def there() -> None:
    """Raise NotThere if this sockmesh has no proxy to run."""
    done = subprocess.run([*_COMMAND, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise ways.NotThere("sockmesh's proxy is not there yet")


@dataclass
class Sockmesh(ways.Way):
    name = ways.SOCKMESH
    mesh: Mesh
    child: subprocess.Popen[Any]

    def pids(self) -> list[int]:
        return usage.family(self.child.pid)

    def beside(self) -> list[int]:
        return [] if self.mesh.agent is None else [self.mesh.agent.pid]

    def told(self) -> ways.Told:
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: self._lines() >= self.made, "all is logged", 5)
        return {**super().told(), "log_lines": self._lines()}

    def _lines(self) -> int:
        return int(self.mesh.call("status")["flow_log"]["lines"])


@contextlib.contextmanager
def sockmesh(args: Sequence[str]) -> Iterator[Sockmesh]:
    """Client and server under a policy with rules by request, the agent, and the proxy with `args` of its own."""
    there()
    with Node("mesh") as node:
        client, server, directory = ways.pods(node)
        log = directory / "proxy.log"
        with Mesh(node, policies(), args=["--proxy"]) as mesh, origin.serve(server, directory), log.open("wb") as out:
            words = [*_COMMAND, "--run-dir", str(mesh.run_dir), *args]
            child = node.popen(words, stdout=out, stderr=subprocess.STDOUT, cwd=ROOT)
            way = Sockmesh(node, client, server, server.ip, directory, mesh=mesh, child=child)

            def serving() -> bool:
                if child.poll() is not None:
                    raise AssertionError(f"sockmesh proxy ended with {child.returncode}: {log.read_text()[-4000:]}")
                return ways.status(way, way.http + origin.ANSWER) == 200

            try:
                # What it listens on is its own affair: it is there when a request comes through.
                wait_until(serving, "a request comes through sockmesh's proxy", 30)
                yield way
                code = child.poll()
                assert code is None, f"sockmesh proxy ended by itself with {code}: {log.read_text()[-4000:]}"
            finally:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(timeout=15)
                if child.poll() is None:
                    child.kill()
                    child.wait(timeout=10)
