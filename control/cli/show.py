"""Rows as a table for people or as JSON for programs: the same rows, so that neither knows more than the other."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import click

from control.terminal import printable

R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Column(Generic[R]):
    """A heading and what stands under it; `style` gives a cell's colour by its text: "red", "green bold", "" none."""

    heading: str
    cell: Callable[[R], str]
    right: bool = False
    style: Callable[[str], str] = lambda _: ""


def print_table(rows: Sequence[R], columns: Sequence[Column[R]]) -> None:
    """Print rows in columns, one line a row however wide: a terminal wraps it, and `less -S` does not."""
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for line in lines(rows, columns, coloured):
        click.echo(line)


def lines(rows: Iterable[R], columns: Sequence[Column[R]], coloured: bool = False) -> Iterator[str]:
    """Yield the heading and a line a row; colours change nothing else."""
    table = [[column.heading for column in columns]]
    table += [[printable(column.cell(row)) for column in columns] for row in rows]
    widths = [max(map(len, texts)) for texts in zip(*table, strict=True)]
    for number, texts in enumerate(table):
        laid = []
        for text, width, column in zip(texts, widths, columns, strict=True):
            shown = _styled(text, column.style(text) if number else "bold") if coloured else text
            gap = " " * (width - len(text))
            laid.append(gap + shown if column.right else shown + gap)
        yield "  ".join(laid).rstrip()


def _styled(text: str, style: str) -> str:
    colour = style.removesuffix("bold").strip()
    return click.style(text, fg=colour or None, bold=style.endswith("bold") or None) if style else text


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
