"""`sockmesh bpf lb`: services and backends."""

from pathlib import Path

import click

from control.cli import lazy
from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, show
from control.inspect import services
from loader.errors import MeshError


def _backends(row: services.ServiceRow) -> str:
    if not row.backends:
        return "none: calls are refused"
    return ", ".join(f"{b} ({b.address})" if b.name else b.address for b in row.backends)


_COLUMNS = (
    Column[services.ServiceRow]("SERVICE", lambda r: r.name),
    Column[services.ServiceRow]("ADDRESS", lambda r: r.address),
    Column[services.ServiceRow]("PROTO", lambda r: r.proto),
    Column[services.ServiceRow]("BACKENDS", _backends),
)


def _rows(place: Place) -> tuple[services.ServiceRow, ...]:
    with place.maps() as opened:
        return services.rows(opened.services.items(), opened.backends.items(), place.names())


@click.group(cls=lazy.Group)
def lb() -> None:
    """Services: the addresses that calls are translated from, and the backends they go to in turn."""


@lb.command("list")
@place_options
@output_option
def list_(pin_dir: Path, run_dir: Path, output: str) -> None:
    """List every service address."""
    show(_rows(Place(pin_dir, run_dir)), _COLUMNS, output, "no services")


@lb.command("get")
@click.argument("service", metavar="SERVICE")
@place_options
@output_option
def get(service: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show one SERVICE, given by [namespace/]name, address or address:port."""
    rows = services.matching(_rows(Place(pin_dir, run_dir)), service)
    if not rows:
        raise MeshError(f"no service {service} on this node (`sockmesh bpf lb list`)")
    show(rows, _COLUMNS, output, "")
