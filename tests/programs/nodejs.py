"""A Node HTTP server of our own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.hosts import Pod
from tests.programs import running

PORT = 8092


@contextlib.contextmanager
def web(pod: Pod, directory: Path) -> Iterator[str]:
    """Serve `/small`, `/large` and `/echo`; gives "address:port"."""
    script, root = running.HERE / "src" / "web.js", running.document_root(directory)
    with running.running(pod, ["node", script, pod.ip, str(PORT), root], PORT, directory / "node.log"):
        yield f"{pod.ip}:{PORT}"
