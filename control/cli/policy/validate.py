"""`sockmesh policy validate`: every mistake of every file."""

import dataclasses
import json
from collections import Counter
from typing import Any

import click

from control import model
from control.cli import place
from control.cli.policy import answer, ends, source
from control.source import directory, manifests
from control.terminal import printable


@click.command()
@source.paths
@click.option("--agent", is_flag=True, help="Read one directory as `sockmesh agent` does at a first start.")
@place.output_option
@answer.said()
def validate(files: tuple[str, ...], namespace: str, agent: bool, output: str) -> None:
    """Check manifests and show every problem of every file; exit status 1 if there is any, 3 if that could not be
    written.

    With --agent, check the directory of an agent: the kinds that it takes, no directory below, and its own words for
    what it would do.
    """
    found = _as_the_agent(files, namespace) if agent else source.read(files, namespace, must_hold=True)
    status = 1 if found.problems else 0
    good = sum(not policy.invalid for policy in found.snapshot.policies)  # what has a problem is not among them
    if output == "json":
        all_of_it = {
            "valid": not found.problems,
            "policies": good,
            "problems": [_json(problem) for problem in found.problems],
            "warnings": [_json(problem) for problem in found.advice],
            "skipped": dict(found.skipped),
        }
        answer.end(status, [json.dumps(all_of_it, indent=2) + "\n"])
    lines = [*map(str, found.problems), *(f"warning: {problem}" for problem in found.advice)]
    if found.skipped:
        lines.append(f"passed over: {_passed_over(found)}")
    summary = f"no problem in {_count(good, 'policy', 'policies')}"
    if found.problems:
        summary = (
            f"{_count(len(found.problems), 'problem', 'problems')}; {_count(good, 'policy is', 'policies are')} good"
        )
    if not status:
        lines.append(summary)
    answer.end(status, (f"{printable(line)}\n" for line in lines), summary if status else "")


def _as_the_agent(files: tuple[str, ...], namespace: str) -> model.LoadResult:
    """Return what an agent makes of a directory at a first start, and apart from its problems what it only remarks."""
    if len(files) > 1 or files == (manifests.STDIN,):
        raise ends.wrong(f"--agent: an agent reads one directory, not {' and '.join(files)}")
    if namespace != "default":
        raise ends.wrong(f"--agent: an agent knows no -n {namespace}: write metadata.namespace into the documents")
    found = directory.load(files[0], None)
    problems = tuple(p for p in found.problems if p.effect or p.message in directory.PASSED_BY)
    remarks = tuple(p for p in found.problems if p not in problems)
    return dataclasses.replace(found, problems=problems, advice=(*remarks, *found.advice))


def _json(problem: model.Problem) -> dict[str, Any]:
    out = {
        "file": problem.file, "line": problem.line, "path": problem.path, "field": problem.within,
        "message": problem.message,
    }  # fmt: skip
    return out | ({"effect": problem.effect} if problem.effect else {})


def _passed_over(found: model.LoadResult) -> str:
    """Return how many objects of which kind nobody reads, most first."""
    kinds: Counter[str] = Counter()
    for kind, number in found.skipped.items():
        kinds[kind.partition(" ")[2]] += number
    return printable(", ".join(f"{number} {kind}" for kind, number in kinds.most_common()))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
