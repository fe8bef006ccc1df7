"""The load programs: our ping-pong, built with the system's compiler, and wrk. Each call is one sample."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from loader.errors import PackageMissing
from tests.hosts import Host

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "tests" / ".build" / "bench"


def build() -> Path:
    """Return the ping-pong program, compiled again if its source is newer."""
    source, program = HERE / "pingpong.c", BUILD / "pingpong"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        draft = program.with_suffix(".new")
        try:
            subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", draft, source], check=True)
        except FileNotFoundError as error:
            raise PackageMissing("cc is not installed (package gcc)") from error
        draft.rename(program)
    return program


def pingpong(host: Host, mode: str, seconds: float, *options: object, attempts: int = 2) -> dict[str, Any]:
    """Run one client of ours and return what it reports; AssertionError with its words if it fails twice."""
    words = [str(build()), mode, "--seconds", str(seconds), *map(str, options)]
    for _ in range(attempts):
        done = host.run(words, timeout=seconds + 30, check=False)
        if done.returncode == 0:
            return dict(json.loads(done.stdout))
    raise AssertionError(f"{host.name}: {' '.join(words)}: {done.stderr}")


def wrk(host: Host, url: str, connections: int, seconds: float, cpu: int | None = None, close: bool = False) -> float:
    """Return wrk's requests per second. An error or a status other than 2xx or 3xx is an AssertionError."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
    if cpu is not None:
        words = ["taskset", "-c", str(cpu), *words]
    if close:
        words += ["-H", "Connection: close"]
    report = host.run([*words, url], timeout=seconds + 60).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    wrong = re.search(r"Socket errors: .*|Non-2xx.*", report)
    if rate is None or float(rate[1]) == 0 or wrong is not None:
        raise AssertionError(f"wrk {url}: {report}")
    return float(rate[1])
