"""References of rules to other objects, written out: CIDR groups and services. Pure.

What is behind them is then a peer like any other. A reference to what does not exist means nobody.
"""

import dataclasses
import ipaddress
import itertools
from collections.abc import Iterable

from control import model
from control.policy import selectors

MAX_MEANT = 250_000  # peers that all references of a snapshot may come to together: a thousand rules, a thousand ranges


_TOO_MUCH = f"rules refer to more than {MAX_MEANT:,} ranges of CIDR groups and peers behind services"


@dataclasses.dataclass(frozen=True)
class Referents:
    """What rules may refer to, by name."""

    groups: tuple[model.CidrGroup, ...] = ()
    services: tuple[model.Service, ...] = ()
    audited: frozenset[str] = frozenset()  # namespaces whose policies only tell what they would refuse
    _meant: dict[model.Peer, tuple[model.Peer, ...]] = dataclasses.field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, snapshot: model.Snapshot) -> "Referents":
        return cls(
            snapshot.cidr_groups, snapshot.services, frozenset(n.name for n in snapshot.namespaces if n.audit)
        )  # fmt: skip


def written_out(snapshot: model.Snapshot) -> model.Snapshot:
    """Return the snapshot with policies that refer to nothing; a second time changes nothing."""
    known = Referents.of(snapshot)
    policies = []
    count = 0
    for policy in snapshot.policies:
        policies.append(policy_written_out(policy, known))
        if policies[-1] is not policy:
            count += sum(len(rule.peers or ()) for section in policies[-1].sections for rule in section.rules)
        if count > MAX_MEANT:
            raise model.TooMuch(_TOO_MUCH)
    same = all(new is old for new, old in zip(policies, snapshot.policies, strict=True))
    return snapshot if same else dataclasses.replace(snapshot, policies=tuple(policies))


def with_audits(snapshot: model.Snapshot) -> model.Snapshot:
    """Return the snapshot with the policies of namespaces in audit mode in it, too, and all references as they are."""
    audited = Referents.of(snapshot).audited
    if not audited:
        return snapshot
    policies = (
        dataclasses.replace(policy, sections=tuple(dataclasses.replace(s, audit=True) for s in policy.sections))
        if policy.namespace in audited
        else policy
        for policy in snapshot.policies
    )
    return dataclasses.replace(snapshot, policies=tuple(policies))


def policy_written_out(policy: model.Policy, known: Referents) -> model.Policy:
    """Return policy without references; the same object where it has none."""
    sections = tuple(_section(section, known, policy.namespace in known.audited) for section in policy.sections)
    same = all(new is old for new, old in zip(sections, policy.sections, strict=True))
    return policy if same else dataclasses.replace(policy, sections=sections)


def _section(section: model.Section, known: Referents, audited: bool) -> model.Section:
    rules = []
    count = 0
    for rule in section.rules:
        rules.append(_rule(rule, known))
        if rules[-1] is not rule:
            count += len(rules[-1].peers or ())
        if count > MAX_MEANT:
            raise model.TooMuch(_TOO_MUCH)
    audit = section.audit or audited
    if audit == section.audit and all(new is old for new, old in zip(rules, section.rules, strict=True)):
        return section
    return dataclasses.replace(section, rules=tuple(rules), audit=audit)


def _rule(rule: model.Rule, known: Referents) -> model.Rule:
    if not any(isinstance(peer, model.CidrGroupPeer | model.ServicePeer) for peer in rule.peers or ()):
        return rule
    peers = dict.fromkeys(itertools.chain.from_iterable(_meant(peer, known) for peer in rule.peers or ()))
    return dataclasses.replace(rule, peers=tuple(peers))


def _meant(peer: model.Peer, known: Referents) -> tuple[model.Peer, ...]:
    """Return whom a peer means; remembered, for hundreds of rules may refer to the same."""
    found = known._meant.get(peer)
    if found is None:
        found = known._meant[peer] = tuple(_looked_up(peer, known))
    return found


def _looked_up(peer: model.Peer, known: Referents) -> Iterable[model.Peer]:
    if isinstance(peer, model.CidrGroupPeer):
        for group in known.groups:
            if _is_group(group, peer):
                # A range that lies inside an exception as a whole is nobody.
                within = (p for p in group.prefixes if not any(wide.contains(p) for wide in peer.excepts))
                yield from (_without(prefix, peer.excepts) for prefix in within)
    elif isinstance(peer, model.ServicePeer):
        for service in known.services:
            if _is_service(service, peer):
                yield from _behind(service)
    else:
        yield peer


def is_there(peer: model.CidrGroupPeer | model.ServicePeer, known: Referents) -> bool:
    """Tell whether there is anything that a peer refers to."""
    if isinstance(peer, model.CidrGroupPeer):
        return any(_is_group(group, peer) for group in known.groups)
    return any(_is_service(service, peer) for service in known.services)


def _is_group(group: model.CidrGroup, peer: model.CidrGroupPeer) -> bool:
    if peer.selector is None:
        return group.name == peer.name
    return selectors.holds(peer.selector, [f"k8s:{key}={value}" for key, value in group.labels.items()])


def _is_service(service: model.Service, peer: model.ServicePeer) -> bool:
    if peer.namespace and service.namespace != peer.namespace:
        return False
    if peer.selector is None:
        return service.name == peer.name
    return selectors.holds(peer.selector, [f"k8s:{key}={value}" for key, value in service.labels.items()])


def _without(prefix: model.Prefix, excepts: tuple[model.Prefix, ...]) -> model.CidrPeer:
    return model.CidrPeer(prefix, tuple(inner for inner in excepts if prefix.contains(inner)))


def _behind(service: model.Service) -> Iterable[model.Peer]:
    """Yield the pods that a service selects, else its endpoints' addresses, which can be no pods then."""
    if service.selector:
        wanted = tuple(
            model.Requirement("k8s", key, model.Operator.IN, (value,)) for key, value in service.selector.items()
        )
        yield model.Selector(wanted).with_requirements(selectors.in_namespace(service.namespace))
        return
    for text in service.endpoints:
        address = ipaddress.ip_address(text)
        yield model.CidrPeer(model.Prefix(address.version, int(address), address.max_prefixlen))
