"""Looks after local workloads: what the host knows of each, and its hooks."""

import contextlib
import dataclasses
import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from control import compile as compiler
from control import model, names
from loader import mesh, mounts, netns
from loader.errors import AttachFailed, CgroupFailed

Key = tuple[str, str]
Where = tuple[str, int, str]  # interface, ifindex, cgroup


@dataclasses.dataclass(frozen=True)
class Found:
    """A workload that is here: where it was found, and the facts. `inode` is the namespace's, 0: not looked at."""

    netns: str
    interface: str
    inode: int
    facts: compiler.EndpointFacts

    def still_there(self) -> bool:
        inode = _inode(netns.path_of(self.netns))
        return inode != 0 and self.inode in (0, inode) and _index(self.interface) == self.facts.ifindex


@dataclasses.dataclass(frozen=True)
class Survey:
    """The facts of each workload that is here, the workloads as they were found, a problem for each that is wrong."""

    facts: dict[Key, compiler.EndpointFacts]
    workloads: dict[Key, model.Workload]
    problems: list[model.Problem]


class Workloads:
    """Facts of local workloads, remembered while nothing about them changed, and what is attached."""

    def __init__(self, loaded: mesh.Mesh, known: names.Names) -> None:
        self._mesh = loaded
        self._found: dict[Key, Found] = {}
        self._before = {(e.namespace, e.name): e for e in known.endpoints.values()}  # a predecessor's, once
        self._attached: dict[int, Where] = {}  # by endpoint id
        # A predecessor may have died between the maps and the hooks: its endpoints by its names, once.
        self._left = {e.id: index for e in known.endpoints.values() if (index := _index(e.interface))}
        self._cgroups: dict[str, int] = {}  # those of the last survey, and their inodes
        self._refused: dict[tuple[str, int], str] = {}  # cgroup and inode -> why it takes no hooks

    def survey(self, workloads: Iterable[model.Workload]) -> Survey:
        """Look at each workload.

        One that is edited to what does not exist stays as it was for as long as that exists: a mistake in a file does
        not take the hooks off a running pod.
        """
        out = Survey({}, {}, [])
        remembered: dict[Key, Found] = {}
        self._cgroups = {}
        plain = netns.plain_veths()
        for workload in workloads:
            key = (workload.namespace, workload.name)
            try:
                found = self._named(key, workload)
            except AttachFailed as error:
                kept = self._last_good(key)
                words = f"{error}; until then the last good values stay" if kept else str(error)
                if kept or _is_placed(workload):  # else the file's own problem says it
                    out.problems.append(_problem(workload, words))
                if kept is None:
                    continue
                found = kept
            remembered[key] = found
            cgroup, wrong = self._cgroup(workload.cgroup)
            if cgroup:
                self._cgroups[cgroup] = _inode(cgroup)
            if wrong:
                words = f"{wrong} (its packets are under policy, but it gets no short cut and no error at connect)"
                out.problems.append(_problem(workload, words))
            direct = found.facts.ifindex in plain
            out.facts[key] = dataclasses.replace(found.facts, has_cgroup=bool(cgroup), direct=direct)
            out.workloads[key] = dataclasses.replace(workload, netns=found.netns, interface=found.interface)
        self._found, self._before = remembered, {}
        return out

    def all_there(self) -> bool:
        """Tell, cheaply, whether every workload of the last survey is what and where it was."""
        return all(found.still_there() for found in self._found.values()) and all(
            _inode(path) == inode for path, inode in self._cgroups.items()
        )

    def unhook(self) -> list[str]:
        """Return the interfaces whose filters somebody took away, and forget that these were attached."""
        bare = self._mesh.without_filters(ifindex for _, ifindex, _ in self._attached.values())
        lost = {index for name, index, _ in self._attached.values() if index in bare and _index(name) == index}
        names = [where[0] for where in self._attached.values() if where[1] in lost]
        self._attached = {id: where for id, where in self._attached.items() if where[1] not in lost}
        return names

    def _named(self, key: Key, workload: model.Workload) -> Found:
        if not _is_placed(workload):
            raise AttachFailed("names no network namespace, or no interface")
        return self._look(key, workload.netns, workload.interface)

    def _look(self, key: Key, where: str, interface: str) -> Found:
        old = self._found.get(key)
        if old and (old.netns, old.interface) == (where, interface) and old.inode and old.still_there():
            return old
        inode = _inode(netns.path_of(where))
        pod = netns.facts(where, interface)
        return Found(where, interface, inode, compiler.EndpointFacts(pod.netns_cookie, pod.ifindex, pod.nsid))

    def _last_good(self, key: Key) -> Found | None:
        old, name = self._found.get(key), self._before.get(key)
        if old is None and name and name.netns and name.interface:
            with contextlib.suppress(AttachFailed):
                old = self._look(key, name.netns, name.interface)
        return old if old and old.still_there() else None

    def _cgroup(self, path: str) -> tuple[str, str]:
        """Return a cgroup that hooks can hang on, or "" and what is wrong with the one given."""
        if not path:
            return "", ""
        try:
            inode = os.stat(path).st_ino
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            return "", f"spec.cgroup: {path}: {why}: is the workload still there? {_advice(path)}"
        if not mounts.is_cgroup2(path):
            return "", f"spec.cgroup: {path} is no directory of cgroup v2: {_advice(path)}"
        refused = self._refused.get((path, inode))
        return ("", f"spec.cgroup: {refused}") if refused else (path, "")

    def attach(
        self, wanted: Mapping[int, Where], old: Mapping[int, int], force: bool = False
    ) -> tuple[list[tuple[int, AttachFailed]], bool]:
        """Attach the hooks of endpoints, and take away those of `old` ones (id -> ifindex) that are not wanted.

        The hooks of an endpoint whose place another takes pass over to it, so that no moment is without. Return what
        failed, and whether a cgroup refused, so that its workload must be looked at again.
        """
        failures: list[tuple[int, AttachFailed]] = []
        refused = False
        old, self._left = {**self._left, **old}, {}
        gone = {ifindex: id for id, ifindex in old.items() if id not in wanted}
        for id, where in wanted.items():
            if where[1] in gone and id not in old:
                self._mesh.hand_over(gone[where[1]], id)
            if not force and self._attached.get(id) == where:
                continue
            try:
                self._mesh.attach(id, *where)
                self._attached[id] = where
            except CgroupFailed as error:
                refused = True
                self._attached.pop(id, None)
                self._refused[where[2], _inode(where[2])] = str(error)
            except AttachFailed as error:
                failures.append((id, error))
        self._detach(wanted, old)
        return failures, refused

    def _detach(self, wanted: Mapping[int, Where], old: Mapping[int, int]) -> None:
        for id in old:
            if id not in wanted:
                self._mesh.detach(id)
                self._attached.pop(id, None)
        for ifindex in set(old.values()) - {ifindex for _, ifindex, _ in wanted.values()}:
            self._mesh.release(ifindex)


def _is_placed(workload: model.Workload) -> bool:
    return bool(workload.netns and workload.interface)


def _problem(workload: model.Workload, message: str) -> model.Problem:
    file, _, _ = workload.source.partition(":")
    return model.Problem(file, f"Workload {workload}", message)


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


# ValueError: a name with a zero byte, which nothing has.
def _inode(path: os.PathLike[str] | str) -> int:
    with contextlib.suppress(OSError, ValueError):
        return os.stat(path).st_ino
    return 0


def _index(interface: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        return socket.if_nametoindex(interface)
    return 0
