"""`sockmesh policy connectivity`: who may talk to whom, as pairs or as a picture."""

import click

from control.cli.policy import source
from control.cli.policy.pour import pour, progress
from control.terminal import printable


@click.command()
@source.files
@click.option("-o", "--output", type=click.Choice(["table", "json", "dot", "svg"]), default="table", show_default=True,
              help="For people, for programs, for Graphviz, or a picture.")  # fmt: skip
def connectivity(files: tuple[str, ...], output: str) -> None:
    """Show everything that manifests allow: each pair of workloads, or of a workload and addresses outside, that may
    talk, and on which ports.

    Both ends must allow it: the sender's egress and the receiver's ingress. The outside is split into the address
    ranges that policies tell apart. Not shown: a workload with itself, and pods on their node's network.
    """
    snapshot = source.load(files)
    from control.analysis import beside, connectivity, dot, write
    from control.analysis.picture import svg

    source.tell_of_names(beside.names(snapshot))
    source.tell_of_kinds(beside.kinds(snapshot))

    with progress("connections") as moved:
        found = connectivity.analyse(snapshot)
        if output == "json":
            pour(write.connections_json(found, moved), is_file=True)
        elif output == "dot":
            pour(dot.graph(found, moved), is_file=True)
        elif output == "svg":
            pour([svg.picture(found)], is_file=True)
        elif not pour(write.connections_table(found, printable, moved)):
            click.echo("nobody may talk to anybody" if found.workloads else f"no pairs: {source.NO_WORKLOADS}")
