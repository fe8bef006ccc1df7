"""Manifests for the commands that read nothing else: what is wrong with them is told before anything is worked out."""

import dataclasses
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from control import model
from control.source import directory
from control.terminal import printable

BAD_INPUT = 2


def load(paths: Sequence[Path]) -> model.LoadResult:
    """Return what files, and the files of directories, declare together."""
    with tempfile.TemporaryDirectory() as together:
        for path in paths:
            path.stat()  # raises where there is nothing
            for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                os.symlink(file.absolute(), Path(together) / file.name)
        return directory.load(together, None)


def snapshot(paths: Sequence[Path]) -> model.Snapshot:
    """Return what manifests declare; where any is wrong, all problems are told and the command ends with 2."""
    try:
        result = load(paths)
    except OSError as error:
        _tell([f"{error.filename}: cannot be read: {error.strerror}"])
        raise click.exceptions.Exit(BAD_INPUT) from None
    # What a file does while it is broken is an agent's business, and says which problems are no mere advice.
    _tell(str(dataclasses.replace(problem, effect="")) for problem in result.problems)
    if any(problem.effect for problem in result.problems):
        raise click.exceptions.Exit(BAD_INPUT)
    return result.snapshot


def _tell(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(f"sockmesh: {printable(line)}", err=True)
