"""The servers that every way ends at, and what the rules let through to them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.hosts import Pod, namespaces
from tests.programs import running

HTTP_PORT, GRPC_PORT = 8080, 8090
# The same rules for both proxies: a regex over the whole path, and a method.
HTTP_METHOD, HTTP_PATH = "GET", "/(answer|large)"
GRPC_METHOD, GRPC_PATH = "POST", "/bench\\.[A-Z][a-z]+/[A-Z][a-z]+"
ANSWER, LARGE, SHUT, CALL = "/answer", "/large", "/shut", "/bench.Echo/Say"
# One message as gRPC frames it: not compressed, its length, 16 bytes.
MESSAGE = b"\0" + (16).to_bytes(4, "big") + b"sixteen bytes ok"
# Fast reconnecting and 10,000 connections from one address run out of ports otherwise; the same everywhere.
_SYSCTLS = {"ipv4/ip_local_port_range": "32768 65535", "ipv4/tcp_tw_reuse": "1"}


def prepare(pod: Pod) -> Pod:
    """Make a pod fit for many connections."""
    namespaces.set_sysctls(pod.netns, _SYSCTLS)
    return pod


@contextlib.contextmanager
def serve(pod: Pod, directory: Path) -> Iterator[None]:
    """Run nginx for HTTP/1.1, and for unary calls nghttpd: a message in, a message and a trailer out."""
    config = running.configuration(
        "nginx-idle.conf",
        directory / "nginx-idle.conf",
        directory=directory,
        root=running.document_root(directory),
        address=pod.ip,
        port=HTTP_PORT,
    )
    answer = directory / "grpc" / CALL.removeprefix("/")
    answer.parent.mkdir(parents=True)
    answer.write_bytes(MESSAGE)
    unary = ["nghttpd", "--no-tls", "-a", pod.ip, "-d", directory / "grpc", "--trailer", "grpc-status: 0", GRPC_PORT]
    with (
        running.running(pod, ["nginx", "-c", config], HTTP_PORT, directory / "nginx.log"),
        running.running(pod, unary, GRPC_PORT, directory / "nghttpd.log"),
    ):
        yield
