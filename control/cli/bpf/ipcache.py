"""`sockmesh bpf ipcache`: which identity an address has."""

import ipaddress
from pathlib import Path

import click

from control.cli import lazy
from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, show, show_one
from control.inspect import addresses, inforce, services
from loader.errors import MeshError

_COLUMNS = (
    Column[addresses.AddressRow]("PREFIX", lambda r: r.prefix),
    Column[addresses.AddressRow]("IDENTITY", lambda r: str(r.identity), right=True),
    Column[addresses.AddressRow]("FLAGS", lambda r: ",".join(r.flags) or "-"),
    Column[addresses.AddressRow]("NAME", lambda r: r.name),
    Column[addresses.AddressRow]("LABELS", lambda r: r.identity_word),
)


def _rows(place: Place) -> tuple[addresses.AddressRow, ...]:
    with place.maps() as opened:
        return addresses.rows(inforce.ipcache(opened), place.names())


def _service_at(place: Place, ip: str) -> str:
    """Return the name of the service with an address, or "": it has no identity, for its backends are judged."""
    with place.maps() as opened:
        found = services.rows(opened.services.items(), opened.backends.items(), place.names())
    wanted = ipaddress.ip_address(ip)
    return next((row.name for row in found if ipaddress.ip_address(row.ip) == wanted), "")


@click.group(cls=lazy.Group)
def ipcache() -> None:
    """Address prefixes and their identities; the longest prefix that covers an address decides."""


@ipcache.command("list")
@place_options
@output_option
def list_(pin_dir: Path, run_dir: Path, output: str) -> None:
    """List every prefix."""
    show(_rows(Place(pin_dir, run_dir)), _COLUMNS, output, "no prefixes: every address is the world")


@ipcache.command("get")
@click.argument("ip", metavar="IP")
@place_options
@output_option
def get(ip: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show the prefix and identity that decide for IP."""
    place = Place(pin_dir, run_dir)
    try:
        row = addresses.lookup(_rows(place), ip)
    except ValueError:
        raise click.BadParameter(f"{ip!r} is not an IP address") from None
    if service := _service_at(place, ip):
        click.echo(f"{ip} is the address of service {service}; its backends: `sockmesh bpf lb get {ip}`", err=True)
    if row is None:
        raise MeshError(f"no prefix covers {ip}: the kernel takes it for the world (identity 2)")
    facts = {
        "prefix": row.prefix,
        "identity": f"{row.identity} ({row.identity_word})",
        "name": row.name or "-",
        "flags": ", ".join(row.flags) or "-",
        "labels": ", ".join(row.labels) or "-",
    }
    show_one(row, facts, output)
