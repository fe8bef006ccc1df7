"""Removes what killed runs left: `python -m tests.hosts.cleanup`, and at the start of every node."""

import ctypes
import os
import shutil
import sys
from pathlib import Path

from loader.errors import MeshError
from loader.interception import ground
from tests.hosts import cgroups, namespaces
from tests.hosts.record import RUNS, Run, dead_runs

MNT_DETACH = 2
PIN_PREFIX = "/sys/fs/bpf/sockmesh-test-"
_libc = ctypes.CDLL(None, use_errno=True)


def take_down(run: Run) -> list[str]:
    """Remove all that the run noted and return one line per thing that would not go (the run is kept then)."""
    problems: list[str] = []
    for kind, name in run.resources():
        try:
            _remove(kind, name)
        except (OSError, ValueError) as error:
            problems.append(f"run {run.id}: {kind} {name}: {error}")
    if not problems:
        run.end()
    return problems


def _remove(kind: str, name: str) -> None:
    if kind == "cgroup":
        cgroups.remove(Path(name))
    elif kind == "netns":
        namespaces.remove(name)
    elif kind == "mount":
        _libc.umount2(os.fsencode(name), MNT_DETACH)
    elif kind == "proxy":
        _remove_proxy(Path(name))
    elif kind == "pin":
        if not name.startswith(PIN_PREFIX) or ".." in name:
            raise ValueError("not a test pin directory")
        if Path(name).exists():
            shutil.rmtree(name)
    else:
        raise ValueError("unknown kind of resource")


def _remove_proxy(run_dir: Path) -> None:
    """Kill an agent's node proxy and take away where it stood, which need not ever have been there."""
    if RUNS not in run_dir.parents or ".." in run_dir.parts:
        raise ValueError("not a test's directory")
    if cgroup := ground.cgroup_path(run_dir):
        cgroups.kill(cgroup)
    try:
        ground.remove(run_dir, Path(f"{PIN_PREFIX}{run_dir.relative_to(RUNS).parts[0]}"))
    except MeshError as error:
        raise OSError(str(error)) from error


def sweep() -> list[str]:
    """Remove what runs with a dead owner left, and only that; return what would not go, one line each."""
    problems: list[str] = []
    with dead_runs() as runs:
        for run in runs:
            problems += take_down(run)
    return problems


def main() -> int:
    problems = sweep()
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
