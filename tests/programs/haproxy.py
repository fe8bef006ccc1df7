"""haproxy: four ways to one origin, two of them with splice(2)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from loader import abi
from loader.record import pack_addr
from tests.hosts import Mesh, Pod
from tests.programs import running

PORTS = {"tcp": 8001, "http": 8002, "tcp-splice-auto": 8003, "http-splice-response": 8004}


@contextlib.contextmanager
def proxy(pod: Pod, directory: Path, origin: str) -> Iterator[dict[str, str]]:
    """Give "address:port" of each way by its name."""
    config = running.configuration("haproxy.cfg", directory / "haproxy.cfg", address=pod.ip, origin=origin)
    with running.running(pod, ["haproxy", "-db", "-f", config], max(PORTS.values()), directory / "haproxy.log"):
        yield {name: f"{pod.ip}:{port}" for name, port in PORTS.items()}


def remember(mesh: Mesh, pod: Pod, caught: bool) -> None:
    """Make the mesh believe that the pod was, or was not, caught splicing: one test must not decide another's."""
    with mesh.open_maps() as maps:
        ref = maps.endpoint_ips.get(abi.AddrKey(pack_addr(pod.ip)))
        assert ref, f"{pod.name} is not an endpoint"
        key = abi.EndpointKey(ref.id)
        maps.caught.delete(key)
        if caught:
            maps.caught.put(key, abi.Caught(reason=int(abi.AccelReason.PROGRAM), count=1))
