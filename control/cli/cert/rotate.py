"""`sockmesh cert rotate`: another root in the place of the one in force, with both trusted in between."""

import os
import time
from pathlib import Path

import click

from control.agent.credentials import when
from control.certificates import files, roots, store
from control.certificates.certificate import shown
from control.cli.lazy import Commands, LazyGroup
from control.cli.place import Command
from loader.errors import MeshError

STEPS: Commands = {
    "begin": ("control.cli.cert.rotate", "begin", "Make another root, trusted beside the one in force."),
    "finish": ("control.cli.cert.rotate", "finish", "Trust the new root alone."),
}


@click.command(cls=LazyGroup, commands_table=STEPS)
def rotate() -> None:
    """Put another root in the place of the one in force: `begin`, and when all certificates are of the new, `finish`.

    No connection breaks: while both are there, a certificate of either is taken.
    """


def _ca_options(command: Command) -> Command:
    directory = click.option(
        "--ca-dir", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="DIR",
        help="That of `sockmesh agent --ca-dir`.",
    )  # fmt: skip
    domain = click.option("--trust-domain", default="cluster.local", show_default=True, help="As the agents have it.")
    return directory(domain(command))


@click.command()
@_ca_options
def begin(ca_dir: Path, trust_domain: str) -> None:
    """Make another root. All nodes trust it within seconds; from an hour on it signs."""
    try:
        bundle = _store(ca_dir, trust_domain).begin(time.time())
    except roots.NotNow as error:
        raise MeshError(f"--ca-dir {ca_dir}: {error} (`sockmesh cert rotate finish`)") from error
    assert bundle.new
    click.echo(
        f"trusted beside {shown(bundle.current.subject)}: {shown(bundle.new.subject)}; it signs from "
        f"{when(bundle.switches_at)} on; `sockmesh cert rotate finish` may come from {when(bundle.drained_at)} on"
    )


@click.command()
@_ca_options
def finish(ca_dir: Path, trust_domain: str) -> None:
    """Trust the new root alone; refused before the last certificate of the old one has ended."""
    try:
        bundle = _store(ca_dir, trust_domain).finish(time.time())
    except roots.NotNow as error:
        raise MeshError(f"--ca-dir {ca_dir}: {error}") from error
    click.echo(f"trusted alone: {shown(bundle.current.subject)}")


def _store(ca_dir: Path, trust_domain: str) -> store.Store:
    """Return the directory's; raises BadFile where there is none, which an agent would make anew."""
    if not os.path.lexists(ca_dir / store.BUNDLE):
        raise files.BadFile(ca_dir / store.BUNDLE, "there is none: name the directory of `sockmesh agent --ca-dir`")
    return store.Store(ca_dir, trust_domain)
