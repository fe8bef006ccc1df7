"""`sockmesh policy diff`: what a change of manifests opens and closes."""

from pathlib import Path

import click

from control.cli.place import PATH, output_option
from control.cli.policy import source
from control.cli.policy.pour import pour
from control.terminal import printable

OPENS = 1


@click.command()
@click.argument("old", type=PATH, metavar="OLD")
@click.argument("new", type=PATH, metavar="NEW")
@click.option("--no-new-access", is_flag=True, help="Exit with 1 if anything is opened: for checks of pull requests.")
@output_option
def diff(old: Path, new: Path, no_new_access: bool, output: str) -> None:
    """Show which ports between whom are open in NEW and were not in OLD (+), and the reverse (-). Both are a file or
    a directory of files.

    A workload that only one of them has is told as such; what it may do counts as opened or closed.
    """
    snapshots = source.snapshot([old]), source.snapshot([new])
    from control.analysis import connectivity, write
    from control.analysis import diff as changes

    found = changes.Difference(*map(connectivity.analyse, snapshots))
    if output == "json":
        pour(write.difference_json(found))
    elif not pour(write.difference_table(found, printable)):
        click.echo("nothing is opened, nothing is closed")
    if no_new_access and found.opens:
        click.echo("sockmesh: the change opens what was closed before", err=True)
        raise click.exceptions.Exit(OPENS)
