"""Starting a server in a pod and ending it again, and the small things that all programs share."""

import contextlib
import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.hosts import Pod

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / ".build" / "programs"
SIZES = {"small": 90, "large": 1_500_000, "huge": 20_000_000}
SMALL, LARGE, HUGE = SIZES.values()


@contextlib.contextmanager
def running(
    pod: Pod, argv: Sequence[object], port: int, log: Path, user: str | None = None, **kw: Any
) -> Iterator[subprocess.Popen[Any]]:
    """Run a server from when it listens until the block's end; its output is in `log`, and shown when it fails."""
    with log.open("wb") as output:
        child = pod.popen([str(word) for word in argv], user=user, stdout=output, stderr=subprocess.STDOUT, **kw)
    try:
        try:
            pod.wait_listening(port, timeout=20)
        except TimeoutError as error:
            raise AssertionError(f"{argv[0]}: {error}: {log.read_text(errors='replace')[-2000:]}") from error
        yield child
        code = child.poll()
        assert code is None, f"{argv[0]} ended by itself with {code}: {log.read_text(errors='replace')[-2000:]}"
    finally:
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait(timeout=10)


def configuration(template: str, target: Path, **values: object) -> Path:
    """Write a file of `config/` with each `@NAME@` replaced; ValueError for one that is left."""
    text = (HERE / "config" / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name.upper()}@", str(value))
    if "@" in text:
        raise ValueError(f"{template}: no value for @{text.split('@')[1]}@")
    target.write_text(text)
    return target


@cache
def body(size: int) -> bytes:
    """Return what every program serves: random bytes, so that a lost or swapped piece shows, and always the same."""
    return random.Random(size).randbytes(size)


@cache
def digest(size: int) -> str:
    return sha256(body(size))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def document_root(directory: Path) -> Path:
    """Make a directory with the files `small`, `large` and `huge`."""
    root = directory / "www"
    if not root.exists():
        root.mkdir()
        for name, size in SIZES.items():
            (root / name).write_bytes(body(size))
    return root


def ask(pod: Pod, script: str, *args: object, timeout: float = 60.0) -> Any:
    """Run a Python client of `src/` in the pod and return the JSON that it prints."""
    done = pod.run([sys.executable, str(HERE / "src" / script), *map(str, args)], timeout=timeout)
    return json.loads(done.stdout)
