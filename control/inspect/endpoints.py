"""Endpoints of this node: whether policy is in force on them, and whether they may take the short cut."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping

from control.flow.summary import accel_word
from control.inspect import inforce, socks, words
from control.names import EndpointName, Names
from loader import abi
from loader.errors import MeshError

_NSID_UNKNOWN = 0xFFFFFFFF
ON = "on"
PASSES = "no policy is enforced at this pod, and its traffic passes as far as the other end lets it"
NOT_IN_FORCE = f"not in force: its namespace or interface was not found, or can have no hooks; {PASSES}"
_NOBODY: Mapping[int, int] = {}
_WORDS = {True: "default deny", False: "open"}


class NoSuchEndpoint(MeshError):
    """The person asked for an endpoint that is not on this node: which, and who is."""


@dataclasses.dataclass(frozen=True)
class EndpointRow:
    """An endpoint as the kernel holds it, with what its names tell."""

    id: int
    name: str
    identity: int
    labels: tuple[str, ...]
    ips: tuple[str, ...]
    policy: str  # enforced, why everything is refused, or NOT_IN_FORCE
    ingress: str  # a call that no rule names: "open", "default deny", "open, audit: default deny"; "": not in force
    egress: str
    entries: int
    set_id: int
    acceleration: str  # ON, or why this endpoint takes no short cut
    flags: tuple[str, ...]
    interface: str
    ifindex: int
    netns: str
    cgroup: str
    service_account: str
    hooks: tuple[str, ...]  # pinned links of its cgroup
    audit: bool = False  # a policy in audit mode selects it: one that only tells what it would refuse
    edit: str = ""  # that an edit of it is half done, so that the next policy must allow, too; all else is the old one
    next_set_id: int = 0  # of that next policy; 0: there is none, or none is loaded for it

    @property
    def sets(self) -> tuple[int, ...]:
        """Return the policy sets that count: of two, each must allow."""
        return (self.set_id, self.next_set_id) if self.next_set_id not in (0, self.set_id) else (self.set_id,)

    @property
    def in_force(self) -> bool:
        return self.policy == "enforced"

    @property
    def policy_in_a_word(self) -> str:
        """Return `policy_word` for a table: without reasons."""
        return in_a_word(self.policy) + (" + audit" if self.audit else "") + (", half edited" if self.edit else "")

    @property
    def policy_word(self) -> str:
        """Return how policy stands here in all that every command says of it: with audit mode, and a half done edit."""
        policy = f"{self.policy} + audit" if self.audit else self.policy
        return f"{policy}; {self.edit}" if self.edit else policy


def in_a_word(text: str) -> str:
    """Return a state without its reason, for a table.

    >>> in_a_word("off on this node: the kill switch is off"), in_a_word("on")
    ('off on this node', 'on')
    """
    return re.split("[:;,] ", text)[0]


Sets = Mapping[int, "SetFacts"]


@dataclasses.dataclass
class SetFacts:
    """How many entries a set has, and what its default entries say by direction: enforced, and with audits enforced."""

    entries: int = 0
    defaults: dict[int, int] = dataclasses.field(default_factory=dict)
    audits: dict[int, int] = dataclasses.field(default_factory=dict)


def set_facts(entries: Iterable[tuple[abi.PolicyKey, abi.PolicyValue]]) -> dict[int, SetFacts]:
    """Return the facts of every set in one walk over the policy map."""
    out: dict[int, SetFacts] = {}
    for key, value in entries:
        facts = out.setdefault(key.set_id, SetFacts())
        facts.entries += 1
        if key.peer_id or key.proto or key.plen:
            continue
        if value.present:
            facts.defaults[key.direction] = value.verdict
        if value.audit_present:
            facts.audits[key.direction] = value.audit_verdict
    return out


def rows(
    endpoints: inforce.Endpoints,
    sets: Sets,
    names: Names,
    links: Mapping[str, Iterable[str]],
    barred: Mapping[int, int] = _NOBODY,
) -> tuple[EndpointRow, ...]:
    """Return every endpoint in the map, and those that have a name but no place in the map.

    `barred`: the AccelReasons of those that are kept off the short cut for what their programs did.
    """
    held, coming = endpoints.held, endpoints.coming
    ids = sorted(held.keys() | names.endpoints.keys())
    return tuple(
        _row(id, held.get(id), coming.get(id), sets, names, tuple(links.get(f"endpoint-{id}", ())), barred.get(id))
        for id in ids
    )


def _row(
    id: int,
    endpoint: abi.Endpoint | None,
    coming: abi.Endpoint | None,
    sets: Sets,
    names: Names,
    hooks: tuple[str, ...],
    bar: int | None,
) -> EndpointRow:
    known = names.endpoint(id) or EndpointName(id, "", "", endpoint.identity if endpoint else 0)
    facts = sets.get(endpoint.set_id, SetFacts()) if endpoint else SetFacts()
    return EndpointRow(
        id=id,
        name=words.endpoint_name(names, id),
        identity=endpoint.identity if endpoint else known.identity,
        labels=known.labels or names.labels(known.identity),
        ips=known.ips,
        policy=_policy(endpoint, coming, sets),
        ingress=_default(endpoint, facts, abi.Direction.INGRESS),
        egress=_default(endpoint, facts, abi.Direction.EGRESS),
        entries=facts.entries,
        set_id=endpoint.set_id if endpoint else 0,
        acceleration=_acceleration(endpoint, bar),
        flags=words.flag_words(endpoint.flags, abi.EndpointFlag) if endpoint else (),
        interface=known.interface,
        ifindex=endpoint.ifindex if endpoint else 0,
        netns=known.netns,
        cgroup=known.cgroup,
        service_account=known.service_account,
        hooks=hooks,
        audit=any(each.flags & abi.EndpointFlag.HAS_AUDIT for each in (endpoint, coming) if each),
        edit=inforce.HALF if coming else "",
        next_set_id=coming.set_id if coming else 0,
    )


def _policy(endpoint: abi.Endpoint | None, coming: abi.Endpoint | None, sets: Sets) -> str:
    if endpoint is None:
        return NOT_IN_FORCE
    if not endpoint.flags & abi.EndpointFlag.ENROLLED:
        return "everything is refused: not enrolled yet"
    if not _is_loaded(endpoint, sets):
        return "everything is refused: no policy is loaded for it"
    if coming and not _is_loaded(coming, sets):
        return "everything is refused: no policy is loaded for it once the edit is done"
    return "enforced"


def _is_loaded(endpoint: abi.Endpoint, sets: Sets) -> bool:
    return bool(endpoint.set_id and sets.get(endpoint.set_id, SetFacts()).entries)


def _default(endpoint: abi.Endpoint | None, facts: SetFacts, direction: abi.Direction) -> str:
    if endpoint is None:
        return ""
    enforced = facts.defaults.get(direction, abi.Verdict.DENY)
    audit = facts.audits.get(direction, enforced)
    word = _WORDS[enforced == abi.Verdict.DENY]
    return f"{word}, audit: {_WORDS[audit == abi.Verdict.DENY]}" if audit != enforced else word


def _acceleration(endpoint: abi.Endpoint | None, bar: int | None) -> str:
    if endpoint is None:
        return "not in force"
    if not endpoint.flags & abi.EndpointFlag.ACCELERATE:
        return "opted out"
    if not endpoint.flags & abi.EndpointFlag.HAS_CGROUP:
        return "no cgroup: none was given or found, so its sockets cannot be seen"
    if endpoint.nsid == _NSID_UNKNOWN:
        return "no namespace id: its network namespace has no id here"
    if not endpoint.flags & abi.EndpointFlag.UNSHAPED:
        return "queue: its host-side interface has one that shapes what passes"
    if bar is not None:
        return f"barred ({accel_word(bar)}): {socks.explain(bar) or 'for what one of its programs did'}"
    return ON


def called(found: Iterable[EndpointRow], wanted: str) -> list[EndpointRow]:
    """Return the endpoints with that id, address or namespace/name, or else those with that name."""
    rows = list(found)
    hits = [r for r in rows if wanted in (str(r.id), r.name) or wanted in r.ips]
    return hits or [r for r in rows if "/" not in wanted and r.name.rpartition("/")[2] == wanted]


def require(found: Iterable[EndpointRow], wanted: str) -> list[EndpointRow]:
    """Return what `called` does; raises NoSuchEndpoint when it is none, with the nearest names or else all."""
    rows = list(found)
    if hits := called(rows, wanted):
        return hits
    names = {name: r for r in rows for name in (r.name, r.name.rpartition("/")[2])}
    near = list(dict.fromkeys(f"{names[n].name} ({names[n].id})" for n in difflib.get_close_matches(wanted, names)))
    if near:
        raise NoSuchEndpoint(f"no endpoint {wanted} on this node; did you mean {' or '.join(near)}?")
    here = ", ".join(f"{r.name} ({r.id})" for r in rows[:10]) or "none"
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    raise NoSuchEndpoint(f"no endpoint {wanted} on this node; here are {here}{more}")


def pick(found: Iterable[EndpointRow], wanted: str) -> EndpointRow:
    """Return the one endpoint of `called`; raises NoSuchEndpoint when it is none or several."""
    hits = require(found, wanted)
    if len(hits) > 1:
        raise NoSuchEndpoint(f"{wanted} is more than one endpoint: {', '.join(r.name for r in hits)}")
    return hits[0]
