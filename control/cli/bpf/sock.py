"""`sockmesh bpf sock`: open TCP connections and whether each direction takes the short cut."""

import ipaddress
import time
from pathlib import Path

import click

from control.cli import lazy
from control.cli.bpf import endpoint as endpoint_command
from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, print_json, show, show_one
from control.flow.summary import amount, counted, span
from control.inspect import endpoints, health, policies, socks, tcp, words
from loader.errors import MeshError


def _short_cut(row: socks.SockRow) -> str:
    """Return "both ways", or why not, by direction where the two differ."""
    if row.there.short_cut and row.back.short_cut:
        return "both ways"
    there, back = ("short cut" if way.short_cut else way.reason for way in (row.there, row.back))
    return f"no: {there}" if there == back else f"-> {there}, <- {back}"


def _over_tcp(way: socks.Way) -> str:
    return "unknown" if way.tcp_bytes is None else amount(way.tcp_bytes)


COLUMNS = (
    Column[socks.SockRow]("FROM", lambda r: str(r.source)),
    Column[socks.SockRow]("TO", lambda r: str(r.destination)),
    Column[socks.SockRow]("STATE", lambda r: r.state, style=lambda t: "" if t in ("open", "closing") else "red"),
    Column[socks.SockRow]("SHORT CUT", _short_cut, style=lambda t: "green" if t == "both ways" else ""),
    Column[socks.SockRow]("REDIRECTED ->", lambda r: amount(r.there.redirected_bytes), right=True),
    Column[socks.SockRow]("<-", lambda r: amount(r.back.redirected_bytes), right=True),
    Column[socks.SockRow]("TCP ->", lambda r: _over_tcp(r.there), right=True),
    Column[socks.SockRow]("<-", lambda r: _over_tcp(r.back), right=True),
    Column[socks.SockRow]("AGE", lambda r: span(r.age_ns), right=True),
)


def _rows(place: Place) -> tuple[socks.SockRow, ...]:
    with place.maps() as opened:
        conns = [(key, conn) for key, conn in opened.conns.items() if not health.is_of_self_test(conn)]
        names = place.names()
    return socks.rows(conns, names, tcp.look(conns, names), time.monotonic_ns())


def _of(found: tuple[socks.SockRow, ...], wanted: str, place: Place) -> tuple[socks.SockRow, ...]:
    """Return the connections of an endpoint, or of an address that may be anybody's; raises NoSuchEndpoint."""
    rows = socks.of(found, wanted)
    if rows or _is_address(wanted):
        return rows
    chosen = endpoints.pick(endpoint_command.rows(place), wanted)
    return tuple(row for row in found if chosen.id in (row.source.endpoint, row.destination.endpoint))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _require_end(wanted: str, place: Place) -> None:
    """Raise NoSuchEndpoint for what names an endpoint, with a port or without, that nobody here is called."""
    name, _, port = wanted.rpartition(":")
    name = name if name and port.isdecimal() else wanted
    if wanted.isdecimal() or _is_address(wanted) or _is_address(name.strip("[]")):
        return
    elsewhere = place.names().remote.values()
    if not any(name in (str(pod), pod.name) for pod in elsewhere):
        endpoints.require(endpoint_command.rows(place), name)


@click.group(cls=lazy.Group)
def sock() -> None:
    """Open TCP connections with an end on this node."""


@sock.command("list")
@click.option("--endpoint", default="", metavar="NAME", help="Only those of this id, [namespace/]name or address.")
@place_options
@output_option
def list_(endpoint: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """List connections: both ends, the short cut in each direction or why there is none, bytes each way.

    -> is from the end that called connect(). TCP is the payload that did not take the short cut; it is unknown where
    the kernel does not let the caller look into the pods.
    """
    place = Place(pin_dir, run_dir)
    rows = _rows(place)
    if endpoint:
        rows = _of(rows, endpoint, place)
    show(rows, COLUMNS, output, f"no open TCP connections of {endpoint}" if endpoint else "no open TCP connections")


@sock.command("get")
@click.argument("wanted", metavar="END")
@place_options
@output_option
def get(wanted: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show the connections with END at either end, in full.

    END is [namespace/]name or address, alone or with a port as `list` shows it (shop/web:40212), or a port.
    """
    place = Place(pin_dir, run_dir)
    rows = socks.matching(_rows(place), wanted)
    if not rows:
        _require_end(wanted, place)
        raise MeshError(f"no open TCP connection has {wanted} at either end (`sockmesh bpf sock list`)")
    if output == "json":
        print_json(rows)
        return
    for number, row in enumerate(rows):
        if number:
            click.echo()
        show_one(row, _facts(row), output)


def _rule(row: socks.SockRow, judged: words.End, rule: str, source: str) -> str:
    """Return the rule of one end's policy; where there is none, why, in the words of `bpf policy get`."""
    if rule:
        return words.with_source(rule, source)
    if not judged.endpoint:
        return f"not asked: {judged.ip} is no endpoint of this node"
    if row.source.endpoint == row.destination.endpoint:
        return "not asked: both ends are in one pod"
    return policies.OPEN


def _facts(row: socks.SockRow) -> dict[str, str]:
    facts = {
        "from": f"{row.source} ({row.source.address}, identity {row.source.identity}, cookie {row.cookies[0]})",
        "to": f"{row.destination} ({row.destination.address}, identity {row.destination.identity}, "
        f"cookie {row.cookies[1]})",
        "state": f"{row.state}, since {span(row.age_ns)}",
        "egress rule": _rule(row, row.source, row.egress_rule, row.egress_source),
        "ingress rule": _rule(row, row.destination, row.ingress_rule, row.ingress_source),
    }
    for arrow, way in (("->", row.there), ("<-", row.back)):
        word = "short cut" if way.short_cut else f"no short cut ({way.reason})"
        facts[f"{arrow} now"] = f"{word}: {way.explanation}"
        redirected, passed = (counted(n, "message") for n in (way.redirected_messages, way.tcp_messages))
        facts[f"{arrow} redirected"] = f"{amount(way.redirected_bytes)} in {redirected}"
        facts[f"{arrow} TCP"] = _over_tcp(way) + (f", {passed} since it was enrolled" if way.was_enrolled else "")
    return facts
