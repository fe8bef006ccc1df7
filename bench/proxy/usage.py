"""What processes cost: processor time and memory, from /proc."""

import os
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
Times = dict[int, float]


def _stat(pid: int | str) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on; none if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def family(pid: int) -> list[int]:
    """Return the process and all that descend from it."""
    parents = {int(name): int(fields[1]) for name in os.listdir("/proc") if name.isdigit() and (fields := _stat(name))}
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def times(pids: Iterable[int]) -> Times:
    """Return the seconds of processor time, user and system, that each process has used, all threads together."""
    found = {pid: _stat(pid) for pid in pids}
    return {pid: (int(fields[11]) + int(fields[12])) / _TICKS for pid, fields in found.items() if fields}


def spent(before: Times, after: Times) -> float:
    """Return the seconds used between two calls of `times`; a process that is new counts from its start."""
    return sum(value - before.get(pid, 0.0) for pid, value in after.items())


def memory(pids: Iterable[int]) -> dict[str, float]:
    """Return "pss" and "rss" of the processes together, in MB: pages that they share are in "pss" only once."""
    total = {"pss": 0.0, "rss": 0.0}
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            key, _, rest = line.partition(":")
            if key.lower() in total:
                total[key.lower()] += int(rest.split()[0]) * 1024 / 1e6
    return total
