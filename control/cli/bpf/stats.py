"""`sockmesh bpf stats`: counters of the datapath, summed over the CPUs, with rates."""

import time
from pathlib import Path

import click

from control.cli import lazy
from control.cli.finite import FiniteRange
from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, show, show_one
from control.flow.summary import counted
from control.inspect import counters
from loader import abi
from loader.errors import MeshError
from loader.maps import Maps


def _rate(row: counters.CounterRow) -> str:
    return "" if row.rate is None else f"{row.rate:,.0f}/s"


def _cpus(row: counters.CounterRow) -> str:
    return " ".join(f"{value:,}" for value in row.per_cpu)


_TOTALS = (
    Column[counters.CounterRow]("COUNTER", lambda r: r.name),
    Column[counters.CounterRow]("TOTAL", lambda r: f"{r.total:,}", right=True),
)
_RATE = Column[counters.CounterRow]("RATE", _rate, right=True)
_CPUS = Column[counters.CounterRow]("BY CPU", _cpus)
_MEANING = Column[counters.CounterRow]("MEANING", lambda r: r.explanation)


def _read(opened: Maps) -> list[list[int]]:
    return [[cpu.value for cpu in opened.counters.cpus_at(int(metric))] for metric in abi.Metric]


def rows(place: Place, seconds: float) -> tuple[counters.CounterRow, ...]:
    """Return the counters, with rates when they are watched for some seconds."""
    with place.maps() as opened:
        first, began = _read(opened), time.monotonic()
        if not seconds:
            return counters.counters(first)
        time.sleep(seconds)
        return counters.counters(first, _read(opened), time.monotonic() - began)


@click.group(cls=lazy.Group)
def stats() -> None:
    """Counters of the datapath since its maps were made."""


_seconds = click.option(
    "-i", "--interval", type=FiniteRange(0, 3600), default=1.0, show_default=True, metavar="SECONDS",
    help="Watch for so long, and show rates; 0: totals only.",
)  # fmt: skip


@stats.command("list")
@_seconds
@click.option("-a", "--all", "every", is_flag=True, help="Also counters that are zero.")
@click.option("--cpus", is_flag=True, help="Each CPU's share.")
@place_options
@output_option
def list_(interval: float, every: bool, cpus: bool, pin_dir: Path, run_dir: Path, output: str) -> None:
    """List the counters: totals over all CPUs and, over an interval, rates."""
    found = rows(Place(pin_dir, run_dir), interval)
    shown = found if every or output == "json" else tuple(row for row in found if row.total)
    columns = (*_TOTALS, *((_RATE,) if interval else ()), *((_CPUS,) if cpus else ()), _MEANING)
    show(shown, columns, output, "every counter is zero")
    if shown and len(shown) < len(found):
        click.echo(f"{counted(len(found) - len(shown), 'counter')} not shown for being zero (--all shows them)")


@stats.command("get")
@click.argument("name")
@_seconds
@place_options
@output_option
def get(name: str, interval: float, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show one counter."""
    wanted = name.lower().replace("-", "_")
    if wanted not in [metric.name.lower() for metric in abi.Metric]:
        raise MeshError(f"no counter {name} ({', '.join(metric.name.lower() for metric in abi.Metric)})")
    row = next(row for row in rows(Place(pin_dir, run_dir), interval) if row.name == wanted)
    facts = {"counter": row.name, "total": f"{row.total:,}", "rate": _rate(row) or "-", "by CPU": _cpus(row)}
    show_one(row, facts | {"meaning": row.explanation}, output)
