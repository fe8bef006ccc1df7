"""What an agent keeps of certificates in its run directory, for its next start and for `sockmesh cert`.

    certs/<sha256 of the SPIFFE id>.pem    key and chain of a service account, as they are in use
    certs/roots.pem                        the roots that are trusted
    certs/plan.json                        when each is due to be renewed, and what went wrong

The directory is root's alone, and so is each file.
"""

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from control.certificates import certificate, files, leaf
from control.certificates.certificate import Certificate
from control.certificates.leaf import Credential
from control.certificates.spiffe import SpiffeId

DIRECTORY = "certs"  # in the run directory
ROOTS, PLAN = "roots.pem", "plan.json"
_LEAF = 64 + len(".pem")  # characters of a leaf's file


@dataclasses.dataclass(frozen=True)
class Planned:
    """Of one service account: when its next certificate is due, and why the last attempt failed."""

    due_at: float
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
    """`problem`: why who signs could not be asked when that was tried last."""

    trust_domain: str = ""
    problem: str = ""
    leaves: dict[str, Planned] = dataclasses.field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=1)


@dataclasses.dataclass(frozen=True)
class Leaf:
    credential: Credential
    renewed_at: float  # when it was written


@dataclasses.dataclass(frozen=True)
class Found:
    """All that is there; `broken` are files that cannot be used, and why."""

    leaves: dict[SpiffeId, Leaf]
    roots: tuple[Certificate, ...]
    plan: Plan
    broken: tuple[files.BadFile, ...] = ()


def path_of(directory: Path, id: SpiffeId) -> Path:
    """Return where a service account's certificate is; a name of its own may be longer than a file's may be."""
    return directory / f"{hashlib.sha256(str(id).encode()).hexdigest()}.pem"


def read(directory: Path) -> Found:
    """Return what is kept; nothing where there is no such directory."""
    leaves: dict[SpiffeId, Leaf] = {}
    broken: list[files.BadFile] = []
    for path in sorted(directory.glob("*.pem")):
        if len(path.name) != _LEAF:
            continue
        try:
            found = Leaf(leaf.load(path), path.stat().st_mtime)
        except files.BadFile as error:
            broken.append(error)
        except FileNotFoundError:  # just now
            continue
        else:
            if path_of(directory, found.credential.id) == path:  # else it is nobody's
                leaves[found.credential.id] = found
    roots: tuple[Certificate, ...] = ()
    try:
        if (directory / ROOTS).exists():
            roots = certificate.read_pem(files.read(directory / ROOTS))
    except files.BadFile as error:
        broken.append(error)
    except certificate.Unreadable as error:
        broken.append(files.BadFile(directory / ROOTS, str(error)))
    return Found(leaves, roots, _plan(directory / PLAN), tuple(broken))


def _plan(path: Path) -> Plan:
    """Return what was planned; it is only for people, so one that is broken is none."""
    with contextlib.suppress(files.BadFile, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raw: Any = json.loads(files.read(path))
        leaves = {str(id): Planned(float(each["due_at"]), str(each["problem"])) for id, each in raw["leaves"].items()}
        return Plan(str(raw["trust_domain"]), str(raw["problem"]), leaves)
    return Plan()


def prepare(directory: Path) -> None:
    """Make the directory, and take away what a writer that was killed left; raises BadFile."""
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        directory.chmod(0o700)
        for path in directory.glob(".*.pem.*"):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise files.BadFile(directory, error.strerror or str(error)) from error


def forget(path: Path) -> None:
    """Take away a certificate that nobody needs any more; raises BadFile."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise files.BadFile(path, error.strerror or str(error)) from error
