"""`sockmesh policy validate`: every mistake of every file."""

import sys
from collections import Counter
from typing import Any

import click

from control import model
from control.cli import place, show
from control.cli.policy import source
from control.terminal import printable


@click.command()
@source.files
@place.output_option
def validate(files: tuple[str, ...], output: str) -> None:
    """Check manifests and show every problem of every file; exit status 1 if there is any."""
    found = source.read(files)
    if output == "json":
        show.print_json(
            {
                "valid": not found.problems,
                "policies": len(found.snapshot.policies),
                "problems": [_json(problem) for problem in found.problems],
                "warnings": [_json(problem) for problem in found.advice],
                "skipped": dict(found.skipped),
            }
        )
    else:
        for problem in found.problems:
            click.echo(str(problem))
        for problem in found.advice:
            click.echo(f"warning: {problem}")
        if found.skipped:
            click.echo(f"passed over: {_passed_over(found)}")
        count = len(found.problems)
        said = "no problem" if not count else f"{count} problem{'s' if count > 1 else ''}"
        click.echo(f"{said} in {_count(len(found.snapshot.policies), 'policy', 'policies')}", err=bool(count))
    sys.exit(1 if found.problems else 0)


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
