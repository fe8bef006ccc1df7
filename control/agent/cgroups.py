"""Which cgroups the hooks of workloads can hang on, and what is wrong with the others."""

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from control import model
from control.agent import host, nesting
from loader import mesh, mounts

NO_HOOKS = "(its packets are under policy, but it gets no short cut and no error at connect)"
_RETRY_S = 30.0  # how long a cgroup that refused is not asked again


class Cgroups:
    """Remembers which cgroups refused hooks: asking costs the kernel something, and seldom helps."""

    def __init__(self, loaded: mesh.Mesh) -> None:
        self._mesh = loaded
        self._refused: dict[tuple[str, int], tuple[str, float]] = {}  # path and inode -> why, and when to ask again

    def usable(
        self, workloads: Iterable[model.Workload]
    ) -> tuple[dict[tuple[str, str], str], list[tuple[model.Workload, str]]]:
        """Return the cgroups that hooks are to hang on, and for each workload whose cgroup takes none, why."""
        given = list(workloads)
        overlaps = nesting.overlaps(given)
        out: dict[tuple[str, str], str] = {}
        problems: list[tuple[model.Workload, str]] = []
        for workload in given:
            cgroup = workload.cgroup
            wrong = self.wrong(cgroup)
            if cgroup and not wrong and (other := overlaps.get((workload.namespace, workload.name))):
                wrong = f"{cgroup} is, or holds, the cgroup of Workload {other}, too"
            if wrong:
                problems.append((workload, f"spec.cgroup: {wrong} {NO_HOOKS}"))
            elif cgroup:
                out[workload.namespace, workload.name] = cgroup
        return out, problems

    def refuse(self, path: str, inode: int, why: str) -> None:
        """Remember that a cgroup refused hooks. It is asked again after a while: its programs may have become fewer."""
        there = {key: value for key, value in self._refused.items() if host.inode(key[0]) == key[1]}
        self._refused = there | {(path, inode): (why, time.monotonic() + _RETRY_S)}

    def wrong(self, path: str) -> str:
        """Return why no hooks can hang on a cgroup, "" where they can, or where there is none to hang on."""
        if not path:
            return ""
        try:
            inode = os.stat(path).st_ino
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            return f"{path}: {why}: is the workload still there? {_advice(path)}"
        if not mounts.is_cgroup2(path):
            return f"{path} is no directory of cgroup v2: {_advice(path)}"
        why, again = self._refused.get((path, inode), ("", 0.0))
        if why and time.monotonic() >= again:
            # By programs that do nothing: what hangs on its cgroup decides how a pod is judged, so that it should be
            # said of one only when it is so, and not each time that it might have become so.
            if why := self._mesh.refusal(path):
                self.refuse(path, inode, why)
            else:
                del self._refused[path, inode]
        return why


def _advice(path: str) -> str:
    """Return where cgroup v2 is, and the directory there that a path beside it was to mean."""
    root = mounts.cgroup2()
    if root is None:
        return "cgroup v2 is mounted nowhere that the agent sees (mount -t cgroup2 none /sys/fs/cgroup/unified)"
    words = f"cgroup v2 is mounted at {root}"
    with contextlib.suppress(ValueError):  # beside cgroup v1 it is usually one directory further down
        meant = root / Path(path).relative_to(root.parent)
        if mounts.is_cgroup2(str(meant)):
            words += f": did you mean {meant}?"
    return words
