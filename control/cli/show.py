"""Rows as a table for people or as JSON for programs: the same rows, so that neither knows more than the other."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

R = TypeVar("R")
_PIPE_WIDTH = 400  # a pipe has no width; lines are as long as they must be, for grep


@dataclasses.dataclass(frozen=True)
class Column(Generic[R]):
    """A heading and what stands under it; `style` is rich's, given the cell's text."""

    heading: str
    cell: Callable[[R], str]
    right: bool = False
    style: Callable[[str], str] = lambda _: ""


def console() -> "Console":
    """Return a console on standard output that neither wraps for pipes nor reads markup."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: names may come from files of others."""
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def table(rows: Sequence[R], columns: Sequence[Column[R]]) -> "Table":
    """Return rows as a rich table."""
    from rich.table import Table
    from rich.text import Text

    out = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        out.add_column(column.heading, justify="right" if column.right else "left", overflow="fold")
    for row in rows:
        cells = [(printable(column.cell(row)), column) for column in columns]
        out.add_row(*(Text(text, style=column.style(text)) for text, column in cells))
    return out


def show(rows: Sequence[R], columns: Sequence[Column[R]], output: str, empty: str) -> None:
    """Print rows; `empty` is said instead of a table without rows."""
    if output == "json":
        print_json([jsonable(row) for row in rows])
    elif rows:
        print_lines(table(rows, columns))
    else:
        click.echo(empty)


def show_one(row: object, facts: Mapping[str, str], output: str) -> None:
    """Print one thing: its facts line by line, or the row as JSON."""
    if output == "json":
        print_json(jsonable(row))
        return
    width = max((len(name) for name in facts), default=0)
    for name, text in facts.items():
        click.echo(f"{name:<{width}}  {printable(text)}")


def print_lines(*what: "RenderableType") -> None:
    """Print to standard output without the blanks that a table pads its last column with."""
    to = console()
    with to.capture() as captured:
        to.print(*what)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def jsonable(value: object) -> Any:
    """Return dataclasses as dicts, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [jsonable(v) for v in value]
    return value


def print_json(value: object) -> None:
    click.echo(json.dumps(jsonable(value), indent=2))
