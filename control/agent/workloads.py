"""Looks after local workloads: what the host knows of each, and its hooks."""

import contextlib
import dataclasses
import os
import socket
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from control import compile as compiler
from control import model, names
from control.agent import nesting
from loader import abi, mesh, mounts, netns
from loader.errors import AttachFailed, CgroupFailed

Key = tuple[str, str]
Where = tuple[str, int, str]  # interface, ifindex, cgroup
_NO_HOOKS = "(its packets are under policy, but it gets no short cut and no error at connect)"


@dataclasses.dataclass(frozen=True)
class Found:
    """A workload that is here: where it was found, and the facts. `inode` is the namespace's, 0: not entered."""

    netns: str
    interface: str
    inode: int
    facts: compiler.EndpointFacts

    @property
    def has_sockets(self) -> bool:
        """Whether the namespace's sockets can be its own; not where it was adopted as one that had none."""
        return self.facts.netns_cookie != 0

    def is_unchanged(self) -> bool:
        """Tell whether a look would find the same."""
        return self.inode != 0 and _inode(netns.path_of(self.netns)) == self.inode and self.has_interface()

    def has_interface(self) -> bool:
        """Tell whether the facts hold, even where the namespace can no longer be entered: its file can be unmounted
        while processes live in it, but the interface of one that is gone is gone, too."""
        return self.facts.ifindex != 0 and _index(self.interface) == self.facts.ifindex


