"""Programs that move bare streams: iperf3, socat; and nghttpd, HTTP/2 without TLS."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hosts import Pod
from tests.hosts.wait import wait_until
from tests.programs import running

IPERF_PORT, RELAY_PORT, FILE_PORT, H2_PORT = 5201, 8093, 8094, 8095


@contextlib.contextmanager
def iperf_server(pod: Pod, directory: Path) -> Iterator[None]:
    argv = ["iperf3", "-s", "-B", pod.ip, "-p", str(IPERF_PORT)]
    with running.running(pod, argv, IPERF_PORT, directory / "iperf3.log"):
        yield


def iperf(pod: Pod, address: str, *args: str) -> dict[str, Any]:
    """Run an iperf3 client and return the end of its report; AssertionError for what it calls an error."""
    done = pod.run(["iperf3", "-c", address, "-p", str(IPERF_PORT), "-J", *args], timeout=60, check=False)
    report = json.loads(done.stdout)
    assert done.returncode == 0 and "error" not in report, report.get("error", done.stderr)
    end: dict[str, Any] = report["end"]
    return end


@contextlib.contextmanager
def socat_relay(pod: Pod, directory: Path, origin: str) -> Iterator[str]:
    """Pass connections on to `origin`, a process each; gives "address:port"."""
    listen = f"TCP-LISTEN:{RELAY_PORT},bind={pod.ip},reuseaddr,fork,backlog=64"
    with running.running(pod, ["socat", listen, f"TCP:{origin}"], RELAY_PORT, directory / "socat.log"):
        yield f"{pod.ip}:{RELAY_PORT}"


def socat_file(source: Pod, target: Pod, directory: Path, size: int) -> str:
    """Send a file from one pod to the other and return the hash of what arrived."""
    sent, arrived = directory / "sent", directory / "arrived"
    sent.write_bytes(running.body(size))
    arrived.unlink(missing_ok=True)
    listen = f"TCP-LISTEN:{FILE_PORT},bind={target.ip},reuseaddr"
    receiver = target.popen(["socat", "-u", listen, f"CREATE:{arrived}"])
    try:
        target.wait_listening(FILE_PORT)
        source.run(["socat", "-u", f"FILE:{sent}", f"TCP:{target.ip}:{FILE_PORT}"], timeout=60)
        wait_until(lambda: receiver.poll() is not None, "socat has received the file to its end", 60)
    finally:
        receiver.kill()
        receiver.wait()
    assert receiver.returncode == 0, f"socat ended with {receiver.returncode}"
    return running.sha256(arrived.read_bytes())


@contextlib.contextmanager
def nghttpd(pod: Pod, directory: Path) -> Iterator[str]:
    """Serve `/small`, `/large` and `/huge` over HTTP/2; gives "address:port"."""
    argv = ["nghttpd", "--no-tls", "-a", pod.ip, "-d", running.document_root(directory), str(H2_PORT)]
    with running.running(pod, argv, H2_PORT, directory / "nghttpd.log"):
        yield f"{pod.ip}:{H2_PORT}"
