"""HTTP clients: curl for bodies that are compared by hash, wrk and h2load for many requests at once."""

import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from tests.hosts import Pod
from tests.programs.running import SIZES, body, digest, sha256

# A silence of five seconds ends a download with an error: a stall must not look like a slow machine.
_CURL = ["curl", "--silent", "--show-error", "--fail", "--max-time", "60", "--speed-limit", "1", "--speed-time", "5"]


def fetch(pod: Pod, url: str, count: int, *args: str) -> dict[str, int]:
    """Download the URL `count` times over one connection and return how often each body came, by hash."""
    directory = Path(tempfile.mkdtemp(prefix="sockmesh-fetch-"))
    try:
        pod.run([*_CURL, "--fail-early", *args, "-o", f"{directory}/#1", f"{url}?[1-{count}]"], timeout=90)
        return dict(Counter(sha256(file.read_bytes()) for file in directory.iterdir()))
    finally:
        shutil.rmtree(directory)


def broken(pod: Pod, url: str, count: int) -> int:
    """Ask for the URL `count` times, one after the other, and return how many answers did not come whole."""
    done = pod.run([*_CURL, "-o", "/dev/null", "-w", "%{exitcode}\\n", f"{url}?[1-{count}]"], timeout=90, check=False)
    codes = done.stdout.split()
    assert len(codes) == count, f"{codes}: {done.stderr}"
    return sum(code != "0" for code in codes)


def echo(pod: Pod, url: str, count: int, size: int) -> dict[str, int]:
    """Upload a body `count` times over one connection and return how often each answer came, by hash."""
    with tempfile.NamedTemporaryFile(prefix="sockmesh-echo-") as upload:
        upload.write(body(size))
        upload.flush()
        # Without "Expect" curl would wait for a 100 that not every server sends.
        return fetch(pod, url, count, "-X", "POST", "-H", "Expect:", "--data-binary", f"@{upload.name}")


def load(pod: Pod, url: str, connections: int, seconds: int = 1) -> int:
    """Run wrk and return how many requests it made; AssertionError for any that went wrong."""
    done = pod.run(
        ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--timeout", "5s", url], timeout=60
    ).stdout
    assert "Socket errors" not in done and "Non-2xx" not in done, done
    count = re.search(r"(\d+) requests in", done)
    assert count is not None and int(count[1]) > 0, done
    return int(count[1])


def wanted(path: str, count: int) -> dict[str, int]:
    """Return what `fetch` must say of `/small`, `/large` or `/huge`."""
    return {digest(SIZES[path]): count}


def requests(pod: Pod, url: str, count: int, connections: int, *args: str) -> Any:
    """Run h2load and return its count of good answers and of body bytes; AssertionError for any that went wrong.

    `--h1` among `args` makes it HTTP/1.1. Five seconds of silence are a failure.
    """
    done = pod.run(["h2load", "-n", str(count), "-c", str(connections), "-N", "5", *args, url], timeout=90).stdout
    match = re.search(r"(\d+) succeeded, 0 failed, 0 errored, 0 timeout", done)
    data = re.search(r"\((\d+)\) data", done)
    assert match is not None and data is not None, done
    return int(match[1]), int(data[1])
