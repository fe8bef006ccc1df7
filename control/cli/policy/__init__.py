"""`sockmesh policy`: what manifests mean, asked of files alone: no cluster, no agent, no root."""

import click

from control.cli.lazy import Commands, LazyGroup

VERBS: Commands = {
    "validate": ("control.cli.policy.validate", "validate", "Every problem of every file."),
    "trace": ("control.cli.policy.trace", "trace", "Whether one call is allowed, and who decides."),
    "connectivity": ("control.cli.policy.connectivity", "connectivity", "Everything that manifests allow, as pairs."),
    "diff": ("control.cli.policy.diff", "diff", "What a change of manifests opens and closes."),
    "explain": ("control.cli.policy.explain", "explain", "From the files that select a pod to its map entries."),
}


@click.command(cls=LazyGroup, commands_table=VERBS)
def policy() -> None:
    """Say what policies mean before they are applied. Files are all that is read."""
