"""`sockmesh policy explain`: how a workload's policy comes about, stage by stage."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator

import click

from control.analysis import explain as analysis
from control.analysis import world
from control.cli import place, show
from control.cli.bpf import policy as entries
from control.cli.policy import ends, source
from control.inspect import policies, words
from control.terminal import printable

_WIDTH, _NARROWEST = 100, 40  # where no terminal says its width, and where its width is none to read
_MOST = 2000  # characters of a fact: a rule may name thousands of ranges

_SELECTING = (
    show.Column[analysis.Selecting]("POLICY", lambda r: str(r.author)),
    show.Column[analysis.Selecting]("WRITTEN AT", lambda r: r.author.source),
    show.Column[analysis.Selecting]("DEFAULT DENY", lambda r: ", ".join(r.closes) or "off"),
    show.Column[analysis.Selecting]("MODE", lambda r: "audit" if r.audit else "enforced"),
)


def _meant(row: analysis.RuleLine) -> str:
    if row.meant_count is None:
        return "anybody"
    more = row.meant_count - len(row.meant)
    # Not commas: they are between the labels of one.
    return ("; ".join(row.meant) or "nobody") + (f" and {more} more" if more else "")


def _rules(rows: Iterable[analysis.RuleLine], width: int) -> Iterator[str]:
    """Yield the lines of rules: who says so, and below it each fact, folded: side by side they are too wide."""
    for row in rows:
        by = words.with_source(str(row.author or ""), row.author.source if row.author else "")
        yield from _folded(f"{row.direction:<7}  {row.verdict}{' (audit)' if row.audit else ''}  ", by, width)
        facts = {"who": row.who, "that is": _meant(row), "ports": row.ports, "bytes": _bytes(row)}
        for name, text in facts.items():
            shown = text if len(text) <= _MOST else f"{text[:_MOST]} ... (-o json has all of it)"
            yield from _folded(f"  {name:<7}  ", shown, width)


def _bytes(row: analysis.RuleLine) -> str:
    freed = f", for {row.freed_by} lets all of it through" if row.freed_by else ""
    shut = f"; nothing at {row.shut_at}, for {row.shut_by} is for another kind of bytes" if row.shut_by else ""
    return (row.bytes or "any") + freed + shut


def _folded(begin: str, text: str, width: int) -> list[str]:
    """Return text behind what it begins with, in lines of at most width as far as its words allow."""
    return textwrap.wrap(
        printable(text), max(width, _NARROWEST), initial_indent=begin, subsequent_indent=" " * len(begin or "  "),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


@click.command()
@click.argument("workload", metavar="NAMESPACE/POD")
@source.files
@place.output_option
def explain(workload: str, files: tuple[str, ...], namespace: str, output: str) -> None:
    """Show what selects a workload, its rules as they count, and the entries that a call is looked up in."""
    known = world.World(source.load(files, namespace), namespace)
    try:
        end = known.end(workload)
    except world.Unknown as error:
        raise ends.wrong(str(error)) from None
    if end.on_host:
        raise ends.wrong(f"{workload}: {ends.ON_HOST}")
    if end.workload is None:
        raise ends.wrong(f"{workload} is no pod under policy: policies say nothing of it")
    found = analysis.explain(known, end.workload)
    if output == "json":
        show.print_json(show.jsonable(found))
        return
    width = shutil.get_terminal_size((_WIDTH, 0)).columns
    labels = f"{found.workload}: identity {found.identity} here ({', '.join(found.labels)})"
    click.echo("\n".join(_folded("", labels, width)))
    _stage("1. what selects it")
    show.show(found.selecting, _SELECTING, output, "no policy: it may call and be called by anybody")
    _stage("2. the rules that count for it")
    click.echo("\n".join(_rules(found.rules, width)) or "none")
    _stage("3. the entries that a call is looked up in: deny before proxy, proxy before allow, allow before default")
    show.show(policies.ranges(found.entries), entries.COLUMNS, output, "none")
    if more := found.entries_count - len(found.entries):
        click.echo(f"and {more} more")


def _stage(title: str) -> None:
    click.echo(f"\n{title}")
