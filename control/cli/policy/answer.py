"""Ends of commands whose exit status is an answer: a failure to say it must not pass for one."""

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import NoReturn, TextIO

import click

from control.cli.policy.pour import pour

NOT_SAID = 3


@contextlib.contextmanager
def said() -> Iterator[None]:
    """End with 3 where standard output or standard error takes nothing, as on a full disk."""
    try:
        yield
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        with contextlib.suppress(OSError, UnicodeError):
            click.echo(f"sockmesh: the answer could not be written: {why}", err=True)
        for stream in (sys.stdout, sys.stderr):
            _silence(stream)
        sys.exit(NOT_SAID)


def end(status: int, pieces: Iterable[str], aside: str = "") -> NoReturn:
    """Write pieces, and `aside` to standard error, and end with status, also where the reader has had enough."""
    pour(pieces)
    try:
        if aside:
            click.echo(aside, err=True)
    except BrokenPipeError:
        _silence(sys.stderr)
    sys.exit(status)


def _silence(stream: TextIO) -> None:
    """Give Python somewhere to write what it still holds: it would flush it at exit, and complain with a status."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