@dataclasses.dataclass(eq=False)
class _Here:
    """A workload of a survey. `stays`: it is not where its file says. `has_sockets`: its namespace's are its own."""

    workload: model.Workload
    found: Found
    stays: bool = False
    has_sockets: bool = True


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
        # What a predecessor had in force, once. It had a name for one, too, that did not get the interface it named.
        self._before = {(e.namespace, e.name): e for e in known.endpoints.values() if self._adopted(e)}
        # Those that had the sockets of their network namespaces at the last survey, or in the maps of a predecessor.
        self._callers = {key for key, name in self._before.items() if (old := self._adopted(name)) and old.has_sockets}
        self._attached: dict[int, Where] = {}  # by endpoint id
        # A predecessor may have died between the maps and the hooks: its endpoints by its names, once.
        self._left = {e.id: index for e in known.endpoints.values() if (index := _index(e.interface))}
        self._cgroups: dict[str, int] = {}  # those of the last survey, and their inodes
        self._refused: dict[tuple[str, int], str] = {}  # cgroup and inode -> why it takes no hooks

    def survey(self, workloads: Iterable[model.Workload]) -> Survey:
        """Look at each workload.

        One that is edited to what does not exist, or whose namespace can no longer be entered, stays as it was for as
        long as its interface is there, under a new name, too: neither takes the hooks off a running pod.
        """
        out = Survey({}, {}, [])
        here: list[_Here] = []
        workloads = list(workloads)
        named = {_key(workload) for workload in workloads}
        for workload in workloads:
            try:
                here.append(_Here(workload, self._named(_key(workload), workload)))
            except (AttachFailed, OSError, ValueError) as error:  # whatever one is, it never stops the others
                kept = self._kept(workload, named)
                words = _until_then(str(error)) if kept else str(error)
                if kept or _is_placed(workload):  # else the file's own problem says it
                    out.problems.append(_problem(workload, words))
                if kept:
                    here.append(_Here(workload, kept, stays=True))
        self._share_out(here, out.problems)
        plain = netns.plain_veths()
        cgroups = self._cgroups_of([each.workload for each in here if each.has_sockets], out.problems)
        self._cgroups = {path: _inode(path) for path in cgroups.values()}
        for each in here:
            workload, found, key = each.workload, each.found, _key(each.workload)
            facts = found.facts if each.has_sockets else compiler.EndpointFacts(ifindex=found.facts.ifindex)
            out.facts[key] = dataclasses.replace(facts, has_cgroup=key in cgroups, direct=facts.ifindex in plain)
            out.workloads[key] = dataclasses.replace(workload, netns=found.netns, interface=found.interface)
        self._found, self._before = {_key(each.workload): each.found for each in here}, {}
        return out

    def _share_out(self, here: list["_Here"], problems: list[model.Problem]) -> None:
        """Leave each interface, and the sockets of each network namespace, to one: files can give them to two under
        different spellings.

        Who is where its file says has the right before one that only stays, who was there before it, then names decide.
        No interface is without policy by that.
        """
        interfaces: dict[int, model.Workload] = {}
        spaces: dict[int, model.Workload] = {}
        lost: list[tuple[_Here, str]] = []
        for each in sorted(here, key=lambda each: (each.stays, not self._held(each))):
            workload, facts = each.workload, each.found.facts
            other = interfaces.setdefault(facts.ifindex, workload)
            if other is not workload:
                words = f"spec.interface: {each.found.interface} is that of Workload {other}, whose policy is in force"
                lost.append((each, words))
                here.remove(each)
        for each, words in lost:  # the interface that one had before is nobody's else
            kept = self._last_good(_key(each.workload))
            if kept and interfaces.setdefault(kept.facts.ifindex, each.workload) is each.workload:
                here.append(_Here(each.workload, kept, stays=True))
                words = _until_then(words)
            problems.append(_problem(each.workload, words))
        for each in sorted(here, key=lambda each: (each.stays, _key(each.workload) not in self._callers)):
            workload, facts = each.workload, each.found.facts
            if not each.found.has_sockets:
                each.has_sockets = False
                continue
            other = spaces.setdefault(facts.netns_cookie, workload)
            if other is not workload:
                each.has_sockets = False
                words = f"spec.netns: {each.found.netns} is that of Workload {other}, too, for which its calls count"
                problems.append(_problem(workload, f"{words} {_NO_HOOKS}"))
        self._callers = {_key(workload) for workload in spaces.values()}

    def _held(self, each: "_Here") -> bool:
        """Tell whether a workload had its interface at the last survey, or when the predecessor ended."""
        key, ifindex = _key(each.workload), each.found.facts.ifindex
        old, name = self._found.get(key), self._before.get(key)
        if old is None and name:
            old = self._adopted(name)
        return old is not None and old.facts.ifindex == ifindex

    def _cgroups_of(self, workloads: list[model.Workload], problems: list[model.Problem]) -> dict[Key, str]:
        """Return the cgroups that hooks are to hang on."""
        overlaps = nesting.overlaps(workloads)
        out: dict[Key, str] = {}
        for workload in workloads:
            cgroup, wrong = self._cgroup(workload.cgroup)
            if cgroup and (other := overlaps.get(_key(workload))):
                wrong = f"spec.cgroup: {cgroup} is, or holds, the cgroup of Workload {other}, too"
            if wrong:
                problems.append(_problem(workload, f"{wrong} {_NO_HOOKS}"))
            elif cgroup:
                out[_key(workload)] = cgroup
        return out

    def all_there(self) -> bool:
        """Tell, cheaply, whether every workload of the last survey is what and where it was."""
        return all(found.is_unchanged() for found in self._found.values()) and all(
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
        if old and (old.netns, old.interface) == (where, interface) and old.is_unchanged():
            return old
        inode = _inode(netns.path_of(where))
        pod = netns.facts(where, interface)
        return Found(where, interface, inode, compiler.EndpointFacts(pod.netns_cookie, pod.ifindex, pod.nsid))

    def _kept(self, workload: model.Workload, named: Collection[Key]) -> Found | None:
        """Return what was in force at a workload's interface, else under its name, else in its namespace under a name
        that is no more: it may have got another name together with the mistake.
        """
        was = {key: old for key, name in self._before.items() if (old := self._adopted(name))} | self._found
        own, ifindex = _key(workload), _index(workload.interface)
        there = next((key for key, old in was.items() if old.facts.ifindex == ifindex), own)
        within = (key for key, old in was.items() if key not in named and old.netns == workload.netns)
        return next(filter(None, map(self._last_good, (there, own, *within))), None)

    def _last_good(self, key: Key) -> Found | None:
        old, name = self._found.get(key), self._before.get(key)
        if old is None and name and name.netns and name.interface:
            with contextlib.suppress(AttachFailed, OSError, ValueError):
                old = self._look(key, name.netns, name.interface)
            old = old or self._adopted(name)
        return old if old and old.has_interface() else None

    def _adopted(self, name: names.EndpointName) -> Found | None:
        """Return a workload as the predecessor put it in force, which needs no way into its namespace."""
        held = self._mesh.maps.endpoints.get(abi.EndpointKey(name.id))
        if held is None:
            return None
        return Found(name.netns, name.interface, 0, compiler.EndpointFacts(held.netns_cookie, held.ifindex, held.nsid))

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

        Return what failed, and whether a cgroup refused, so that its workload must be looked at again.
        """
        failures: list[tuple[int, AttachFailed]] = []
        refused = False
        old, self._left = {**self._left, **old}, {}
        for id, where in wanted.items():
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

    def put_back(self, adopted: Mapping[int, Where]) -> list[tuple[int, AttachFailed]]:
        """Attach what a predecessor had in force and is not attached; take nothing away. Return what failed."""
        failures: list[tuple[int, AttachFailed]] = []
        for id, (interface, ifindex, cgroup) in adopted.items():
            if id in self._attached or _index(interface) != ifindex:
                continue
            try:
                self._mesh.attach(id, interface, ifindex, cgroup)
                self._attached[id] = interface, ifindex, cgroup
            except CgroupFailed:  # its filters hang; of its cgroup the first survey tells
                self._attached[id] = interface, ifindex, ""
            except AttachFailed as error:
                failures.append((id, error))
        return failures

    def _detach(self, wanted: Mapping[int, Where], old: Mapping[int, int]) -> None:
        for id in old:
            if id not in wanted:
                self._mesh.detach(id)
                self._attached.pop(id, None)
        for ifindex in set(old.values()) - {ifindex for _, ifindex, _ in wanted.values()}:
            self._mesh.release(ifindex)


def _key(workload: model.Workload) -> Key:
    return workload.namespace, workload.name


def _is_placed(workload: model.Workload) -> bool:
    return bool(workload.netns and workload.interface)


def _problem(workload: model.Workload, message: str) -> model.Problem:
    file, _, _ = workload.source.partition(":")
    return model.Problem(file, f"Workload {workload}", message)


def _until_then(words: str) -> str:
    return f"{words}; until then the last good values stay"


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
