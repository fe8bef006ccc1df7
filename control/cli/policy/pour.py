"""Long answers to standard output, and how far they are to a terminal."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TextIO

import click

NOT_WRITTEN = 3
_BLOCK = 1 << 16


def pour(pieces: Iterable[str], is_file: bool = False) -> bool:
    """Write pieces as they come, and tell whether there were any. Whoever reads and has enough ends it silently; an
    answer that cannot be written ends the command with 3.

    `is_file`: for programs, in UTF-8 whatever the terminal's encoding is; else what that lacks is spelled out.
    """
    out = sys.stdout.buffer
    encoding = "utf-8" if is_file else sys.stdout.encoding or "utf-8"
    is_any = False
    block: list[str] = []
    size = 0

    def write() -> None:
        out.write("".join(block).encode(encoding, "backslashreplace"))

    try:
        sys.stdout.flush()
        for piece in pieces:
            is_any = True
            block.append(piece)
            size += len(piece)
            if size >= _BLOCK:
                write()
                block, size = [], 0
        write()
        out.flush()
    except OSError as error:
        silence(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            not_written(error)
    return is_any


def not_written(error: OSError | UnicodeError) -> NoReturn:
    """Say that an answer could not be written, as far as that can be, and end the command with 3."""
    why = error.strerror if isinstance(error, OSError) else error
    with contextlib.suppress(OSError, UnicodeError):
        click.echo(f"sockmesh: the answer could not be written: {why}", err=True)
    for stream in (sys.stdout, sys.stderr):
        silence(stream)
    raise click.exceptions.Exit(NOT_WRITTEN) from None


def silence(stream: TextIO) -> None:
    """Give Python somewhere to write what it still holds: it would flush it at exit, and complain with a status."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that moves a bar on standard error: (done, of how many); None where no one would see it."""
    if not sys.stderr.isatty() or sys.stdout.isatty():  # lines of the answer would tear the bar
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
