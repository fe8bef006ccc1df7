"""Ends of commands whose exit status is an answer: a failure to say it must not pass for one."""

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import NoReturn

import click

from control.cli.policy.pour import not_written, pour, silence


@contextlib.contextmanager
def said() -> Iterator[None]:
    """End with 3 where standard output or standard error takes nothing, as on a full disk."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        not_written(error)


def end(status: int, pieces: Iterable[str], aside: str = "") -> NoReturn:
    """Write pieces, and `aside` to standard error, and end with status, also where the reader has had enough."""
    pour(pieces)
    try:
        if aside:
            click.echo(aside, err=True)
    except BrokenPipeError:
        silence(sys.stderr)
    sys.exit(status)
