"""Holds connections that have asked once and then say nothing: `python -m bench.proxy.idle ADDRESS PORT PATH COUNT`.

Says {"held": COUNT} when all are there, and closes them when its standard input ends, or after two minutes.
"""

import contextlib
import json
import resource
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hosts import Pod

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 120.0
_SPARE = 100  # file descriptors that a program needs for other things


def raise_limit() -> int:
    """Raise the number of files this process and its children may open as far as allowed; return what it is now."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def ask(address: str, port: int, path: str) -> socket.socket:
    """Return a connection on which one request was answered with 200, and all of the answer was read."""
    connection = socket.create_connection((address, port), timeout=20)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += _more(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    if b" 200" not in lines[0]:
        raise AssertionError(f"{path}: {lines[0]!r}")
    length = next(int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:"))
    while len(body) < length:
        body += _more(connection)
    return connection


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise AssertionError("the connection was closed within an answer")
    return data


@contextlib.contextmanager
def held(client: Pod, address: str, port: int, path: str, count: int) -> Iterator[None]:
    """Hold the connections during the block; AssertionError if one was not to be had, or was closed meanwhile."""
    words = [sys.executable, "-m", "bench.proxy.idle", address, str(port), path, str(count)]
    pipe = subprocess.PIPE
    child: subprocess.Popen[Any] = client.popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)
    assert child.stdout is not None
    try:
        ready = select.select([child.stdout], [], [], LONGEST)[0]
        if not ready or child.stdout.readline() != said(count):
            child.kill()
            raise AssertionError(f"{count} idle connections to {address}:{port}: {child.communicate()[1][-2000:]}")
        yield
        words_after, trouble = child.communicate(timeout=30)
        if words_after != said(count):
            raise AssertionError(f"not all of {count} idle connections stayed open: {words_after}{trouble[-2000:]}")
    finally:
        child.kill()
        child.wait()


def said(count: int) -> str:
    return json.dumps({"held": count}) + "\n"


def _open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        connection.recv(1)
        return False
    return True


def main() -> None:
    address, port, path, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    if count + _SPARE > raise_limit():
        sys.exit(f"no more than {raise_limit() - _SPARE} connections: raise the limit of open files (ulimit -Hn)")
    connections = [ask(address, port, path) for _ in range(count)]
    print(said(len(connections)), end="", flush=True)
    select.select([sys.stdin], [], [], LONGEST)
    print(said(sum(_open(connection) for connection in connections)), end="", flush=True)


if __name__ == "__main__":
    main()
