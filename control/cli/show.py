"""Rows as a table for people or as JSON for programs: the same rows, so that neither knows more than the other."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import click

from control.terminal import printable

R = TypeVar("R")
_RICH_ROWS = 500


@dataclasses.dataclass(frozen=True)
class Column(Generic[R]):
    """A heading and what stands under it; `style` is rich's, given the cell's text."""

    heading: str
    cell: Callable[[R], str]
    right: bool = False
    style: Callable[[str], str] = lambda _: ""


def print_table(rows: Sequence[R], columns: Sequence[Column[R]]) -> None:
    """Print rows in columns: folded and coloured on a terminal, in lines as long as they must be into a pipe."""
    # A rich table lays out some thousand rows a second; whoever asks for more will not mind wrapped lines.
    is_rich = sys.stdout.isatty() and len(rows) <= _RICH_ROWS
    for line in rich_lines(rows, columns) if is_rich else plain_lines(rows, columns):
        click.echo(line)


def _cells(rows: Iterable[R], columns: Sequence[Column[R]]) -> Iterator[list[str]]:
    return ([printable(column.cell(row)) for column in columns] for row in rows)


def plain_lines(rows: Iterable[R], columns: Sequence[Column[R]]) -> Iterator[str]:
    """Yield the heading and a line a row, without colours."""
    lines = [[column.heading for column in columns], *_cells(rows, columns)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    for cells in lines:
        laid = (
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(cells, widths, columns, strict=True)
        )  # fmt: skip
        yield "  ".join(laid).rstrip()


def rich_lines(rows: Iterable[R], columns: Sequence[Column[R]], width: int | None = None) -> Iterator[str]:
    """Yield the same for a terminal of that width (None: the one we write to)."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        out.add_column(column.heading, justify="right" if column.right else "left", overflow="fold")
    for cells in _cells(rows, columns):
        out.add_row(*(Text(text, style=column.style(text)) for text, column in zip(cells, columns, strict=True)))
    console = Console(width=width, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(out)
    return (line.rstrip() for line in captured.get().splitlines())


def show(rows: Sequence[R], columns: Sequence[Column[R]], output: str, empty: str) -> None:
    """Print rows; `empty` is said instead of a table without rows."""
    if output == "json":
        print_json([jsonable(row) for row in rows])
    elif rows:
        print_table(rows, columns)
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
