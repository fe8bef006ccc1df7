"""The bench still runs: one quick round, every row there, every figure a figure. Never a timing."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAIN, MESH, UNIX = "plain veth", "mesh", "unix socket"
SIDES = {
    "rr-one-core": {PLAIN, MESH, UNIX},
    "rr-two-cores": {PLAIN, MESH, UNIX},
    "bulk": {PLAIN, MESH, UNIX},
    "nginx-large": {PLAIN, MESH},
    "nginx-small": {PLAIN, MESH},
    "nginx-small-file": {PLAIN, MESH},
    "connect": {PLAIN, MESH, UNIX},
    "connect-http": {PLAIN, MESH},
    "share-nginx": {MESH},
    "share-redis": {MESH},
    "share-postgresql": {MESH},
    "verdict": {MESH, "10 entries"},
    "load": {MESH},
    "slow-reader": {PLAIN, MESH},
    "agent-memory": {MESH},
    "agent-records": {MESH},
}

pytestmark = pytest.mark.e2e


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *args], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )


def figures(row: dict[str, Any]) -> list[float]:
    return [value for values in row["samples"].values() for value in values]


def test_quick_run_fills_every_row(tmp_path: Path) -> None:
    done = bench("--quick", "--out", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "bench.json").read_text())
    assert {key: set(row["samples"]) for key, row in written["rows"].items()} == SIDES
    for key, row in written["rows"].items():
        assert all(math.isfinite(value) for value in figures(row)), key
        assert all(goal["reached"] in (True, False) for goal in row["goals"]), key
        assert row["title"] in done.stdout.replace("\n", " ")
    # A load that met a closed door would give figures too.
    assert all(value > 0 for key, row in written["rows"].items() if key != "verdict" for value in figures(row))
    assert all(written["rows"][f"share-{name}"]["notes"]["connections"] >= 8 for name in ("nginx", "redis"))
    assert {"kernel", "cpu", "cores", "commit", "rounds"} <= written["about"].keys()
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_unknown_row_is_refused() -> None:
    done = bench("--only", "no-such-row")
    assert done.returncode == 2
    assert "no-such-row" in done.stderr and "rr-one-core" in done.stderr
