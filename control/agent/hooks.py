"""Attaches the hooks of endpoints where they belong, and takes away those that are not wanted any more."""

import dataclasses
import logging
from collections.abc import Mapping
from typing import NamedTuple

from control import names
from control.agent import host
from loader import mesh
from loader.errors import AttachFailed, CgroupFailed

LOG = logging.getLogger("sockmesh.agent")


class Where(NamedTuple):
    """Where an endpoint's hooks hang. `cgroup` "": on none; None: nobody can tell, so that what hangs there stays."""

    interface: str
    ifindex: int
    cgroup: str | None


class _Hung(NamedTuple):
    """`inode` is the cgroup's: one that was made again under its path is another, and has no hooks."""

    where: Where
    inode: int


@dataclasses.dataclass
class Outcome:
    """What could not be attached. `refused`: cgroup and inode -> why it takes no hooks; the filters hang. `hung`: how
    many endpoints' filters do."""

    hung: int = 0
    failed: list[tuple[int, AttachFailed]] = dataclasses.field(default_factory=list)
    refused: dict[tuple[str, int], str] = dataclasses.field(default_factory=dict)


class Hooks:
    """What hangs where, by endpoint id."""

    def __init__(self, loaded: mesh.Mesh, known: names.Names) -> None:
        self._mesh = loaded
        self._hung: dict[int, _Hung] = {}
        self._why_lost = ""  # why the machine-wide hooks cannot be put back
        # A predecessor may have died between the maps and the hooks: its endpoints by its names, once.
        self._left = {e.id: index for e in known.endpoints.values() if (index := host.index(e.interface))}

    def attach(self, wanted: Mapping[int, Where], old: Mapping[int, int], force: bool = False) -> Outcome:
        """Attach the hooks of endpoints, and take away those of `old` ones (id -> ifindex) that are not wanted."""
        out = Outcome()
        old, self._left = {**self._left, **old}, {}
        for id, where in wanted.items():
            self._attach(id, where, force, out)
        self._detach(wanted, old)
        return out

    def put_back(self, adopted: Mapping[int, Where]) -> Outcome:
        """Attach what is not attached and should be, where the interface is still that one; take nothing away."""
        out = Outcome()
        for id, where in adopted.items():
            if host.index(where.interface) == where.ifindex:
                self._attach(id, where, False, out)
        return out

    def _attach(self, id: int, where: Where, force: bool, out: Outcome) -> None:
        # Asked before: should the cgroup be made again meanwhile, the next look finds another than this.
        hung = _Hung(where, host.inode(where.cgroup) if where.cgroup else 0)
        if not force and self._hung.get(id) == hung:
            out.hung += 1
            return
        try:
            self._mesh.attach(id, *where)
            self._hung[id] = hung
            out.hung += 1
        except CgroupFailed as error:
            self._hung.pop(id, None)
            out.hung += 1
            out.refused[where.cgroup or "", hung.inode] = str(error)
        except AttachFailed as error:
            out.failed.append((id, error))

    def unhook(self) -> list[str]:
        """Return the interfaces and cgroups whose hooks somebody took away, and forget that these were attached."""
        bare = set(self._mesh.without_filters(hung.where.ifindex for hung in self._hung.values()))
        loose = set(self._mesh.without_links((id, hung.inode) for id, hung in self._hung.items() if hung.inode))
        lost = []
        for id, (where, inode) in list(self._hung.items()):
            # What is gone, or made again, has lost nothing: it is another matter, and another's.
            places = [where.interface] if where.ifindex in bare and host.index(where.interface) == where.ifindex else []
            if id in loose and where.cgroup and host.inode(where.cgroup) == inode:
                places.append(where.cgroup)
            if places:
                del self._hung[id]
            lost += places
        return lost

    def put_back_shared(self) -> list[str]:
        """Return which of the machine-wide hooks somebody took away, and that are back; says once why they are not."""
        lost, why = self._mesh.put_back_shared()
        if why and why != self._why_lost:
            LOG.error("%s: taken off by somebody else, and not to be put back: %s", ", ".join(lost), why)
        self._why_lost = why
        return [] if why else lost

    def _detach(self, wanted: Mapping[int, Where], old: Mapping[int, int]) -> None:
        # What hangs counts, too: an edit that failed half-way may have taken an endpoint out of the maps alone.
        old = {**{id: hung.where.ifindex for id, hung in self._hung.items()}, **old}
        for id in old:
            if id not in wanted:
                self._mesh.detach(id)
                self._hung.pop(id, None)
        for ifindex in set(old.values()) - {where.ifindex for where in wanted.values()}:
            self._mesh.release(ifindex)
