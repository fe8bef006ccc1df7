"""The numbers that are the self-test's alone mean the same on both sides, and its cgroups go when it is no more."""

import os
import re
import subprocess
import sys
from pathlib import Path

from loader import numbers
from loader.selftest import reserved

MAPS_H = Path(__file__).resolve().parents[3] / "bpf" / "maps.h"


def test_the_programs_leave_out_the_endpoints_that_are_the_self_tests() -> None:
    found = re.search(r"^#define FIRST_SELF_TEST (0x[0-9a-f]+)u$", MAPS_H.read_text(), re.MULTILINE)
    assert found and int(found[1], 16) == numbers.FIRST_ENDPOINT


def test_cgroups_go_when_their_self_test_is_no_more(tmp_path: Path) -> None:
    at_work = subprocess.Popen([sys.executable, "-c", "input()", "-m", "loader.selftest"], stdin=subprocess.PIPE)
    unburied = subprocess.Popen(["true"])
    os.waitid(os.P_PID, unburied.pid, os.WEXITED | os.WNOWAIT)
    ended = subprocess.Popen(["true"])
    ended.wait()
    pids = (at_work.pid, unburied.pid, ended.pid, os.getpid())  # of the last one: it is another process's now
    for pid in pids:
        (tmp_path / f"{reserved.CGROUP_PREFIX}{pid}" / "pod0").mkdir(parents=True)
    (tmp_path / "sockmesh-pods").mkdir()
    reserved.sweep_cgroups(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{reserved.CGROUP_PREFIX}{at_work.pid}", "sockmesh-pods"}
    at_work.communicate()
    reserved.sweep_cgroups(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"sockmesh-pods"}
    unburied.wait()
    reserved.sweep_cgroups(None)
