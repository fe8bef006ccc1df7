"""The bench still runs: one quick round, every row there, every figure a figure. Never a timing."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import picture, report
from bench.result import MESH, PLAIN, UNIX, Goal, Result

ROOT = Path(__file__).resolve().parents[2]
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
    assert report.QUICK in " ".join(done.stdout.split()) and "reached" not in done.stdout
    written = json.loads((tmp_path / "bench.json").read_text())
    assert {key: set(row["samples"]) for key, row in written["rows"].items()} == SIDES
    for key, row in written["rows"].items():
        assert all(math.isfinite(value) for value in figures(row)), key
        assert all(goal["reached"] in (True, False) for goal in row["goals"]), key
        assert row["title"] in done.stdout.replace("\n", " ")
    # A load that met a closed door would give figures too.
    rows = {key: row for key, row in written["rows"].items() if key != "verdict"}
    assert [(key, row["samples"], row["notes"]) for key, row in rows.items() if min(figures(row)) <= 0] == []
    assert all(written["rows"][f"share-{name}"]["notes"]["connections"] >= 8 for name in ("nginx", "redis"))
    assert {"kernel", "cpu", "cores", "commit", "rounds"} <= written["about"].keys()
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("quick", [True, False])
def test_only_a_run_that_measures_is_judged(quick: bool, tmp_path: Path) -> None:
    row = Result("row", "some work", "1/s", [Goal(2.0, PLAIN)])
    row.add(PLAIN, 10.0)
    row.add(MESH, 11.0)
    printed = io.StringIO()
    Console(file=printed, width=160).print(report.as_table({"row": row}, quick))
    words = ["required", "found", "reached", "≥ 2x plain veth"]
    assert [word in printed.getvalue() for word in words] == [not quick] * len(words)
    assert (report.QUICK in " ".join(printed.getvalue().split())) is quick
    about = {"cpu": "a", "cores": 2, "kernel": "6", "rounds": 1, "quick": quick}
    assert picture.draw(tmp_path / "bench.png", {"row": row}, about)


@pytest.mark.parametrize("rounds", [1, 2])
def test_one_sample_has_no_span(rounds: int) -> None:
    row = Result("row", "some work", "1/s", [])
    for _ in range(rounds):
        row.add(PLAIN, 10.0)
        row.add(MESH, 11.0)
    printed = io.StringIO()
    Console(file=printed, width=160).print(report.as_table({"row": row}))
    assert ("1.10-1.10" in printed.getvalue()) is (rounds > 1)
    assert ("(1.10 to 1.10)" in report.as_markdown({"row": row})) is (rounds > 1)


def test_unknown_row_is_refused() -> None:
    done = bench("--only", "no-such-row")
    assert done.returncode == 2
    assert "no-such-row" in done.stderr and "rr-one-core" in done.stderr


def test_the_policy_engines_bench_still_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.scale", "--quick", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "scale.json").read_text())
    assert [row["pods"] for row in written["full"]] == [200, 2000, 200, 2000]
    by_size = {row["pods"]: row for row in written["full"][2:]}
    assert by_size[2000]["identities"] == by_size[2000]["pods"] and by_size[2000]["entries"] > 0
    assert all(row["ratio"] > 0 for row in written["events"].values()) and len(written["events"]) == 4
    assert written["pairs"]["pairs"] > 0 and math.isfinite(written["pairs"]["peak_gb"])
