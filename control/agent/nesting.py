"""Which cgroups are, or hold, another workload's: the programs that hang there would run twice for that one's calls."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from control import model

_Place = tuple[int, int]  # a directory: device, inode


def overlaps(workloads: Iterable[model.Workload]) -> dict[tuple[str, str], model.Workload]:
    """Return, for each workload whose cgroup is or holds that of another, one such other."""
    lines = [(workload, line) for workload in workloads if (line := _line(workload.cgroup))]
    inside: dict[_Place, list[model.Workload]] = {}
    for workload, line in lines:
        for place in line:
            inside.setdefault(place, []).append(workload)
    out = {}
    for workload, line in lines:
        for other in inside[line[0]]:
            if other is not workload:
                out[workload.namespace, workload.name] = other
                break
    return out


def _line(cgroup: str) -> list[_Place]:
    """Return the directories from a cgroup up to the root of its file system, wherever that is mounted."""
    out: list[_Place] = []
    with contextlib.suppress(OSError, ValueError):
        real = Path(os.path.realpath(cgroup))
        for directory in (real, *real.parents) if cgroup else ():
            found = os.stat(directory)
            if out and found.st_dev != out[0][0]:
                break
            out.append((found.st_dev, found.st_ino))
    return out
