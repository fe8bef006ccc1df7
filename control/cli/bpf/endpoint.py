"""`sockmesh bpf endpoint`: the pods of this node that policy is in force on."""

from pathlib import Path

import click

from control.cli import lazy
from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, show, show_one
from control.inspect import barred, endpoints, health, inforce, pins, words

_AUDIT = " (a policy in audit mode only tells what it would refuse: `sockmesh observe --type audit`)"


def _style(text: str) -> str:
    if not text.startswith("enforced"):
        return "red"
    return "yellow" if text.endswith("half edited") else ""


def _entries(row: endpoints.EndpointRow) -> str:
    if row.policy == endpoints.NOT_IN_FORCE:
        return "none"
    return f"{row.entries} in set {row.set_id}{_next(row)} (`sockmesh bpf policy get {row.id}`)"


def _next(row: endpoints.EndpointRow) -> str:
    return "".join(f", the next policy is set {number}" for number in row.sets[1:])


COLUMNS = (
    Column[endpoints.EndpointRow]("ID", lambda r: str(r.id), right=True),
    Column[endpoints.EndpointRow]("NAME", lambda r: r.name),
    Column[endpoints.EndpointRow]("IDENTITY", lambda r: str(r.identity), right=True),
    Column[endpoints.EndpointRow]("LABELS", lambda r: words.short_labels(r.labels)),
    Column[endpoints.EndpointRow]("IP", lambda r: ", ".join(r.ips)),
    Column[endpoints.EndpointRow]("POLICY", lambda r: r.policy_in_a_word, style=_style),
    Column[endpoints.EndpointRow]("INGRESS", lambda r: r.ingress),
    Column[endpoints.EndpointRow]("EGRESS", lambda r: r.egress),
    Column[endpoints.EndpointRow]("ENTRIES", lambda r: str(r.entries), right=True),
    Column[endpoints.EndpointRow]("SHORT CUT", lambda r: endpoints.in_a_word(r.acceleration)),
)


def rows(place: Place) -> tuple[endpoints.EndpointRow, ...]:
    """Return every endpoint as the maps and names have it, but for the pods that a self-test has there meanwhile."""
    with place.maps() as opened:
        return endpoints.rows(
            inforce.of_pods(inforce.endpoints(opened)),
            endpoints.set_facts(opened.policy.items()),
            place.names(),
            pins.links_by_owner(place.pin_dir),
            barred.endpoints(opened),
        )


def _effective(place: Place) -> tuple[endpoints.EndpointRow, ...]:
    """Return every endpoint with the short cut that it has, as far as the whole node has any."""
    with place.maps() as opened:
        config = opened.config.get_at(0)
    return health.effective(rows(place), health.acceleration(config, place.agent_status()))


@click.group(cls=lazy.Group)
def endpoint() -> None:
    """Endpoints: the pods of this node, with the state of policy and short cut on each."""


@endpoint.command("list")
@place_options
@output_option
def list_(pin_dir: Path, run_dir: Path, output: str) -> None:
    """List every endpoint; `get` says why one is not in force, or not on the short cut."""
    show(_effective(Place(pin_dir, run_dir)), COLUMNS, output, "no endpoints on this node")


@endpoint.command("get")
@click.argument("wanted", metavar="ENDPOINT")
@place_options
@output_option
def get(wanted: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show one ENDPOINT, given by id, [namespace/]name or address."""
    row = endpoints.pick(_effective(Place(pin_dir, run_dir)), wanted)
    facts = {
        "name": row.name,
        "id": str(row.id),
        "identity": f"{row.identity} ({words.short_labels(row.labels)})",
        "labels": ", ".join(row.labels),
        "service account": row.service_account,
        "addresses": ", ".join(row.ips),
        "policy": row.policy_word + (_AUDIT if row.audit else ""),
        **({"ingress": row.ingress, "egress": row.egress} if row.ingress else {}),
        "entries": _entries(row),
        "short cut": row.acceleration,
        "interface": (row.interface or "-") + (f" (index {row.ifindex})" if row.ifindex else ""),
        "namespace file": row.netns or "-",
        "cgroup": row.cgroup or "-",
        "socket hooks": ", ".join(row.hooks) or "none attached",
    }
    show_one(row, facts, output)
