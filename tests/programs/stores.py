"""redis and memcached."""

import contextlib
import csv
from collections.abc import Iterator
from pathlib import Path

from tests.hosts import Pod
from tests.programs import running

REDIS_PORT, MEMCACHED_PORT = 6379, 11211


@contextlib.contextmanager
def redis(pod: Pod, directory: Path) -> Iterator[None]:
    argv = ["redis-server", "--port", str(REDIS_PORT), "--bind", pod.ip, "--protected-mode", "no"]
    argv += ["--save", "", "--appendonly", "no", "--dir", str(directory)]
    with running.running(pod, argv, REDIS_PORT, directory / "redis.log"):
        yield


@contextlib.contextmanager
def memcached(pod: Pod, directory: Path) -> Iterator[None]:
    argv = ["memcached", "-u", "root", "-l", pod.ip, "-p", str(MEMCACHED_PORT), "-U", "0", "-t", "2", "-m", "256"]
    with running.running(pod, argv, MEMCACHED_PORT, directory / "memcached.log"):
        yield


def redis_benchmark(
    pod: Pod, address: str, requests: int, connections: int, size: int, pipeline: int, what: str
) -> list[str]:
    """Run redis-benchmark and return the tests that it finished; AssertionError for any error it tells of."""
    argv = ["redis-benchmark", "-h", address, "-p", str(REDIS_PORT), "-n", str(requests), "-c", str(connections)]
    argv += ["-d", str(size), "-P", str(pipeline), "-t", what, "--csv"]
    done = pod.run(argv, timeout=90)
    assert "rror" not in done.stdout + done.stderr, done.stdout + done.stderr
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert all(float(row["rps"]) > 0 for row in rows), done.stdout
    return [row["test"] for row in rows]


def redis_cli(pod: Pod, address: str, *words: str, input: str | None = None) -> str:
    argv = ["redis-cli", "-h", address, "-p", str(REDIS_PORT), *(["-x"] if input is not None else []), *words]
    return pod.run(argv, input=input).stdout.strip()
