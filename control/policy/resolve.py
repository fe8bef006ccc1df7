"""What all policies together mean for one endpoint's identity: its defaults, and every rule with its peers as numbers.

Each endpoint's policy is worked out on its own, in each direction on its own. Nothing is decided here about which rule
wins: a deny beats an allow, an allow beats the default, and `compile` writes that down as ranks.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from control import identity, model
from loader import abi


@dataclasses.dataclass(frozen=True)
class Subject:
    """Whose policy is asked: an identity, and what its container ports are called."""

    identity: int
    ports: tuple[model.ContainerPort, ...] = ()


@dataclasses.dataclass(frozen=True)
class Default:
    """What happens where no rule matches; `rule` is the key of who says so, empty where no policy selects."""

    verdict: abi.Verdict
    rule: str = ""


@dataclasses.dataclass(frozen=True)
class ResolvedRule:
    """A rule as it counts for one subject. `peers` and `ports` None: any. `audit`: it only would, if enforced."""

    direction: abi.Direction
    verdict: abi.Verdict
    peers: frozenset[int] | None
    ports: tuple[model.PortSpec, ...] | None
    rule: str
    audit: bool = False


@dataclasses.dataclass(frozen=True)
class ResolvedPolicy:
    """All that is needed to judge any packet of a subject. `audits` are the defaults if audits were enforced."""

    subject: Subject
    defaults: Mapping[abi.Direction, Default]
    audits: Mapping[abi.Direction, Default]
    rules: tuple[ResolvedRule, ...]
    has_audit: bool = False


Selecting = list[tuple[model.Policy, model.Section]]
# The name of a container port -> identity -> what it is there.
NamedPorts = dict[str, dict[int, set[tuple[abi.Proto, int]]]]


def resolve(
    snapshot: model.Snapshot, identities: identity.Identities, subjects: Iterable[Subject]
) -> dict[Subject, ResolvedPolicy]:
    """Return the policy of each subject."""
    wanted = list(dict.fromkeys(subjects))
    selecting: dict[int, Selecting] = {subject.identity: [] for subject in wanted}
    for policy in sorted(snapshot.policies, key=lambda p: (p.namespace, p.name, p.kind)):
        for section in policy.sections:
            for number in identities.subjects(section.subject) & selecting.keys():
                selecting[number].append((policy, section))
    named = _named_ports(snapshot, identities)
    return {subject: _resolve_one(subject, selecting[subject.identity], identities, named) for subject in wanted}


def _resolve_one(
    subject: Subject, selecting: Selecting, identities: identity.Identities, named: NamedPorts
) -> ResolvedPolicy:
    enforced = [(policy, section) for policy, section in selecting if not section.audit]
    has_audit = len(enforced) < len(selecting)
    defaults = {direction: _default(enforced, direction) for direction in abi.Direction}
    audits = {direction: _default(selecting, direction) for direction in abi.Direction} if has_audit else defaults
    rules: list[ResolvedRule] = []
    for policy, section in selecting:
        for rule in section.rules:
            key = f"{policy.key}#{rule.path}"
            rules += _resolve_rule(rule, key, section.audit, subject, identities, named)
    ingress = abi.Direction.INGRESS
    if audits[ingress].verdict == abi.Verdict.DENY:
        # The node itself may always reach its pods, or no health probe would get through; a deny rule still beats it.
        only_audit = defaults[ingress].verdict != abi.Verdict.DENY
        host = frozenset((int(abi.ReservedIdentity.HOST),))
        rules.append(ResolvedRule(ingress, abi.Verdict.ALLOW, host, None, identity.LOCALHOST_RULE, only_audit))
    return ResolvedPolicy(subject, defaults, audits, tuple(rules), has_audit)


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


def _resolve_rule(
    rule: model.Rule,
    key: str,
    audit: bool,
    subject: Subject,
    identities: identity.Identities,
    named: NamedPorts,
) -> list[ResolvedRule]:
    peers = peers_of(rule.peers, identities)
    if peers == frozenset() or rule.ports == ():
        return []
    numbered = None if rule.ports is None else tuple(spec for spec in rule.ports if not spec.name)
    out = []
    if numbered is None or numbered:
        out.append(ResolvedRule(rule.direction, rule.verdict, peers, numbered, key, audit))
    for spec in rule.ports or ():
        if not spec.name:
            continue
        if rule.direction == abi.Direction.INGRESS:
            found = {(port.protocol, port.port) for port in subject.ports if port.name == spec.name}
            if specs := _specs(spec, found):
                out.append(ResolvedRule(rule.direction, rule.verdict, peers, specs, key, audit))
            continue
        for number, found in sorted(named.get(spec.name, {}).items()):
            if (peers is None or number in peers) and (specs := _specs(spec, found)):
                out.append(ResolvedRule(rule.direction, rule.verdict, frozenset((number,)), specs, key, audit))
    return out


def _specs(spec: model.PortSpec, found: set[tuple[abi.Proto, int]]) -> tuple[model.PortSpec, ...]:
    """Return the numbers that a port name stands for; one of another protocol is not meant."""
    return tuple(model.PortSpec(proto, port, port) for proto, port in sorted(found) if proto == spec.proto)


def peers_of(wanted: tuple[model.Peer, ...] | None, identities: identity.Identities) -> frozenset[int] | None:
    """Return the identities that any of the peers means; None means any."""
    if wanted is None:
        return None
    found: set[int] = set()
    for peer in wanted:
        selected = identities.select(peer)
        if selected is None:
            return None
        found |= selected
    return frozenset(found)


def _named_ports(snapshot: model.Snapshot, identities: identity.Identities) -> NamedPorts:
    out: NamedPorts = {}
    for workload in snapshot.workloads:
        for port in workload.ports:
            of_name = out.setdefault(port.name, {})
            of_name.setdefault(identities.of_workload[str(workload)], set()).add((port.protocol, port.port))
    return out
