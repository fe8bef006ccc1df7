"""What all policies together mean for one pod: its defaults, and every rule that counts for it.

Each subject's policy is worked out on its own, in each direction on its own. Nothing is decided here about which rule
wins: a deny beats the proxy, the proxy beats an allow, an allow beats the default, and `policy_set` writes that down as
ranks. Peers and port names stay as they were written: whom they mean changes with every pod that comes or goes, what
policies say does not.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from control import identity, model
from loader import abi


@dataclasses.dataclass(frozen=True)
class Default:
    """What happens where no rule matches; `rule` is the key of who says so, empty where no policy selects."""

    verdict: abi.Verdict
    rule: str = ""


@dataclasses.dataclass(frozen=True)
class ResolvedRule:
    """A rule as it counts for one subject. `peers` and `ports` None: any. `audit`: it only would, if enforced.

    With the verdict PROXY, `l7` says what the bytes must say; None: they may say anything, by what the rule of the key
    `freed_by` says, if that is another one. `is_first`: it comes before denies for any peer and every port.
    """

    direction: abi.Direction
    verdict: abi.Verdict
    peers: tuple[model.Peer, ...] | None
    ports: tuple[model.PortSpec, ...] | None
    rule: str
    audit: bool = False
    l7: model.L7Rules | None = None
    is_first: bool = False
    freed_by: str = ""

    @property
    def by(self) -> str:
        """Return the key of the rule that lets through what this one stands for."""
        return self.freed_by or self.rule


@dataclasses.dataclass(frozen=True)
class ResolvedPolicy:
    """All that is needed to judge any packet of a subject. `audits` are the defaults if audits were enforced."""

    defaults: Mapping[abi.Direction, Default]
    audits: Mapping[abi.Direction, Default]
    rules: tuple[ResolvedRule, ...]
    has_audit: bool = False


Selecting = Sequence[tuple[model.Policy, model.Section]]


def order(policy: model.Policy) -> tuple[str, str, str]:
    """Return what policies are sorted by: of several that say the same, the first is answerable."""
    return policy.namespace, policy.name, policy.kind


def resolve(
    snapshot: model.Snapshot, identities: identity.Identities, numbers: Iterable[int]
) -> dict[int, ResolvedPolicy]:
    """Return the policy of each pod identity; those that the same policies select share one object.

    The snapshot's policies are without references (refer.written_out).
    """
    shared: dict[tuple[int, ...], ResolvedPolicy] = {}
    out = {}
    for number, found in selecting(snapshot, identities, numbers).items():
        same = tuple(id(section) for _, section in found)
        if same not in shared:
            shared[same] = together(found)
        out[number] = shared[same]
    return out


def selecting(
    snapshot: model.Snapshot, identities: identity.Identities, numbers: Iterable[int]
) -> Mapping[int, Selecting]:
    """Return the sections that select each pod identity, in order."""
    out: dict[int, list[tuple[model.Policy, model.Section]]] = {number: [] for number in numbers}
    for policy in sorted(snapshot.policies, key=order):
        for section in policy.sections:
            for number in identities.subjects(section.subject) & out.keys() if not section.of_nodes else ():
                out[number].append((policy, section))
    return out


def together(selecting: Selecting) -> ResolvedPolicy:
    """Return what sections that select the same subject, in order, mean together."""
    enforced = [(policy, section) for policy, section in selecting if not section.audit]
    has_audit = len(enforced) < len(selecting)
    defaults = {direction: _default(enforced, direction) for direction in abi.Direction}
    audits = {direction: _default(selecting, direction) for direction in abi.Direction} if has_audit else defaults
    plain = Plain(enforced), Plain(selecting if has_audit else ())
    rules: list[ResolvedRule] = []
    for policy, section in selecting:
        for rule in section.rules:
            if rule.peers != () and rule.ports != ():
                rules += _rules(rule, key_of(policy, rule), section, plain[section.audit])
    ingress = abi.Direction.INGRESS
    if audits[ingress].verdict == abi.Verdict.DENY:
        # The node itself may reach its pods, or no health probe would get through. A deny rule still beats that; what
        # stands in for a policy that cannot be read does not, unless somebody else's rule may be meant for the node.
        rules.append(
            ResolvedRule(
                ingress,
                abi.Verdict.ALLOW,
                (model.Entity.HOST,),
                None,
                identity.LOCALHOST_RULE,
                audit=defaults[ingress].verdict != abi.Verdict.DENY,
                is_first=_only_stand_ins_deny(selecting, ingress),
            )
        )
    return ResolvedPolicy(defaults, audits, tuple(rules), has_audit)


def key_of(policy: model.Policy, rule: model.Rule) -> str:
    """Return what a rule is called in maps and records."""
    return f"{policy.key}#{rule.path}"


def _only_stand_ins_deny(selecting: Selecting, direction: abi.Direction) -> bool:
    """Tell whether there are rules that do more than allow, and none of them is one that somebody wrote."""
    invalid = {
        policy.invalid
        for policy, section in selecting
        for rule in section.rules
        if rule.direction == direction and rule.verdict != abi.Verdict.ALLOW
    }
    return invalid == {True}


def _default(selecting: Selecting, direction: abi.Direction) -> Default:
    """Return what the selecting sections make of traffic that no rule matches; the first by name is answerable."""
    first: str | None = None
    for policy, section in selecting:
        if direction in section.default_deny:
            return Default(abi.Verdict.DENY, identity.default_key(policy, section, direction))
        if direction in section.directions and first is None:
            first = identity.default_key(policy, section, direction)
    # Rules that switch default deny off leave all else open, but a policy did select: it is named.
    return Default(abi.Verdict.ALLOW, first or "")


# --- rules that look inside the bytes --------------------------------------------------------------------------------

Who = tuple[model.Peer | None, ...]  # None: any
Opened = Mapping[str, Who]  # by the key of the rule that opens


class Plain:
    """What rules let through whatever the bytes say, as far as others look at bytes at the same ports.

    It is asked for a rule's peers and one port at a time. All pairs of them are never written out: a rule of some
    kilobytes has millions.
    """

    def __init__(self, selecting: Selecting) -> None:
        rules = [(p, rule) for p, section in selecting for rule in section.rules if rule.verdict != abi.Verdict.DENY]
        asked = {(rule.direction, spec) for _, rule in rules if rule.l7 is not None for spec in rule.ports or ()}
        self._opened: dict[tuple[abi.Direction, model.PortSpec], list[tuple[frozenset[model.Peer | None], str]]] = {}
        for policy, rule in rules if asked else ():
            places = {(rule.direction, spec) for spec in rule.ports or ()} & asked
            if rule.verdict == abi.Verdict.ALLOW and places:
                opening = frozenset(_who(rule)), key_of(policy, rule)
                for place in places:
                    self._opened.setdefault(place, []).append(opening)
        self._known: dict[tuple[int, ...], tuple[Opened, Who]] = {}  # by the objects, which stay where they are

    def split(self, rule: model.Rule, spec: model.PortSpec) -> tuple[Opened, Who]:
        """Return the peers of a rule that are let through at a port anyway, and the others."""
        among = self._opened.get((rule.direction, spec), [])
        who = _who(rule)
        if not among:
            return {}, who
        key = (id(rule.peers), *map(id, among))
        if key not in self._known:
            opened: dict[str, list[model.Peer | None]] = {}
            for peer in who:
                opened.setdefault(next((by for peers, by in among if peer in peers), ""), []).append(peer)
            others = tuple(opened.pop("", ()))
            self._known[key] = {by: tuple(peers) for by, peers in opened.items()}, others
        return self._known[key]


def _who(rule: model.Rule) -> Who:
    return rule.peers if rule.peers is not None else (None,)


def _rules(rule: model.Rule, key: str, section: model.Section, plain: Plain) -> list[ResolvedRule]:
    """Return the rule as it counts beside all others: one that looks inside the bytes looks at nothing where another
    lets the same peer through at the same ports anyway, or where its policy is to refuse nothing.
    """
    common = ResolvedRule(rule.direction, rule.verdict, rule.peers, rule.ports, key, section.audit, rule.l7)
    if rule.l7 is None:
        return [common]
    if rule.direction not in section.default_deny:
        return [dataclasses.replace(common, l7=None)]
    out, kept = [], []
    for spec in rule.ports or ():
        opened, others = plain.split(rule, spec)
        if not opened:
            kept.append(spec)
            continue
        for by, peers in opened.items():
            out.append(dataclasses.replace(common, peers=_peers(peers), ports=(spec,), l7=None, freed_by=by))
        if others:
            out.append(dataclasses.replace(common, peers=_peers(others), ports=(spec,)))
    return [*out, dataclasses.replace(common, ports=tuple(kept))] if kept else out


def _peers(who: Who) -> tuple[model.Peer, ...] | None:
    return None if None in who else tuple(peer for peer in who if peer is not None)
