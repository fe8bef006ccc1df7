"""Go programs of our own, built by Debian's compiler: a proxy on io.Copy and a net/http server."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.hosts import Pod
from tests.programs import running

RELAY_PORT, WEB_PORT = 8090, 8091


@cache
def build(name: str) -> Path:
    """Compile `src/<name>.go` unless that very source was compiled before; it uses the standard library only."""
    source = running.HERE / "src" / f"{name}.go"
    target = running.BUILD / f"{name}-{running.sha256(source.read_bytes())[:16]}"
    if not target.exists():
        running.BUILD.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(f".{os.getpid()}")
        environment = {
            **os.environ,
            "GOFLAGS": "",
            "GO111MODULE": "off",
            "GOPROXY": "off",
            "GOCACHE": str(running.BUILD / "go-cache"),
            "GOPATH": str(running.BUILD / "go-path"),
        }
        done = subprocess.run(
            ["go", "build", "-o", draft, source], env=environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"go build {source}: {done.stderr}"
        draft.rename(target)
    return target


@contextlib.contextmanager
def relay(pod: Pod, directory: Path, origin: str) -> Iterator[str]:
    """Pass connections on to `origin` by io.Copy; gives "address:port"."""
    address = f"{pod.ip}:{RELAY_PORT}"
    with running.running(pod, [build("relay"), address, origin], RELAY_PORT, directory / "relay.log"):
        yield address


@contextlib.contextmanager
def web(pod: Pod, directory: Path) -> Iterator[str]:
    """Serve `/small`, `/large`, `/huge` and `/echo`; gives "address:port"."""
    address = f"{pod.ip}:{WEB_PORT}"
    root = running.document_root(directory)
    with running.running(pod, [build("web"), address, root], WEB_PORT, directory / "web.log"):
        yield address
