"""`sockmesh bpf`: what the kernel holds, with names beside numbers. Works while the agent is dead."""

import click

from control.cli.lazy import Commands, LazyGroup

NOUNS: Commands = {
    "sock": ("control.cli.bpf.sock", "sock", "Open TCP connections and their short cuts."),
    "policy": ("control.cli.bpf.policy", "policy", "Policy entries in words."),
    "ipcache": ("control.cli.bpf.ipcache", "ipcache", "Which identity an address has."),
    "endpoint": ("control.cli.bpf.endpoint", "endpoint", "Endpoints of this node."),
    "ct": ("control.cli.bpf.ct", "ct", "What policy has let through, all protocols."),
    "lb": ("control.cli.bpf.lb", "lb", "Services and their backends."),
    "metrics": ("control.cli.bpf.metrics", "metrics", "Packets forwarded and dropped, by reason."),
    "config": ("control.cli.bpf.config", "config", "Switches of this node; `set` turns them."),
    "stats": ("control.cli.bpf.stats", "stats", "The datapath's counters, with rates."),
    "fs": ("control.cli.bpf.fs", "fs", "Pinned maps, programs and links."),
}


@click.command(cls=LazyGroup, commands_table=NOUNS)
def bpf() -> None:
    """Show what the kernel holds: each NOUN has `list` and `get`. The agent may be dead.

    A `get` that finds nothing says so on standard error and has exit status 1, also with -o json.
    """
