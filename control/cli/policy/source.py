"""Manifests for the commands that read nothing else: what is wrong with them is told before anything is worked out."""

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

from control import model
from control.source import directory
from control.terminal import printable

BAD_INPUT = 2


def files(command: Callable[..., None]) -> Callable[..., None]:
    """Add -f FILE|DIR, as often as one likes; the command takes it as `files`."""
    text = "Manifests: a file, or a directory of files. May be given more than once."
    return click.option("-f", "--file", "files", multiple=True, required=True, metavar="FILE|DIR", help=text)(command)


def read(paths: Sequence[str]) -> model.LoadResult:
    """Return what files, and the files of directories, declare together."""
    with tempfile.TemporaryDirectory() as together:
        try:
            for path in map(Path, paths):
                path.stat()  # raises where there is nothing
                for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                    os.symlink(file.absolute(), Path(together) / file.name)
        except OSError as error:
            problem = model.Problem(str(error.filename), "", f"cannot be read: {error.strerror}")
            return model.LoadResult(model.Snapshot(), (problem,))
        found = directory.load(together, None)
    # What a file does while it is broken is an agent's business, and says which problems are no mere advice.
    problems = tuple(dataclasses.replace(problem, effect="") for problem in found.problems if problem.effect)
    advice = tuple(problem for problem in found.problems if not problem.effect)
    return dataclasses.replace(found, problems=problems, advice=advice)


def load(paths: Sequence[str]) -> model.Snapshot:
    """Return what manifests declare; where any is wrong, all problems are told and the command ends with 2."""
    found = read(paths)
    _tell(map(str, found.problems))
    if found.problems:
        raise click.exceptions.Exit(BAD_INPUT)
    _tell(f"warning: {advice}" for advice in found.advice)
    return found.snapshot


def tell_of_names(names: Sequence[str]) -> None:
    """Say that what rules for DNS names open is in no pair, where there are such rules."""
    if names:
        shown = ", ".join(names[:5]) + (", ..." if names[5:] else "")
        _tell([f"warning: not among these: what rules for DNS names open ({shown}); their addresses are learned later"])


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(f"sockmesh: {printable(line)}", err=True)
