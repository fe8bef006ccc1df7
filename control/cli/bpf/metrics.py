"""`sockmesh bpf metrics`: packets forwarded and dropped."""

from pathlib import Path

import click

from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, show
from control.flow.summary import amount
from control.inspect import counters
from loader.errors import MeshError

_COLUMNS = (
    Column[counters.TrafficRow]("OUTCOME", lambda r: r.outcome, style=lambda t: "" if t == "forwarded" else "red"),
    Column[counters.TrafficRow]("DIRECTION", lambda r: r.direction),
    Column[counters.TrafficRow]("PACKETS", lambda r: f"{r.packets:,}", right=True),
    Column[counters.TrafficRow]("BYTES", lambda r: amount(r.bytes), right=True),
)


def _rows(place: Place) -> tuple[counters.TrafficRow, ...]:
    with place.maps() as opened:
        return counters.traffic(opened.traffic.items(), opened.counter)


@click.group()
def metrics() -> None:
    """Packets that policy judged on pods' interfaces, by outcome and direction."""


@metrics.command("list")
@place_options
@output_option
def list_(pin_dir: Path, run_dir: Path, output: str) -> None:
    """List packets forwarded, and dropped by reason."""
    show(_rows(Place(pin_dir, run_dir)), _COLUMNS, output, "no packets yet")


@metrics.command("get")
@click.argument("outcome", metavar="OUTCOME")
@place_options
@output_option
def get(outcome: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show one OUTCOME: "forwarded", or a drop reason such as POLICY_DENIED."""
    chosen = counters.of(_rows(Place(pin_dir, run_dir)), outcome)
    if not chosen:
        raise MeshError(f"no outcome {outcome} ({', '.join(counters.OUTCOMES)})")
    show(chosen, _COLUMNS, output, "")
