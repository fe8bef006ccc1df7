"""Policy entries in words: which peers, protocols and ports an endpoint's set allows or denies, and by which rule."""

import dataclasses
from collections.abc import Iterable

from control.inspect import inforce, words
from control.names import Names
from loader import abi

# What a call meets that no rule names, at an endpoint that no policy selects in that direction.
OPEN = "default: no policy selects the endpoint"
NOT_ENFORCED = "not enforced"


@dataclasses.dataclass(frozen=True)
class PolicyRow:
    """One entry of one set. `peer` 0 is any identity; the highest rank that matches a call decides it."""

    set_id: int
    endpoints: tuple[str, ...]
    direction: str
    peer: int
    peer_labels: tuple[str, ...]
    peer_word: str
    proto: str
    ports: str
    port_prefix: str  # as the kernel matches it: "8000/10"
    verdict: str  # allow, deny, proxy; "": the entry is there for policies in audit mode only; or NOT_ENFORCED
    rank: int
    rule: str
    source: str
    audit_verdict: str  # what would be if policies in audit mode were enforced; "" when there are none
    audit_rule: str
    audit_source: str


def endpoints_by_set(endpoints: inforce.Endpoints, names: Names) -> dict[int, tuple[str, ...]]:
    """Return who uses each policy set: two, where an edit is half done."""
    out: dict[int, set[str]] = {}
    for id, endpoint in endpoints.each:
        out.setdefault(endpoint.set_id, set()).add(words.endpoint_name(names, id))
    return {number: tuple(sorted(users)) for number, users in out.items()}


def rows(
    entries: Iterable[tuple[abi.PolicyKey, abi.PolicyValue]], names: Names, users: dict[int, tuple[str, ...]]
) -> tuple[PolicyRow, ...]:
    """Return entries in the order in which they decide: by set and direction, deny, then allow, then default.

    Those that come equally early are sorted by peer, protocol and port.
    """
    ordered = sorted(
        entries,
        key=lambda e: (e[0].set_id, e[0].direction, -e[1].rank, e[0].peer_id, e[0].proto, e[0].port, -e[0].plen),
    )
    return tuple(_row(key, value, names, users) for key, value in ordered)


def unenforced(name: str, why: str) -> tuple[PolicyRow, ...]:
    """Return what stands in for the entries of an endpoint that the kernel has none of because it knows no such
    endpoint: no rows would read as if it refused everything."""
    blank = PolicyRow(
        set_id=0, endpoints=(name,), direction="", peer=0, peer_labels=(), peer_word="any", proto=words.proto_word(0),
        ports=words.ports_word(0, 0, 0), port_prefix="0/0", verdict=NOT_ENFORCED, rank=0, rule=why, source="",
        audit_verdict="", audit_rule="", audit_source="",
    )  # fmt: skip
    return tuple(dataclasses.replace(blank, direction=direction.name.lower()) for direction in abi.Direction)


def ranges(found: Iterable[PolicyRow]) -> tuple[PolicyRow, ...]:
    """Return sorted rows for people: entries that make up a range of ports as one, which has no `port_prefix`."""
    runs: list[list[PolicyRow]] = []
    for row in found:
        if runs and _goes_on(runs[-1][-1], row):
            runs[-1].append(row)
        else:
            runs.append([row])
    return tuple(run[0] if len(run) == 1 else _one(run) for run in runs)


def _goes_on(row: PolicyRow, after: PolicyRow) -> bool:
    alike = dataclasses.replace(after, ports=row.ports, port_prefix=row.port_prefix) == row
    return alike and _span(after)[0] == _span(row)[1] + 1


def _one(run: list[PolicyRow]) -> PolicyRow:
    ports = f"{_span(run[0])[0]}-{_span(run[-1])[1]}"
    return dataclasses.replace(run[0], ports=ports, port_prefix="")


def _span(row: PolicyRow) -> tuple[int, int]:
    port, plen = map(int, row.port_prefix.split("/"))
    return port, port | (0xFFFF >> plen)


def _row(key: abi.PolicyKey, value: abi.PolicyValue, names: Names, users: dict[int, tuple[str, ...]]) -> PolicyRow:
    audited = value.audit_present and (value.audit_verdict, value.audit_rule_id) != (value.verdict, value.rule_id)
    return PolicyRow(
        set_id=key.set_id,
        endpoints=users.get(key.set_id, ()),
        direction=abi.Direction(key.direction).name.lower(),
        peer=key.peer_id,
        peer_labels=names.labels(key.peer_id) if key.peer_id else (),
        peer_word=words.identity_word(names, key.peer_id) if key.peer_id else "any",
        proto=words.proto_word(key.proto),
        ports=words.ports_word(key.proto, key.port, key.plen),
        port_prefix=f"{key.port}/{key.plen}",
        verdict=_verdict(value.verdict) if value.present else "",
        rank=value.rank,
        rule=_rule(value.rule_id, value.rank, value.verdict, names, bool(audited)) if value.present else "",
        source=words.rule_source(names, value.rule_id),
        audit_verdict=_verdict(value.audit_verdict) if audited else "",
        audit_rule=_rule(value.audit_rule_id, value.audit_rank, value.audit_verdict, names) if audited else "",
        audit_source=words.rule_source(names, value.audit_rule_id) if audited else "",
    )


def _verdict(number: int) -> str:
    try:
        return abi.Verdict(number).name.lower()
    except ValueError:
        return f"verdict {number}"


def _rule(rule_id: int, rank: int, verdict: int, names: Names, audited: bool = False) -> str:
    rule = words.rule_word(names, rule_id)
    if rank != abi.Rank.DEFAULT:
        return rule
    if verdict == abi.Verdict.DENY:
        return f"default: {rule} selects the endpoint" if rule else "default: denied"
    if rule:
        return f"default: {rule}"
    return OPEN.replace("no policy", "no enforced policy") if audited else OPEN
