"""All of it at one moment, and what files gave it."""

import dataclasses
from collections.abc import Mapping

from control.model.base import Problem
from control.model.objects import CidrGroup, Endpoints, Namespace, Node, Service, Workload
from control.model.rules import Policy

Object = Workload | Namespace | Service | Endpoints | Policy | Node | CidrGroup


@dataclasses.dataclass(frozen=True)
class FileState:
    """What one file gave. `good`: it was read whole at least once, so these are its last good objects, and `digest` is
    empty while it is broken; otherwise they are what closes in its place.
    """

    digest: str
    objects: tuple[Object, ...]
    good: bool


@dataclasses.dataclass(frozen=True)
class Refused:
    """A content of a file that is wrong, and why: it need not be read again."""

    digest: str
    problems: tuple[Problem, ...]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """All that is declared at one moment, each group sorted by name."""

    workloads: tuple[Workload, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    services: tuple[Service, ...] = ()
    policies: tuple[Policy, ...] = ()
    nodes: tuple[Node, ...] = ()
    cidr_groups: tuple[CidrGroup, ...] = ()
    learned: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # DNS name -> addresses
    folded: Mapping[str, str] = dataclasses.field(default_factory=dict)  # "namespace/name" -> that of who stands for it
    folded_nodes: Mapping[str, str] = dataclasses.field(default_factory=dict)  # such a name, or its address -> its node
    files: Mapping[str, FileState] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, Refused] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class LoadResult:
    """A snapshot that can be used as it is, and everything that is wrong with what was left out of it.

    `is_read`: the directory could be read, whatever is in it. `is_whole`: so could every file, none is empty, and
    no two are at odds.
    """

    snapshot: Snapshot
    problems: tuple[Problem, ...] = ()
    advice: tuple[Problem, ...] = ()  # of what was taken and does not do all that it says, where it is told apart
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)  # kind -> how many that mean nothing here
    is_read: bool = True
    is_whole: bool = True
