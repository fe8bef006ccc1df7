"""Where rules for two kinds of bytes meet: a port speaks one protocol, so neither lets anything through there. Pure."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from control import model
from control.policy import apart, covering, resolve
from loader import abi

MOST = 500_000  # steps of comparing for one snapshot: of what would take more it is not said that it meets


class Asking(NamedTuple):
    """A rule for one kind of bytes, and who has it."""

    kind: str
    policy: model.Policy
    section: model.Section
    rule: model.Rule


_Way = tuple[bool, abi.Direction]


_FIELDS = dict(zip(model.KINDS, ("rules.http", "rules.dns", "serverNames"), strict=True))


def kind(asked: model.L7Rules | None) -> str:
    """Return the field that asks of bytes what a rule asks; nothing where it asks nothing, or lets nothing through."""
    return _FIELDS.get(asked.kind, "") if asked is not None else ""


def asking(policy: model.Policy) -> Iterator[Asking]:
    """Yield the rules of a policy that let some bytes through."""
    for section in policy.sections:
        for rule in section.rules:
            if (asked := kind(rule.l7)) and rule.peers != ():
                yield Asking(asked, policy, section, rule)


class Kinds:
    """The rules for bytes of a snapshot, by ports. Built once, then only asked."""

    def __init__(self, snapshot: model.Snapshot) -> None:
        self._at: dict[_Way, dict[model.PortSpec, list[Asking]]] = {}
        self._kinds: dict[_Way, set[str]] = {}
        for policy in snapshot.policies:
            for each in asking(policy):
                self._kinds.setdefault(_way(each), set()).add(each.kind)
                for spec in each.rule.ports or ():
                    self._at.setdefault(_way(each), {}).setdefault(spec, []).append(each)
        self._called: dict[str, set[tuple[abi.Proto, int]]] = {}
        for port in (port for w in snapshot.workloads if not w.host_network for port in w.ports):
            self._called.setdefault(port.name, set()).add((port.protocol, port.port))
        self._around: dict[tuple[_Way, model.PortSpec], list[model.PortSpec]] = {}
        # By two rules' id()s: the snapshot keeps them.
        self._met: dict[tuple[int, int], bool] = {}
        self._means: dict[tuple[int, int], bool] = {}
        self._left = MOST

    def meeting(self, one: Asking) -> Iterator[tuple[model.PortSpec, Asking]]:
        """Yield the rules for other kinds that may be for some of the same pods, peers and ports, with the port of the
        given one.
        """
        way = _way(one)
        for spec in (one.rule.ports or ()) if len(self._kinds[way]) > 1 else ():
            if self._left < 0:
                return
            for other in (other for at in self._meeting_ports(way, spec) for other in self._at[way][at]):
                if self._left < 0:
                    return
                if other.kind != one.kind and self._meet(one, other):
                    yield spec, other

    def _meeting_ports(self, way: _Way, spec: model.PortSpec) -> list[model.PortSpec]:
        if (way, spec) not in self._around:
            self._left -= len(self._at[way])
            self._around[way, spec] = [at for at in self._at[way] if self._may_be_same(spec, at)]
        return self._around[way, spec]

    def _may_be_same(self, one: model.PortSpec, other: model.PortSpec) -> bool:
        """Tell whether two ports meet; a name means what a declared workload calls so, or nothing would be apart."""
        if apart.ports(one, other):
            return False
        if one.name == other.name:
            return True
        return any(not apart.ports(each, also) for each in self._numbers(one) for also in self._numbers(other))

    def _numbers(self, spec: model.PortSpec) -> list[model.PortSpec]:
        if not spec.name:
            return [spec]
        return [model.PortSpec(proto, number, number) for proto, number in sorted(self._called.get(spec.name, ()))]

    def _meet(self, one: Asking, other: Asking) -> bool:
        """Tell whether two rules may be for some of the same pods and peers; they are asked for at each port."""
        both = min(id(one.rule), id(other.rule)), max(id(one.rule), id(other.rule))
        if both not in self._met:
            self._met[both] = self._may_meet(one.section.subject, other.section.subject) and self._peers_meet(
                one.rule.peers or (None,), other.rule.peers or (None,)
            )
        return self._met[both]

    def _peers_meet(self, own: resolve.Who, others: resolve.Who) -> bool:
        among = itertools.takewhile(lambda peer: self._left >= 0, own)
        return own == others or any(self._may_meet(peer, also) for peer in among for also in others)

    def _may_meet(self, one: model.Peer | None, other: model.Peer | None) -> bool:
        self._left -= _size(one) * _size(other)
        return self._left >= 0 and not apart.peers(one, other)

    def holds(self, one: Asking, other: Asking, spec: model.PortSpec) -> bool:
        """Tell whether the first is enforced for all that the second is for at one of its ports."""
        if one.section.audit or one.rule.direction not in one.section.default_deny:
            return False
        if not covering.any_of_ports(one.rule.ports or (), spec):
            return False
        both = id(one.rule), id(other.rule)
        if both not in self._means:
            is_around = covering.selectors(one.section.subject, other.section.subject)
            self._means[both] = is_around and self._means_all(one.rule.peers, other.rule.peers)
        return self._means[both]

    def _means_all(self, peers: tuple[model.Peer, ...] | None, asked: tuple[model.Peer, ...] | None) -> bool:
        """Tell whether some peers mean each of others."""
        if peers is None or peers == asked or (asked and frozenset(peers).issuperset(asked)):
            return True
        each = asked or (None,)
        self._left -= len(peers) * len(each)
        return self._left >= 0 and all(any(covering.peers(one, other) for one in peers) for other in each)

    def may_free(self, section: model.Section, rule: model.Rule, each: Asking) -> bool:
        """Tell whether a rule may let through whatever the bytes say of some that another one is for; so it is said,
        too, where that would take too long.
        """
        peers, others = rule.peers or (None,), each.rule.peers or (None,)
        self._left -= 1 + len(peers) * len(others)
        return self._left < 0 or (
            (section.of_nodes, rule.direction) == _way(each)
            and not apart.selectors(section.subject, each.section.subject)
            and (rule.ports is None or any(not apart.ports(o, e) for o in rule.ports for e in each.rule.ports or ()))
            and any(not apart.peers(one, other) for one in peers for other in others)
        )


def shut(snapshot: model.Snapshot) -> frozenset[int]:
    """Return the id() of each rule that lets nothing through, for one for another kind of bytes is for all whom it is
    for; not where that is not plain to see. The snapshot keeps the rules.
    """
    known = Kinds(snapshot)
    plain = [
        (section, rule)
        for policy in snapshot.policies
        for section in policy.sections
        for rule in section.rules
        if rule.verdict != abi.Verdict.DENY and (rule.l7 is None or rule.direction not in section.default_deny)
    ]
    found = set[int]()
    for policy in snapshot.policies:
        for each in asking(policy):
            holding: dict[model.PortSpec, bool] = {}
            for spec, other in known.meeting(each):
                holding[spec] = holding.get(spec, False) or known.holds(other, each, spec)
            is_held = len(holding) == len(set(each.rule.ports or ())) and all(holding.values())
            if is_held and not any(known.may_free(section, rule, each) for section, rule in plain):
                found.add(id(each.rule))
    return frozenset(found)


def _way(each: Asking) -> _Way:
    return each.section.of_nodes, each.rule.direction


def _size(peer: model.Peer | None) -> int:
    if not isinstance(peer, model.Selector):
        return 1
    return 1 + sum(1 + len(requirement.values) for requirement in peer.requirements)
