"""A directory of files to a `Snapshot`. A file that is wrong anywhere changes nothing.

Nor does one that is empty now, or a directory without files: so looks a file that is being written, and a volume that
is not mounted. Who deletes a file takes away what it gave, and a List without items takes all away.

At the first start there is nothing in force that could stay, so the policies of a broken file become denies on what
they select, and a file that could select anything one on every pod: a mistake closes and never opens. What is taken but
does not do all that it says is told of, too.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator

from control import model
from control.policy import field, parse
from control.source import (
    assemble,
    backends,
    claims,
    content,
    document,
    listing,
    objects,
    references,
    remarks,
    unserved,
)

MAX_FILES = 10_000
EMPTY = model.Snapshot()

_SUBJECTS = (model.Workload, model.Namespace)  # whom a deny is to close must be known

# What a broken file does meanwhile.
STAYS = "what the file gave before stays in force"
ALL_STAYS = "what was in force stays in force"
NOTHING = "nothing of the file is in force"
CLOSES = "until it is mended, its policies deny everything on the pods that they select"
CLOSES_ALL = "nobody can tell which pods it selects, so all are closed until it is mended or taken away"
UNKNOWN = "pods whose Workload in it cannot be read are not under policy"
EMPTIED = "holds no document any more (delete the file, to take away what it gave)"
EMPTY_FILE = "holds no document (delete the file, if nothing was meant to be in it)"
NO_FILES = "holds no configuration any more (a file with a List without items takes away what there was)"
ADOPTED = "what the agent before left in force stays in force, and nothing else is, until this is mended"
UNREAD_BELOW = "is a directory, which is not read: what is below it counts for nothing (move its files up, or hide it)"
UNREAD = "nothing is in force until it can be read"
NO_ROOM = "nothing is in force until it fits, and no pod is under policy"
PASSED_BY = (UNREAD_BELOW, listing.OTHER_ENDING)  # what is not read, and may be thought to be in force
KEPT = "its Workloads and Namespaces count, but for those in whose place another is"
FIRST = "of Workloads in each other's place the first counts"


@dataclasses.dataclass(frozen=True)
class _Taken(model.FileState):
    """A file that was read whole, and what its author should know of it for as long as it stays as it is.

    `is_empty`: it has no document, not even one that says that there is nothing.
    """

    advice: tuple[model.Problem, ...] = ()
    is_empty: bool = False


@dataclasses.dataclass(frozen=True)
class _Candidate:
    """What a file gives this time, if nothing else claims the same names."""

    file: str
    state: model.FileState
    changed: bool


def load(
    directory: str | os.PathLike[str],
    previous: model.Snapshot | None,
    is_first: bool = False,
    digests: content.Digests | None = None,
    has_proxy: bool = False,
) -> model.LoadResult:
    """Return what the directory declares now; never raises for what is in it, `problems` names it instead.

    `previous` is what it declared before, None if nobody knows. `is_first`: no pod is under any of it, so what never
    was good closes, as it does without `previous`. `advice` is for who does not know what was before. `digests`, if
    they are kept from one time to the next, save reading what is still the same. `has_proxy`: DNS names are learned.
    """
    digests = digests or content.Digests()
    try:
        files, inner, misspelt = listing.read(directory)
    except OSError as error:
        return _unread(directory, f"cannot be read: {error.strerror}", previous)
    passed_by = (*((name, UNREAD_BELOW) for name in inner), *((name, listing.OTHER_ENDING) for name in misspelt))
    unread = tuple(model.Problem(content.printable(name), "", why) for name, why in passed_by)
    if not files and previous and previous.files:
        return _unread(directory, NO_FILES, previous, unread)
    if len(files) > MAX_FILES:
        return _unread(directory, f"has {len(files)} files (at most {MAX_FILES})", previous)
    is_first = is_first or previous is None
    problems = list(unread)
    candidates: list[_Candidate] = []
    refused: dict[str, model.Refused] = {}
    paths = [os.path.join(directory, "") + file for file in files]
    with document.uncollected():
        for path, file in zip(paths, files, strict=True):
            candidate, wrong = _read(path, file, previous, is_first, digests)
            candidates += [candidate] if candidate else []
            if wrong:
                refused[file] = wrong
                problems += wrong.problems
    digests.forget_all_but(paths)
    states, in_force, conflicts = _without_conflicts(candidates, previous, is_first)
    snapshot = dataclasses.replace(assemble.snapshot(in_force), files=states, refused=refused)
    advice = [a for state in states.values() if isinstance(state, _Taken) and state.digest for a in state.advice]
    names = () if has_proxy else unserved.by_name(snapshot)
    meant = (*backends.nobody_meant(snapshot), *references.to_nothing(snapshot), *names)
    found = tuple(remarks.in_order((*problems, *conflicts, *advice, *meant)))
    # One that is empty may have held anything before; who has a record of what it held knows better.
    empty = [file for file, state in states.items() if isinstance(state, _Taken) and state.is_empty]
    told = tuple(model.Problem(content.printable(file), "", EMPTY_FILE) for file in empty)
    return model.LoadResult(snapshot, found, told, is_whole=not (refused or conflicts or empty))


def _unread(
    directory: str | os.PathLike[str], why: str, previous: model.Snapshot | None, more: tuple[model.Problem, ...] = ()
) -> model.LoadResult:
    """Return what a directory gives that cannot be read as a whole: what it gave before."""
    problem = model.Problem(str(directory), "", why, effect=UNREAD if previous is None else ALL_STAYS)
    return model.LoadResult(previous or EMPTY, (problem, *more), is_read=False, is_whole=False)


def _read(
    path: str, file: str, previous: model.Snapshot | None, is_first: bool, digests: content.Digests
) -> tuple[_Candidate | None, model.Refused | None]:
    """Return what a file gives, and what is wrong with it, if anything is."""
    old = previous.files.get(file) if previous else None
    if is_first and isinstance(old, _Taken) and old.is_empty:
        old = None  # it gave nothing that could stay
    # What is to close in its place must be read.
    before = previous.refused.get(file) if previous and (old is not None or not is_first) else None
    report = field.Report(content.printable(file))
    parsed: list[objects.Parsed] = []
    is_known, digest = False, ""
    try:
        known = (old.digest if old is not None and old.good else "", before.digest if before is not None else "")
        digest, raw = digests.read(path, known)
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
            report.add(failure.path, str(failure), failure.line)
        claims.report_twice((p.obj for p in parsed), report)
        if not nodes and failure is None and old is not None and old.objects:
            report.add("", EMPTIED)
            effect = STAYS if old.good else CLOSES
            problems = tuple(dataclasses.replace(p, effect=effect) for p in report.problems)
            return _Candidate(file, dataclasses.replace(old, digest=""), changed=False), model.Refused(digest, problems)
        if not report.count:
            given = tuple(p.obj for p in parsed if p.obj is not None)
            state = _Taken(digest, given, good=True, advice=tuple(report.advice), is_empty=not nodes)
            return _Candidate(file, state, changed=True), None
        is_known = failure is None and all(p.is_known for p in parsed)
    candidate, effect = _meanwhile(file, old, is_first, parsed, is_known)
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
    # Subjects count that can be read, or could be before.
    read = (*(p.obj for p in parsed), *(old.objects if old else ()))
    subjects = claims.take((obj for obj in read if isinstance(obj, _SUBJECTS)), {})
    doubled = any(isinstance(p.obj, model.Workload) and p.obj not in subjects for p in parsed)
    effects = [
        CLOSES_ALL if not is_known else CLOSES if denies else "", UNKNOWN if unread else "", FIRST if doubled else "",
    ]  # fmt: skip
    effect = "; ".join(filter(None, effects)) or NOTHING
    return _Candidate(file, model.FileState("", (*denies, *subjects), good=False), changed=True), effect


def _distinct(denies: Iterable[model.Object | None]) -> tuple[model.Policy, ...]:
    """Return one deny for each key; where a key is given twice, on all that any of its policies selects."""
    out: dict[str, model.Policy] = {}
    for policy in denies:
        if isinstance(policy, model.Policy):
            same = out.get(policy.key)
            sections = (*same.sections, *policy.sections) if same else policy.sections
            out[policy.key] = dataclasses.replace(same or policy, sections=sections)
    return tuple(out.values())


def _without_conflicts(
    candidates: list[_Candidate], previous: model.Snapshot | None, is_first: bool
) -> tuple[dict[str, model.FileState], list[model.Object], list[model.Problem]]:
    """Return what each file gives, in the order in which it was taken, and all of it so that no two claim the same."""
    refused = _refused(candidates, previous)
    taken: claims.Taken = {}
    in_force: list[model.Object] = []
    states: dict[str, model.FileState] = {}
    problems: list[model.Problem] = []
    last: list[tuple[_Candidate, model.FileState]] = []
    for candidate in sorted(candidates, key=lambda c: (not c.state.good, c.changed, c.file)):
        state = candidate.state
        if candidate.file in refused:
            other = _instead(candidate, previous, is_first)
            if other is not None and not other.good:
                last.append((candidate, other))
                continue
            problems += _at_odds(candidate.file, refused[candidate.file], NOTHING if other is None else STAYS)
            if other is None:
                continue
            state = other
        states[candidate.file] = state
        in_force += claims.take(state.objects, taken)  # all of it, if it is good
    for candidate, state in last:  # after all that is right, lest one file that is not drag others along
        states[candidate.file] = state
        free = claims.take(state.objects, taken)
        in_force += free
        closes = any(isinstance(obj, model.Policy) for obj in free)
        counts = any(isinstance(obj, _SUBJECTS) for obj in free)
        effect = "; ".join(filter(None, (CLOSES if closes else "", KEPT if counts else "")))
        problems += _at_odds(candidate.file, refused[candidate.file], effect or NOTHING)
    # Two files can look alike where their names are not printable.
    denies = [obj for obj in in_force if isinstance(obj, model.Policy) and obj.invalid]
    others = (obj for obj in in_force if not (isinstance(obj, model.Policy) and obj.invalid))
    return states, [*others, *_distinct(denies)], problems


def _refused(candidates: list[_Candidate], previous: model.Snapshot | None) -> dict[str, list[tuple[int, str]]]:
    """Return which files cannot be taken as they are now, and why. Good ones that did not change can be."""
    if not any(c.changed and c.state.good for c in candidates):
        return {}
    files = previous.files if previous else {}
    given = {c.file: c.state.objects for c in candidates if c.state.digest}
    here = {c.file for c in candidates}
    before = {file: state.objects for file, state in files.items() if state.good and file in here}
    return claims.refused(given, before, claims.held(files))


def _instead(candidate: _Candidate, previous: model.Snapshot | None, is_first: bool) -> model.FileState | None:
    """Return what stays in the place of a file whose names are taken."""
    old = previous.files.get(candidate.file) if previous else None
    if old is not None:
        return dataclasses.replace(old, digest="")
    return None if not is_first else model.FileState("", closed(candidate.state.objects), good=False)


def _at_odds(file: str, clashes: list[tuple[int, str]], effect: str) -> Iterator[model.Problem]:
    return (model.Problem(content.printable(file), "", each, line, effect=effect) for line, each in clashes)


def closed(given: tuple[model.Object, ...]) -> tuple[model.Object, ...]:
    """Return what a file gives that cannot be taken though each document of it is right: denies for its policies, and
    whom they are to close.
    """
    denies = (parse.deny(obj) for obj in given if isinstance(obj, model.Policy))
    return (*denies, *(obj for obj in given if isinstance(obj, _SUBJECTS)))
