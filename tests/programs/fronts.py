"""A Node server that answers in every way there is, nginx and haproxy in front of it; each in both HTTP/1.1 and 2."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.hosts import Pod
from tests.programs import running

Ports = dict[str, tuple[int, int]]
PORTS: Ports = {"node": (8110, 8111), "nginx": (8112, 8113), "haproxy": (8114, 8115)}  # of HTTP/1.1, of HTTP/2


@contextlib.contextmanager
def serve(pod: Pod, directory: Path) -> Iterator[None]:
    """Serve `/small`, `/large`, `/huge` and what `src/kinds.js` says at all of PORTS."""
    root = running.document_root(directory)
    origin = f"127.0.0.1:{PORTS['node'][0]}"
    values = {"directory": directory, "root": root, "address": pod.ip, "origin": origin}
    with contextlib.ExitStack() as stack:
        node = ["node", running.HERE / "src" / "kinds.js", *PORTS["node"], root]
        stack.enter_context(running.running(pod, node, PORTS["node"][0], directory / "kinds.log"))
        for name, file, argv in (
            ("nginx", "nginx-front.conf", ["nginx", "-c"]),
            ("haproxy", "haproxy-front.cfg", ["haproxy", "-db", "-f"]),
        ):
            port, port2 = PORTS[name]
            given = values if name == "nginx" else {"address": pod.ip, "origin": origin}
            config = running.configuration(file, directory / file, port=port, port2=port2, **given)
            stack.enter_context(running.running(pod, [*argv, config], port2, directory / f"{name}-front.log"))
        yield
