"""A directory of files to a `Snapshot`. A file that is wrong anywhere changes nothing.

At the first start there is nothing before that could stay, so the policies of a broken file become denies on what they
select, and a file that could select anything one on every pod: a mistake closes and never opens. What is taken but does
not do all that it says is told of, too.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from control import model
from control.policy import field, parse
from control.source import assemble, backends, claims, content, document, objects

MAX_FILES = 10_000
ENDINGS = (".yaml", ".yml", ".json")
EMPTY = model.Snapshot()

# What a broken file does meanwhile.
STAYS = "what the file gave before stays in force"
NOTHING = "nothing of the file is in force"
CLOSES = "until it is mended, its policies deny everything on the pods that they select"
CLOSES_ALL = "nobody can tell which pods it selects, so all are closed until it is mended or taken away"
UNKNOWN = "pods whose Workload in it cannot be read are not under policy"
ADOPTED = "what the agent before left in force stays in force, and nothing else is, until the file is mended"


@dataclasses.dataclass(frozen=True)
class _Taken(model.FileState):
    """A file that was read whole, and what its author should know of it for as long as it stays as it is."""

    advice: tuple[model.Problem, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """What a file gives this time, if nothing else claims the same names."""

    file: str
    state: model.FileState
    changed: bool


def load(directory: str | os.PathLike[str], previous: model.Snapshot | None) -> model.LoadResult:
    """Return what the directory declares now; never raises for what is in it, `problems` names it instead.

    `previous` is what it declared before, None at the first start.
    """
    before = previous or EMPTY
    try:
        with os.scandir(directory) as entries:
            files = sorted(e.name for e in entries if e.name.endswith(ENDINGS) and not e.name.startswith("."))
    except OSError as error:
        return model.LoadResult(before, (model.Problem(str(directory), "", f"cannot be read: {error.strerror}"),))
    problems: list[model.Problem] = []
    if len(files) > MAX_FILES:
        problem = model.Problem(str(directory), "", f"has {len(files)} files (at most {MAX_FILES})")
        return model.LoadResult(before, (problem,))
    candidates: list[_Candidate] = []
    refused: dict[str, model.Refused] = {}
    for file in files:
        with document.uncollected():
            candidate, wrong = _read(Path(directory) / file, file, previous)
        candidates += [candidate] if candidate else []
        if wrong:
            refused[file] = wrong
            problems += wrong.problems
    states, in_force, conflicts = _without_conflicts(candidates, previous)
    snapshot = dataclasses.replace(assemble.snapshot(in_force), files=states, refused=refused)
    advice = [a for state in states.values() if isinstance(state, _Taken) and state.digest for a in state.advice]
    return model.LoadResult(snapshot, (*problems, *conflicts, *advice, *backends.nobody_meant(snapshot)))


def _read(path: Path, file: str, previous: model.Snapshot | None) -> tuple[_Candidate | None, model.Refused | None]:
    """Return what a file gives, and what is wrong with it, if anything is."""
    old = previous.files.get(file) if previous else None
    before = previous.refused.get(file) if previous else None
    report = field.Report(content.printable(file))
    parsed: list[objects.Parsed] = []
    is_known, digest = False, ""
    try:
        raw = content.bytes_of(path)
        digest = hashlib.sha256(raw).hexdigest()
        if old is not None and old.good and old.digest == digest:
            return _Candidate(file, old, changed=False), None
        if before is not None and before.digest == digest:
            return _Candidate(file, old, changed=False) if old else None, before
        text = content.text_of(raw)
    except content.Unreadable as error:
        report.add("", str(error), error.line)
        is_known = isinstance(error, content.NoFile)
    else:
        nodes, failure = document.parse(text, is_json=file.endswith(".json"))
        parsed = objects.read_documents(nodes, report)
        if failure is not None:
            report.add("", str(failure), failure.line)
        claims.report_twice((p.obj for p in parsed), report)
        if not report.count:
            given = tuple(p.obj for p in parsed if p.obj is not None)
            return _Candidate(file, _Taken(digest, given, good=True, advice=tuple(report.advice)), changed=True), None
        is_known = failure is None and all(p.is_known for p in parsed)
    candidate, effect = _meanwhile(file, old, previous is None, parsed, is_known)
    return candidate, model.Refused(digest, tuple(dataclasses.replace(p, effect=effect) for p in report.problems))


def _meanwhile(
    file: str, old: model.FileState | None, is_first: bool, parsed: list[objects.Parsed], is_known: bool
) -> tuple[_Candidate | None, str]:
    """Return what a broken file gives until it is mended, and that in words. `is_known`: it is, whom it selects."""
    if old is not None and old.good:
        # Without its digest it is read again when it changes back.
        return _Candidate(file, dataclasses.replace(old, digest=""), changed=False), STAYS
    if old is None and not is_first:
        return None, NOTHING
    denies: tuple[model.Object, ...]
    denies = _distinct(p.stand_in for p in parsed) if is_known else (parse.deny_everything(content.printable(file)),)
    unread = not is_known or any(p.obj is None and p.stand_in is None for p in parsed)
    effects = [CLOSES_ALL if not is_known else CLOSES if denies else "", UNKNOWN if unread else ""]
    # Whom the denies are to close must be known: Workloads and Namespaces count that can be read, or could be before.
    read = (*(p.obj for p in parsed), *(old.objects if old else ()))
    subjects = claims.take((obj for obj in read if isinstance(obj, model.Workload | model.Namespace)), {})
    effect = "; ".join(filter(None, effects)) or NOTHING
    return _Candidate(file, model.FileState("", (*denies, *subjects), good=False), changed=True), effect


def _distinct(denies: Iterator[model.Policy | None]) -> tuple[model.Object, ...]:
    return tuple({policy.key: policy for policy in denies if policy is not None}.values())


def _without_conflicts(
    candidates: list[_Candidate], previous: model.Snapshot | None
) -> tuple[dict[str, model.FileState], list[model.Object], list[model.Problem]]:
    """Return what each file gives, and all of it such that no two claim the same: those that did not change have the
    older right.
    """
    taken: claims.Taken = {}
    in_force: list[model.Object] = []
    states: dict[str, model.FileState] = {}
    problems: list[model.Problem] = []
    for candidate in sorted(candidates, key=lambda c: (not c.state.good, c.changed, c.file)):
        state = candidate.state
        clashes = claims.clashes(state.objects, taken)
        if clashes and state.digest:
            other, effect = _instead(candidate, previous)
            problems += (model.Problem(content.printable(candidate.file), "", each, effect=effect) for each in clashes)
            if other is None:
                continue
            state = other
        # What is left over from before yields to whoever has claimed its name by now, for as long as that one has it.
        states[candidate.file] = state
        in_force += claims.take(state.objects, taken)
    return states, in_force, problems


def _instead(candidate: _Candidate, previous: model.Snapshot | None) -> tuple[model.FileState | None, str]:
    """Return what stays in the place of a file whose names are taken, and that in words."""
    old = previous.files.get(candidate.file) if previous else None
    if old is not None:
        return dataclasses.replace(old, digest=""), STAYS if old.good else CLOSES
    if previous is not None:
        return None, NOTHING
    closed = _closed(candidate.state.objects)
    return model.FileState("", closed, good=False), CLOSES if closed else NOTHING


def _closed(given: tuple[model.Object, ...]) -> tuple[model.Object, ...]:
    """Return the denies for the policies of a file that cannot be taken though each document of it is right."""
    return tuple(parse.deny(obj) for obj in given if isinstance(obj, model.Policy))
