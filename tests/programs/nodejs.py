"""Node HTTP servers of our own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.hosts import Pod
from tests.programs import running

PORT, LATE_PORT = 8092, 8096


@contextlib.contextmanager
def web(pod: Pod, directory: Path) -> Iterator[str]:
    """Serve `/small`, `/large`, `/huge` and `/echo`; gives "address:port"."""
    script, root = running.HERE / "src" / "web.js", running.document_root(directory)
    with running.running(pod, ["node", script, pod.ip, str(PORT), root], PORT, directory / "node.log"):
        yield f"{pod.ip}:{PORT}"


@contextlib.contextmanager
def late(pod: Pod, directory: Path) -> Iterator[str]:
    """Answer so that a splicing proxy begins to splice at its 41st request; gives "address:port"."""
    argv = ["node", running.HERE / "src" / "late.js", pod.ip, str(LATE_PORT)]
    with running.running(pod, argv, LATE_PORT, directory / "late.log"):
        yield f"{pod.ip}:{LATE_PORT}"
