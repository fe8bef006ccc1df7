"""`sockmesh policy connectivity`: who may talk to whom, as pairs or as a picture."""

from typing import TYPE_CHECKING

import click

from control import model
from control.cli.policy import ends, source
from control.cli.policy.pour import pour, progress
from control.source import document, unserved
from control.terminal import printable

if TYPE_CHECKING:
    from control.analysis.connectivity import Connectivity


@click.command()
@source.paths
@click.option("-o", "--output", type=click.Choice(["table", "json", "dot", "svg"]), default="table", show_default=True,
              help="For people, for programs, for Graphviz, or a picture.")  # fmt: skip
@click.option(
    "--from", "origin", metavar="WHO", help="Only calls of this workload, or of all of a namespace (table, json)."
)
@click.option("--to", metavar="WHO", help="Only calls to this workload, or to all of a namespace (table, json).")
def connectivity(files: tuple[str, ...], namespace: str, output: str, origin: str | None, to: str | None) -> None:
    """Show everything that manifests allow: each pair of workloads, or of a workload and addresses outside, that may
    talk, and on which ports.

    Both ends must allow it: the sender's egress and the receiver's ingress. The outside is split into the address
    ranges that policies tell apart. Not shown: a workload with itself, and pods on their node's network.
    """
    if (origin or to) and output not in ("table", "json"):
        raise ends.wrong("--from and --to are for -o table and -o json")
    snapshot = source.load(files, namespace)
    for option, name in (("--from", origin), ("--to", to)):
        _must_be_there(snapshot, option, name)
    from control.analysis import concerning, connectivity, dot, proxied, write
    from control.analysis.change import beside
    from control.analysis.picture import svg

    shown = concerning.Shown(snapshot, origin, to)
    told = shown.rules()
    source.tell_of_bytes(told)
    source.tell_of_names(beside.names(told))
    source.tell_of_kinds(beside.kinds(told))
    source.tell_of_audits(shown.audits())

    with document.uncollected(), progress("connections") as moved:
        found = connectivity.analyse(snapshot)
        among = _called(found, origin), _called(found, to)
        needs = proxied.Proxied(snapshot, found) if any(unserved.by_proxy(snapshot)) else None
        more = (needs.of,) if needs is not None else ()
        if output == "json":
            pour(write.connections_json(found, moved, among, *more), is_file=True)
        elif output == "dot":
            pour(dot.graph(found, moved, *more), is_file=True)
        elif output == "svg":
            pour([svg.picture(found, needs)], is_file=True)
        elif not pour(write.connections_table(found, printable, moved, among, *more)):
            click.echo("nobody may talk to anybody" if found.workloads else f"no pairs: {source.NO_WORKLOADS}")


def _called(found: "Connectivity", name: str | None) -> frozenset[int] | None:
    return None if name is None else found.called(name)


def _must_be_there(snapshot: model.Snapshot, option: str, name: str | None) -> None:
    """Raise BadInput for a name that no pair could have, before anything is said of the pairs."""
    called = [w for w in snapshot.workloads if name in (w.namespace, f"{w.namespace}/{w.name}")]
    if name is None or any(not w.host_network for w in called):
        return
    if called:
        raise ends.wrong(f"{option} {name}: {ends.ON_HOST}, so it is in no pair")
    there = sorted({w.namespace for w in snapshot.workloads if not w.host_network})
    more = ", ..." if there[10:] else ""
    raise ends.wrong(f"{option} {name}: no workload or namespace is called so ({', '.join(there[:10])}{more})")
