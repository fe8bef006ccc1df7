"""`sockmesh bpf policy`: what the kernel allows and denies, entry by entry."""

from pathlib import Path

import click

from control.cli import lazy
from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, show
from control.inspect import endpoints, inforce, pins, policies, words
from loader import numbers


def _verdict(row: policies.PolicyRow) -> str:
    return row.verdict or "(audit only)"


def _rule(row: policies.PolicyRow) -> str:
    """Return the rule, and what policies in audit mode would make of the call where that differs."""
    parts = [words.with_source(row.rule, row.source)] if row.verdict else []
    if row.audit_verdict:
        parts.append(
            f"if audits were enforced: {row.audit_verdict}, {words.with_source(row.audit_rule, row.audit_source)}"
        )
    return "; ".join(parts)


_STYLES = {policies.NOT_ENFORCED: "red", "deny": "red", "allow": "green", "proxy": "cyan"}
COLUMNS = (
    Column[policies.PolicyRow]("DIRECTION", lambda r: r.direction),
    Column[policies.PolicyRow]("VERDICT", _verdict, style=lambda t: _STYLES.get(t, "")),
    Column[policies.PolicyRow]("RANK", lambda r: str(r.rank) if r.verdict else "", right=True),
    Column[policies.PolicyRow]("PEER", lambda r: r.peer_word),
    Column[policies.PolicyRow]("IDENTITY", lambda r: str(r.peer) if r.peer else "", right=True),
    Column[policies.PolicyRow]("PROTO", lambda r: r.proto),
    Column[policies.PolicyRow]("PORT", lambda r: r.ports),
    Column[policies.PolicyRow]("RULE", _rule),
)
_WITH_OWNER = (
    Column[policies.PolicyRow]("ENDPOINT", lambda r: ", ".join(r.endpoints) or f"nobody (set {r.set_id})"),
    *COLUMNS,
)
_WITH_SET = (Column[policies.PolicyRow]("SET", lambda r: str(r.set_id), right=True), *COLUMNS)


def _shown(rows: tuple[policies.PolicyRow, ...], output: str) -> tuple[policies.PolicyRow, ...]:
    """Return ranges of ports for people, and for programs the entries that the kernel has."""
    return rows if output == "json" else policies.ranges(rows)


def _by_owner(rows: tuple[policies.PolicyRow, ...]) -> tuple[policies.PolicyRow, ...]:
    """Return the sets in the order of their endpoints' names, those that nobody uses last; each as it was."""
    return tuple(sorted(rows, key=lambda r: (not r.endpoints, r.endpoints, r.set_id)))


@click.group(cls=lazy.Group)
def policy() -> None:
    """Policy entries. Of the entries that match a call, the one of the highest RANK decides.

    254 is a deny, or the node where all that denies is files that cannot be read; 100 is what looks into bytes, and
    what counts as that; 1 is an allow, 0 the default. Of one rank the longer port prefix decides, then the entry that
    names the peer.

    The kernel holds a range of ports as several entries; the table shows them as one line, -o json each of them.
    """


@policy.command("list")
@place_options
@output_option
def list_(pin_dir: Path, run_dir: Path, output: str) -> None:
    """List the entries of every endpoint; endpoints with the same policy share a set."""
    place = Place(pin_dir, run_dir)
    with place.maps() as opened:
        names = place.names()
        users = policies.endpoints_by_set(inforce.endpoints(opened), names)
        entries = (entry for entry in opened.policy.items() if not numbers.is_reserved(entry[0].set_id))
        rows = policies.rows(entries, names, users)
    nothing = "every endpoint refuses everything" if users else "no endpoints on this node"
    show(_shown(_by_owner(rows), output), _WITH_OWNER, output, f"no policy entries: {nothing}")


@policy.command("get")
@click.argument("endpoint", metavar="ENDPOINT")
@place_options
@output_option
def get(endpoint: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show the entries of one ENDPOINT, given by id, [namespace/]name or address."""
    place = Place(pin_dir, run_dir)
    with place.maps() as opened:
        names = place.names()
        here = inforce.endpoints(opened)
        entries = list(opened.policy.items())
    known = endpoints.rows(here, endpoints.set_facts(entries), names, pins.links_by_owner(pin_dir))
    chosen = endpoints.pick(known, endpoint)
    users = policies.endpoints_by_set(here, names)
    if chosen.policy == endpoints.NOT_IN_FORCE:
        rows, of_set = policies.unenforced(chosen.name, endpoints.PASSES), ""
    else:
        own = [(key, value) for key, value in entries if key.set_id in chosen.sets]
        rows, of_set = policies.rows(own, names, users), f", set {' and '.join(map(str, chosen.sets))}"
    if output == "table":
        place_of = f"endpoint {chosen.id}, identity {chosen.identity}{of_set}"
        click.echo(f"{chosen.name} ({place_of}): {chosen.policy_word}")
    columns = COLUMNS if len(chosen.sets) == 1 else _WITH_SET
    show(_shown(rows, output), columns, output, "no entries: everything is refused")
