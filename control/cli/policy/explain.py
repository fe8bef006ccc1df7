"""`sockmesh policy explain`: how a workload's policy comes about, stage by stage."""

import click

from control.analysis import explain as analysis
from control.analysis import world
from control.cli import place, show
from control.cli.bpf import policy as entries
from control.cli.policy import ends, source
from control.inspect import policies, words
from control.terminal import printable

_SELECTING = (
    show.Column[analysis.Selecting]("POLICY", lambda r: str(r.author)),
    show.Column[analysis.Selecting]("WRITTEN AT", lambda r: r.author.source),
    show.Column[analysis.Selecting]("DEFAULT DENY", lambda r: ", ".join(r.closes) or "off"),
    show.Column[analysis.Selecting]("MODE", lambda r: "audit" if r.audit else "enforced"),
)


def _meant(row: analysis.RuleLine) -> str:
    if row.meant_count is None:
        return "anybody"
    more = row.meant_count - len(row.meant)
    # Not commas: they are between the labels of one.
    return ("; ".join(row.meant) or "nobody") + (f" and {more} more" if more else "")


_RULES = (
    show.Column[analysis.RuleLine]("DIRECTION", lambda r: r.direction),
    show.Column[analysis.RuleLine]("VERDICT", lambda r: r.verdict + (" (audit)" if r.audit else "")),
    show.Column[analysis.RuleLine]("WHO", lambda r: r.who),
    show.Column[analysis.RuleLine]("PORTS", lambda r: r.ports),
    show.Column[analysis.RuleLine]("BYTES", lambda r: r.bytes or "any"),
    show.Column[analysis.RuleLine]("THAT IS NOW", _meant),
    show.Column[analysis.RuleLine](
        "BY", lambda r: words.with_source(str(r.author or ""), r.author.source if r.author else "")
    ),
)


@click.command()
@click.argument("workload", metavar="NAMESPACE/POD")
@source.files
@place.output_option
def explain(workload: str, files: tuple[str, ...], namespace: str, output: str) -> None:
    """Show what selects a workload, its rules as they count, and the entries that a call is looked up in."""
    known = world.World(source.load(files, namespace), namespace)
    try:
        end = known.end(workload)
    except world.Unknown as error:
        raise ends.wrong(str(error)) from None
    if end.on_host:
        raise ends.wrong(f"{workload}: {ends.ON_HOST}")
    if end.workload is None:
        raise ends.wrong(f"{workload} is no pod under policy: policies say nothing of it")
    found = analysis.explain(known, end.workload)
    if output == "json":
        show.print_json(show.jsonable(found))
        return
    click.echo(printable(f"{found.workload}: identity {found.identity} here ({', '.join(found.labels)})"))
    _stage("1. what selects it")
    show.show(found.selecting, _SELECTING, output, "no policy: it may call and be called by anybody")
    _stage("2. the rules that count for it")
    show.show(found.rules, _RULES, output, "none")
    _stage("3. the entries that a call is looked up in: deny before proxy, proxy before allow, allow before default")
    show.show(policies.ranges(found.entries), entries.COLUMNS, output, "none")
    if more := found.entries_count - len(found.entries):
        click.echo(f"and {more} more")


def _stage(title: str) -> None:
    click.echo(f"\n{title}")
