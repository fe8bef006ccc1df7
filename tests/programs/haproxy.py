"""haproxy: four ways to one origin, two of them with splice(2)."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from loader import abi
from tests.hosts import Mesh, Pod
from tests.programs import running

PORTS = {"tcp": 8001, "http": 8002, "tcp-splice-auto": 8003, "http-splice-response": 8004}


@contextlib.contextmanager
def proxy(pod: Pod, directory: Path, origin: str) -> Iterator[dict[str, str]]:
    """Give "address:port" of each way by its name."""
    config = running.configuration("haproxy.cfg", directory / "haproxy.cfg", address=pod.ip, origin=origin)
    with running.running(pod, ["haproxy", "-db", "-f", config], max(PORTS.values()), directory / "haproxy.log"):
        yield {name: f"{pod.ip}:{port}" for name, port in PORTS.items()}


def remember(mesh: Mesh, caught: bool) -> None:
    """Make the mesh believe that haproxy was, or was not, caught splicing: one test must not decide another's."""
    key = abi.ProgramKey(inode=Path(shutil.which("haproxy") or "").resolve().stat().st_ino)
    with mesh.open_maps() as maps:
        maps.programs.delete(key)
        if caught:
            maps.programs.put(key, abi.ProgramValue(reason=int(abi.AccelReason.SPLICE), count=1))
