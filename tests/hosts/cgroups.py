"""The cgroup v2 directories that pods live in."""

import contextlib
import os
import signal
from pathlib import Path

from loader.errors import FeatureUnsupported
from tests.hosts.wait import wait_until

TEST_PREFIX = "sockmesh-test-"
FALLBACK_MOUNT = Path("/run/sockmesh-test/cgroup2")


def _mounted(mounts: str) -> Path | None:
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(fields[1].encode().decode("unicode_escape"))
    return None


def root() -> Path:
    """Return where cgroup v2 is mounted, mounting it for the tests if it is nowhere."""
    found = _mounted(Path("/proc/mounts").read_text())
    if found is not None:
        return found
    FALLBACK_MOUNT.mkdir(parents=True, exist_ok=True)
    # Left mounted: it is shared by all runs, costs nothing, and unmounting it under another run would break that one.
    if os.spawnvp(os.P_WAIT, "mount", ["mount", "-t", "cgroup2", "none", str(FALLBACK_MOUNT)]) != 0:
        raise FeatureUnsupported("cgroup v2 is not mounted and cannot be: boot without cgroup_no_v1=all limits")
    return FALLBACK_MOUNT


def pids(directory: Path) -> list[int]:
    """Return the processes in the cgroup and all cgroups below it."""
    found: list[int] = []
    for file in [directory / "cgroup.procs", *directory.rglob("cgroup.procs")]:
        with contextlib.suppress(OSError):
            found += [int(line) for line in file.read_text().split()]
    return sorted(set(found))


def kill(directory: Path) -> None:
    """Kill every process in the cgroup and below, and no other."""
    if not directory.is_dir():
        return
    try:
        (directory / "cgroup.kill").write_text("1")
    except OSError:  # older than 5.14: by hand, again until none is left, as they may fork meanwhile
        for _ in range(100):
            victims = pids(directory)
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not victims:
                break


def remove(directory: Path, timeout: float = 10.0) -> None:
    """Kill what is inside, then remove the cgroup and those below it. No error if it is gone already.

    Refuses any directory that is not a test cgroup of ours, whatever a damaged record may say.
    """
    if not any(part.startswith(TEST_PREFIX) for part in directory.parts):
        raise ValueError(f"{directory}: not a test cgroup")
    kill(directory)

    def gone() -> bool:
        children = sorted((d for d in directory.rglob("*") if d.is_dir()), key=lambda d: -len(d.parts))
        for child in [*children, directory]:
            try:
                child.rmdir()
            except FileNotFoundError:
                continue
            except OSError:  # busy: a process in it has not finished dying
                return False
        return True

    wait_until(gone, f"{directory} is empty", timeout)
