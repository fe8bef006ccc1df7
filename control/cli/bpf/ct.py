"""`sockmesh bpf ct`: connection tracking."""

import time
from pathlib import Path

import click

from control.cli import lazy
from control.cli.bpf import endpoint as endpoint_command
from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, show
from control.flow.summary import amount, span
from control.inspect import endpoints, tracking, words
from loader import numbers
from loader.errors import MeshError

_COLUMNS = (
    Column[tracking.CtRow]("ENDPOINT", lambda r: r.endpoint_name),
    Column[tracking.CtRow]("DIRECTION", lambda r: r.direction),
    Column[tracking.CtRow]("PROTO", lambda r: r.proto),
    Column[tracking.CtRow]("FROM", lambda r: str(r.source)),
    Column[tracking.CtRow]("TO", lambda r: str(r.destination)),
    Column[tracking.CtRow]("PACKETS ->", lambda r: str(r.sent_packets), right=True),
    Column[tracking.CtRow]("<-", lambda r: str(r.received_packets), right=True),
    Column[tracking.CtRow]("BYTES ->", lambda r: amount(r.sent_bytes), right=True),
    Column[tracking.CtRow]("<-", lambda r: amount(r.received_bytes), right=True),
    Column[tracking.CtRow]("IDLE", lambda r: span(r.idle_ns), right=True),
    Column[tracking.CtRow]("FLAGS", lambda r: ",".join(r.flags)),
    Column[tracking.CtRow]("RULE", lambda r: words.with_source(r.rule, r.rule_source)),
)


def _rows(place: Place) -> tuple[tracking.CtRow, ...]:
    with place.maps() as opened:
        generation = opened.config.get_at(0).generation
        entries = (entry for entry in opened.ct.items() if not numbers.is_reserved(entry[0].endpoint))
        return tracking.rows(entries, place.names(), generation, time.monotonic_ns())


@click.group(cls=lazy.Group)
def ct() -> None:
    """Connection tracking: what each endpoint's policy has let through. A call inside the node has an entry at both."""


@ct.command("list")
@place_options
@output_option
def list_(pin_dir: Path, run_dir: Path, output: str) -> None:
    """List every entry, with the packets that were judged here and their bytes.

    Packets of a TCP connection that is open at its socket pass without being counted: `bpf sock` has its bytes. Flags:
    seen-reply: it was answered; closing: its end was seen; tracked: its sockets tell of it; reported: it is on record;
    audited: a policy in audit mode would refuse it.
    """
    show(_rows(Place(pin_dir, run_dir)), _COLUMNS, output, "nothing is tracked")
    if output != "json":
        click.echo(
            "packets of connections that are open at their sockets are not counted here: `sockmesh bpf sock list`"
        )


@ct.command("get")
@click.argument("wanted", metavar="ENDPOINT")
@click.argument("ends", nargs=-1, metavar="[FROM TO]")
@place_options
@output_option
def get(wanted: str, ends: tuple[str, ...], pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show the entries of one ENDPOINT, given by id, [namespace/]name or address.

    FROM and TO, as `list` shows them (shop/web:40212 or 10.0.0.1:40212), leave the entries of one tuple; without a port
    those of every port.
    """
    if ends and len(ends) != 2:
        raise click.UsageError("say ENDPOINT alone, or ENDPOINT FROM TO")
    place = Place(pin_dir, run_dir)
    chosen = endpoints.pick(endpoint_command.rows(place), wanted)
    found = tracking.of(_rows(place), chosen.id)
    if not found and not ends:
        raise MeshError(f"nothing is tracked for {chosen.name} (`sockmesh bpf ct list`)")
    if ends and not (found := tracking.between(found, *ends)):
        raise MeshError(f"{chosen.name} tracks nothing from {ends[0]} to {ends[1]} (`sockmesh bpf ct get {wanted}`)")
    show(found, _COLUMNS, output, "")
