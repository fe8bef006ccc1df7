"""The demo from an empty machine to an empty machine: for people, for programs, and interrupted."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosts import cgroups
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
DEMO = (sys.executable, "-m", "control.cli.main", "demo", "--seconds", "0.3")


def nothing_left(run_id: str) -> bool:
    """Return whether a run's namespaces, cgroups, pins and directory are all gone."""
    places = [Path("/run/netns"), Path("/sys/fs/bpf"), Path("/run/sockmesh-test"), cgroups.root()]
    return not [path for place in places if place.is_dir() for path in place.iterdir() if run_id in path.name]


def test_figures_for_programs() -> None:
    answer = subprocess.run([*DEMO, "-o", "json"], cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert answer.returncode == 0, answer
    found = json.loads(answer.stdout)
    assert found["unexpected"] == [] and found["left_behind"] == [] and not found["interrupted"]
    assert {(c["who"], c["allowed"]) for c in found["calls"]} == {("client", True), ("client", False), ("guest", False)}
    assert all(c["as_expected"] for c in found["calls"])
    assert len(found["comparisons"]) == 4
    for comparison in found["comparisons"]:
        assert comparison["ratio"] > 0 and comparison["tcp"]["p50_s"] > 0 and comparison["short_cut"]["rate"] > 0
        assert not found["acceleration"]["on"] or comparison["share"] > 0, comparison
    assert [c["short_cut"] for c in found["cuts"]] == [found["acceleration"]["on"], False]
    assert all(0 < c["seconds"] < 1 for c in found["cuts"])
    assert {r["verdict"] for r in found["records"]} == {"DROPPED", "FORWARDED"}
    assert {r["destination"]["name"] for r in found["sock"]} >= {"shop/web", "shop/db"}
    assert "NetworkPolicy shop/web spec.ingress[0]" in {r["rule"] for r in found["policy"]}
    assert nothing_left(found["run_id"])


def test_a_show_for_people() -> None:
    answer = subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert answer.returncode == 0, answer
    for words in (
        "-- 1. A node with four pods", "-- 2. Allowed and refused calls", "Operation not permitted", "HTTP 200",
        "-- 3. The same calls over TCP and over the short cut", "█", "░", "-- 4. A policy change cuts open connections",
        "then the policy is put back as it was: client may call web again, as it does below\n\n-- 5. ",
        "drop:POLICY_DENIED INGRESS DROPPED", "$ sockmesh bpf sock list", "$ sockmesh bpf policy get web",
        "Gone again: namespaces, cgroups, pinned maps, programs.",
    ):  # fmt: skip
        assert words in answer.stdout, words
    assert "NOT AS EXPECTED" not in answer.stdout


@pytest.mark.parametrize(("moment", "number"), [("policy: client", signal.SIGTERM), ("-- 3.", signal.SIGINT)])
def test_interrupted_it_leaves_nothing(moment: str, number: signal.Signals) -> None:
    """Once while the agent starts, once at work. The whole group gets the signal, as from a terminal's Ctrl-C."""
    demo = subprocess.Popen(DEMO, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            start_new_session=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})  # fmt: skip
    assert demo.stdout is not None
    assert any(line.startswith(moment) for line in demo.stdout), demo.communicate()
    (mine,) = [d.name for d in Path("/run/sockmesh-test").iterdir() if _owner(d) == demo.pid]
    os.killpg(demo.pid, number)
    rest, errors = demo.communicate(timeout=90)
    assert demo.returncode == 128 + number, (rest, errors)
    assert "interrupted" in rest and "Gone again" in rest and "Traceback" not in errors, (rest, errors)
    wait_until(lambda: nothing_left(mine), "everything is gone")


def test_whoever_reads_it_may_leave() -> None:
    """As `sockmesh demo | head -3`: it cleans up and has nothing to say."""
    demo = subprocess.Popen(DEMO, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert demo.stdout is not None and demo.stderr is not None
    assert any(line.startswith("pod shop/web") for line in demo.stdout)
    (mine,) = [d.name for d in Path("/run/sockmesh-test").iterdir() if _owner(d) == demo.pid]
    demo.stdout.close()
    assert (demo.stderr.read(), demo.wait(90)) == ("", 128 + signal.SIGPIPE)
    assert nothing_left(mine)


def _owner(directory: Path) -> int:
    try:
        return int(json.loads((directory / "owner.json").read_text())["pid"])
    except (OSError, ValueError):
        return 0


def test_without_root_it_says_so_in_one_sentence() -> None:
    answer = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *DEMO],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert answer.returncode == 1
    assert answer.stderr == "sockmesh: the demo makes network namespaces and loads BPF programs: run it as root\n"
