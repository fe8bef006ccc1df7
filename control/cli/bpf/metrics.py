"""`sockmesh bpf metrics`: packets forwarded and dropped, calls refused."""

from pathlib import Path

import click

from control.cli import lazy
from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, show
from control.flow.summary import amount, counted
from control.inspect import counters
from loader.errors import MeshError


def _count(row: counters.TrafficRow) -> str:
    return counted(row.calls, "call") if row.outcome == counters.REFUSED else f"{row.packets:,}"


def _bytes(row: counters.TrafficRow) -> str:
    return "-" if row.outcome == counters.REFUSED else amount(row.bytes)


_COLUMNS = (
    Column[counters.TrafficRow]("OUTCOME", lambda r: r.outcome, style=lambda t: "" if t == "forwarded" else "red"),
    Column[counters.TrafficRow]("DIRECTION", lambda r: r.direction or "-"),
    Column[counters.TrafficRow]("PACKETS", _count, right=True),
    Column[counters.TrafficRow]("BYTES", _bytes, right=True),
)


def _rows(place: Place) -> tuple[counters.TrafficRow, ...]:
    with place.maps() as opened:
        return counters.traffic(opened.traffic.items(), opened.counter)


@click.group(cls=lazy.Group)
def metrics() -> None:
    """Packets that policy judged on pods' interfaces, by outcome and direction; and the calls it refused before."""


@metrics.command("list")
@place_options
@output_option
def list_(pin_dir: Path, run_dir: Path, output: str) -> None:
    """List packets forwarded, calls refused, and packets dropped by reason.

    A refused call got EPERM at connect or sendmsg, and no packet was made. Only their number is kept here: direction,
    reason and rule of each are on record (`sockmesh observe --verdict DROPPED`).
    """
    show(_rows(Place(pin_dir, run_dir)), _COLUMNS, output, "no packets yet")
    if output != "json":
        click.echo(
            "bytes of the short cut are no packets: `sockmesh bpf stats list`, by connection `sockmesh bpf sock list`"
        )


@metrics.command("get")
@click.argument("outcome", metavar="OUTCOME")
@place_options
@output_option
def get(outcome: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show one OUTCOME: "forwarded", "refused" (calls), or a drop reason such as POLICY_DENIED."""
    chosen = counters.of(_rows(Place(pin_dir, run_dir)), outcome)
    if not chosen:
        raise MeshError(f"no outcome {outcome} ({', '.join(counters.OUTCOMES)})")
    show(chosen, _COLUMNS, output, "")
