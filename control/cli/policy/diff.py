"""`sockmesh policy diff`: what a change of manifests opens and closes."""

import click

from control.cli.paths import WORD
from control.cli.place import output_option
from control.cli.policy import BadInput, source
from control.cli.policy.pour import pour
from control.source import document
from control.terminal import printable

OPENS = 1


def _two_are_asked(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> None:
    if given:
        raise click.UsageError("the two to compare are given without -f: sockmesh policy diff OLD NEW")


@click.command()
@click.option("-f", "--file", multiple=True, hidden=True, expose_value=False, is_eager=True, callback=_two_are_asked)
@click.argument("old", type=WORD, metavar="OLD")
@click.argument("new", type=WORD, metavar="NEW")
@source.namespace
@click.option("--no-new-access", is_flag=True, help="Exit with 1 if anything is opened: for checks of pull requests.")
@output_option
def diff(old: str, new: str, namespace: str, no_new_access: bool, output: str) -> None:
    """Show which ports between whom are open in NEW and were not in OLD (+), and the reverse (-). Both are a file or
    a directory of files.

    A workload that only one of them has is told as such; what it may do counts as opened or closed. What is opened or
    closed to or from nodes, and pods that no file declares, is told in words. Requests and DNS names are compared rule
    by rule as they are written; where a change of these may open something, it counts as opened.
    """
    if old == new == "-":
        raise BadInput("standard input can be read once only: OLD and NEW cannot both be -")
    snapshots = source.load_each([[old], [new]], namespace)
    from control.analysis import write
    from control.analysis.change import beside
    from control.analysis.change import diff as changes

    source.tell_of_names(sorted({name for snapshot in snapshots for name in beside.names(snapshot)}))
    with document.uncollected():
        found = changes.difference(*snapshots)
        may_open, may_close = beside.opened(*snapshots), beside.closed(*snapshots)
        if output == "json":
            pour(write.difference_json(found, may_open, may_close), is_file=True)
        elif not pour(write.difference_table(found, printable, may_open, may_close)):
            click.echo("nothing is opened, nothing is closed")
    if not all(snapshot.workloads for snapshot in snapshots):
        source.tell(f"warning: {source.NO_WORKLOADS}: policies are compared for pods of any labels")
    if not no_new_access:
        return
    if found.opens:
        click.echo("sockmesh: the change opens what was closed before", err=True)
        raise click.exceptions.Exit(OPENS)
    if may_open:
        click.echo("sockmesh: the change may open what no pair shows", err=True)
        raise click.exceptions.Exit(OPENS)
