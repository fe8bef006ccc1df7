"""`sockmesh policy`: what manifests mean, asked of files alone: no cluster, no agent, no root."""

from typing import Any

import click

from control import model
from control.cli.lazy import Commands, LazyGroup

VERBS: Commands = {
    "validate": ("control.cli.policy.validate", "validate", "Every problem of every file."),
    "trace": ("control.cli.policy.trace", "trace", "Whether one call is allowed, and who decides."),
    "connectivity": ("control.cli.policy.connectivity", "connectivity", "Everything that manifests allow, as pairs."),
    "diff": ("control.cli.policy.diff", "diff", "What a change of manifests opens and closes."),
    "explain": ("control.cli.policy.explain", "explain", "From the files that select a pod to its map entries."),
}


class BadInput(click.ClickException):
    """What was asked about is wrong, not how: the message alone is told, without the usage of the command."""

    exit_code = 2


class Asking(LazyGroup):
    """What cannot be worked out is bad input: status 2, and a line that says why."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except model.TooMuch as error:
            raise BadInput(str(error)) from None


@click.command(cls=Asking, commands_table=VERBS)
def policy() -> None:
    """Say what policies mean before they are applied. Files are all that is read."""
