"""`sockmesh cert`: the certificates of mTLS between nodes. Works while the agent is dead."""

import click

from control.cli.lazy import Commands, LazyGroup

COMMANDS: Commands = {
    "list": ("control.cli.cert.show", "list_", "Certificates of this node's service accounts."),
    "inspect": ("control.cli.cert.show", "inspect", "All of one certificate, and whether it is trusted."),
    "rotate": ("control.cli.cert.rotate", "rotate", "Put another root in the place of the one in force."),
}


@click.command(cls=LazyGroup, commands_table=COMMANDS)
def cert() -> None:
    """Show the certificates that prove who a pod is to other nodes, and change their root. The agent may be dead."""
