"""The proxy's bench still runs: a quick run with no mesh and Envoy, every figure a figure. Never a timing."""

import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bench.proxy import loads, report, run, ways
from bench.proxy.result import Ratio, Row
from bench.proxy.ways import ENVOY, NO_MESH, SOCKMESH
from bench.report import QUICK
from bench.result import Goal

ROOT = Path(__file__).resolve().parents[2]
RATES = {"h1-32", "h1-32-p99", "h2-1"}
COSTS = {"h1-32-cpu", "h2-1-cpu", "idle-memory"}

pytestmark = pytest.mark.e2e


def test_quick_run_fills_its_rows(tmp_path: Path) -> None:
    words = ["--quick", "--only", "h1-32", "--only", "h2-1", "--only", "idle-memory", "--out", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "bench.proxy", *words], cwd=ROOT, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert QUICK in " ".join(done.stdout.split()) and "reached" not in done.stdout
    written = json.loads((tmp_path / "proxy.json").read_text())
    # Envoy must be there; our own proxy may be missing only if it says so.
    assert set(written["skipped"]) <= {SOCKMESH}, written["skipped"]
    proxies = {ENVOY, SOCKMESH} - set(written["skipped"])
    sides = {key: {NO_MESH, *proxies} for key in RATES} | {key: proxies for key in COSTS}
    assert {key: set(row["samples"]) for key, row in written["rows"].items()} == sides
    for key, row in written["rows"].items():
        assert all(math.isfinite(value) and value > 0 for values in row["samples"].values() for value in values), key
        assert row["title"] in done.stdout
    assert written["rows"]["h1-32"]["ratio"][f"{ENVOY} / {NO_MESH}"]["of_medians"] > 0
    assert written["rows"]["idle-memory"]["notes"]["connections"][ENVOY] == [500]
    told = written["about"]["told"][ENVOY]
    # Those that asked whether it does its duties are logged and counted, too.
    assert told["log_lines"] >= told["requests_made"] <= told["requests_counted"], told
    assert {"kernel", "cpu", "cores", "commit", "rounds", "workers"} <= written["about"].keys()


def test_a_proxy_that_lets_all_through_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with ways.no_mesh() as way:
        monkeypatch.setattr(ways.Way, "name", ENVOY)
        with pytest.raises(AssertionError, match=r"Envoy does not do its duties: .*'path': 200"):
            run.inspect([way])


def _row(*measured: str) -> Row:
    row = Row("row", "some work", "1/s", [Goal(2.0, ENVOY)])
    for way, values in ((NO_MESH, (10.0, 20.0)), (ENVOY, (2.0, 4.0)), (SOCKMESH, (5.0, 8.0))):
        for value in values if way in measured else ():
            row.add(way, value)
    return row


def _printed(row: Row, quick: bool) -> str:
    text = io.StringIO()
    Console(file=text, width=180).print(report.as_table(run.Outcome({"row": row}, {}, {}), quick))
    return " ".join(text.getvalue().split())


def test_ratios_come_with_the_range_of_their_pairs() -> None:
    row = _row(NO_MESH, ENVOY, SOCKMESH)
    assert row.ratio(SOCKMESH, ENVOY) == Ratio(6.5 / 3, 2.0, 2.5)
    assert row.as_json()["goals"] == [{"against": ENVOY, "at_least": 2.0, "found": 6.5 / 3, "reached": True}]
    words = _printed(row, quick=False)
    assert "2.17x" in words and "2.00-2.50" in words and "≥ 2x Envoy yes" in words
    assert "yes" not in _printed(row, quick=True)


def test_without_our_proxy_nothing_is_judged() -> None:
    row = _row(NO_MESH, ENVOY)
    assert row.as_json()["goals"] == [{"against": ENVOY, "at_least": 2.0, "found": None, "reached": None}]
    assert set(row.as_json()["ratio"]) == {f"{ENVOY} / {NO_MESH}"}
    words = _printed(row, quick=False)
    assert "≥ 2x Envoy" in words and "yes" not in words and " no " not in words.replace("no mesh", "")


def test_an_answer_that_is_not_good_is_no_figure() -> None:
    good = "  99%    1.50ms\n  100 requests in 1.00s, 1MB read\nRequests/sec:    99.5\n"
    assert loads.read_wrk(good) == loads.Sample(99.5, 100, 1500.0)
    with pytest.raises(AssertionError, match="Non-2xx"):
        loads.read_wrk(good + "  Non-2xx or 3xx responses: 1\n")
    calls = (
        "finished in 1.00s, 50.00 req/s, 1KB/s\n"
        "requests: 50 total, 50 started, 50 done, 50 succeeded, 0 failed, 0 errored, 0 timeout\n"
        "status codes: 50 2xx, 0 3xx, 0 4xx, 0 5xx\n"
    )
    assert loads.read_h2load(calls, "traceparent: 25 of 50\n") == loads.Sample(50.0, 50)
    for report_, trace in ((calls, ""), (calls, "traceparent: 0 of 50\n"), (calls.replace("0 4xx", "1 4xx"), "")):
        with pytest.raises(AssertionError, match="h2load"):
            loads.read_h2load(report_, trace)
