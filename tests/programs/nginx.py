"""nginx: two static files, and a reverse proxy in front of them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.hosts import Pod
from tests.programs import running

PORT, PROXY_PORT = 8080, 8081


@contextlib.contextmanager
def serve(pod: Pod, directory: Path) -> Iterator[str]:
    """Serve `/small`, `/large` and `/huge` by sendfile; gives "address:port"."""
    config = running.configuration(
        "nginx.conf",
        directory / "nginx.conf",
        directory=directory,
        root=running.document_root(directory),
        address=pod.ip,
        port=PORT,
    )
    with running.running(pod, ["nginx", "-c", config], PORT, directory / "nginx.log"):
        yield f"{pod.ip}:{PORT}"


@contextlib.contextmanager
def proxy(pod: Pod, directory: Path, origin: str) -> Iterator[str]:
    """Pass everything on to `origin`, over connections that are kept; gives "address:port"."""
    config = running.configuration(
        "nginx-proxy.conf",
        directory / "nginx-proxy.conf",
        directory=directory,
        address=pod.ip,
        port=PROXY_PORT,
        origin=origin,
    )
    with running.running(pod, ["nginx", "-c", config], PROXY_PORT, directory / "nginx-proxy.log"):
        yield f"{pod.ip}:{PROXY_PORT}"
