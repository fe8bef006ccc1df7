"""`sockmesh demo`: the mesh at work on four pods of its own."""

import click

from control.cli.finite import FiniteRange
from control.cli.place import output_option


@click.command()
@click.option("--seconds", type=FiniteRange(0.1, 60), default=1.0, show_default=True,
              help="How long each measurement takes, about.")  # fmt: skip
@output_option
def demo(seconds: float, output: str) -> None:
    """Show the mesh at work, with nginx, curl, redis and wrk in four pods on a node of their own.

    Allowed and refused calls, what the short cut is worth, a policy change that cuts open connections, the flow
    records, the maps. Takes less than a minute, needs root and a source checkout, and leaves nothing behind.
    """
    from control.demo import run

    run(output, seconds)
