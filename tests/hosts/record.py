"""The run directory: what a run has made, written down before it is made."""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RUNS = Path("/run/sockmesh-test")


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None if it is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True)
class Run:
    """One run's directory. `id` is part of every name it gives to namespaces, cgroups and pins."""

    id: str
    directory: Path

    @classmethod
    def begin(cls) -> "Run":
        """Make a run directory owned by this process."""
        run_id = secrets.token_hex(4)
        RUNS.mkdir(parents=True, exist_ok=True)
        draft = RUNS / f".{run_id}"
        draft.mkdir()
        owner = {"pid": os.getpid(), "start": start_time(os.getpid()), "boot": _boot_id()}
        (draft / "owner.json").write_text(json.dumps(owner))
        (draft / "resources").touch()
        # Renamed when complete: a sweep never sees a run whose owner it cannot read yet.
        draft.rename(RUNS / run_id)
        return cls(run_id, RUNS / run_id)

    def note(self, kind: str, name: str) -> None:
        """Write down what is about to be made: kind is netns, cgroup, mount, pin or proxy (a run directory)."""
        with (self.directory / "resources").open("a") as file:
            file.write(f"{kind} {name}\n")

    def resources(self) -> list[tuple[str, str]]:
        """Return what was written down, latest first, so that it can be taken down in that order."""
        out = []
        for line in (self.directory / "resources").read_text().splitlines():
            kind, _, name = line.partition(" ")
            if name:
                out.append((kind, name))
        return out[::-1]

    def owner_alive(self) -> bool:
        """Return whether the process that began the run still runs (the same process, not only the same pid)."""
        try:
            owner = json.loads((self.directory / "owner.json").read_text())
            return bool(owner["boot"] == _boot_id() and owner["start"] == start_time(int(owner["pid"])))
        except (OSError, ValueError, KeyError):
            return False

    def end(self) -> None:
        """Forget the run: everything it noted is gone."""
        shutil.rmtree(self.directory, ignore_errors=True)


@contextlib.contextmanager
def dead_runs() -> Iterator[list[Run]]:
    """Give the runs whose owner is gone, to one sweeper at a time."""
    RUNS.mkdir(parents=True, exist_ok=True)
    with (RUNS / ".sweep").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = [Run(d.name, d) for d in sorted(RUNS.iterdir()) if (d / "owner.json").is_file() and d.name[0] != "."]
        yield [run for run in runs if not run.owner_alive()]
