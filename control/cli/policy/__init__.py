"""`sockmesh policy`: what manifests mean, asked of files alone: no cluster, no agent, no root."""

import click

from control.cli.lazy import Commands, LazyGroup

VERBS: Commands = {
    "connectivity": ("control.cli.policy.connectivity", "connectivity", "Everything that manifests allow, as pairs."),
    "diff": ("control.cli.policy.diff", "diff", "What a change of manifests opens and closes."),
}


@click.command(cls=LazyGroup, commands_table=VERBS)
def policy() -> None:
    """Say what policies mean before they are applied. Files are all that is read."""
