"""`sockmesh policy validate`: every mistake of every file."""

import json
from collections import Counter
from typing import Any

import click

from control import model
from control.cli import place
from control.cli.policy import answer, source
from control.terminal import printable


@click.command()
@source.files
@place.output_option
@answer.said()
def validate(files: tuple[str, ...], namespace: str, output: str) -> None:
    """Check manifests and show every problem of every file; exit status 1 if there is any, 3 if that could not be
    written.
    """
    found = source.read(files, namespace)
    status = 1 if found.problems else 0
    if output == "json":
        all_of_it = {
            "valid": not found.problems,
            "policies": len(found.snapshot.policies),
            "problems": [_json(problem) for problem in found.problems],
            "warnings": [_json(problem) for problem in found.advice],
            "skipped": dict(found.skipped),
        }
        answer.end(status, [json.dumps(all_of_it, indent=2) + "\n"])
    lines = [*map(str, found.problems), *(f"warning: {problem}" for problem in found.advice)]
    if found.skipped:
        lines.append(f"passed over: {_passed_over(found)}")
    good = len(found.snapshot.policies)  # what has a problem is not among them
    summary = f"no problem in {_count(good, 'policy', 'policies')}"
    if found.problems:
        summary = (
            f"{_count(len(found.problems), 'problem', 'problems')}; {_count(good, 'policy is', 'policies are')} good"
        )
    if not status:
        lines.append(summary)
    answer.end(status, (f"{printable(line)}\n" for line in lines), summary if status else "")


def _json(problem: model.Problem) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "path": problem.path, "message": problem.message}


def _passed_over(found: model.LoadResult) -> str:
    """Return how many objects of which kind nobody reads, most first."""
    kinds: Counter[str] = Counter()
    for kind, number in found.skipped.items():
        kinds[kind.partition(" ")[2]] += number
    return printable(", ".join(f"{number} {kind}" for kind, number in kinds.most_common()))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
