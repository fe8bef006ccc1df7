"""Rules for DNS names of which the proxy learns no address: it learns from the answers to pods' queries that it sees.

It sees those that a rule for DNS queries leads to it, of the pods that the rule selects, at a port of DNS servers; and
answers only to what such a rule lets through.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from control import model
from control.policy import apart, dnsnames, looking, refer, resolve
from control.source import pods, remarks, unserved
from loader import abi

UNSEEN = "no rule for DNS queries (rules.dns at port 53, egress) has an effect for"
NOT_LEARNED = "so the proxy sees none of theirs and learns no address of a name from them"
REFUSED = "no rule for DNS queries of"
_PORTS = frozenset((53, 5353))  # where servers listen: behind a service of port 53, those of OpenShift at the other
_MOST = 50_000  # comparisons of names, and of selectors where no pods are known; beyond that, all are taken for seen
_MOST_NAMES = 5  # in a message


def names(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each rule that means DNS names and selects pods whose queries for them the proxy does not
    see, as far as that is plain to see: pods and other rules may be in other files.
    """
    snapshot = refer.with_audits(snapshot)
    naming = list(_naming(snapshot))
    if not naming:
        return
    seen = _Seen(snapshot)
    for policy, section, rule in naming:
        wanted = [peer for peer in rule.peers or () if isinstance(peer, model.NamePeer)]
        whom, refused = seen.lacking(section.subject, wanted)
        if not whom:
            continue
        message = f"{UNSEEN} {whom}, {NOT_LEARNED}"
        if refused:
            shown = ", ".join(map(dnsnames.show, refused[:_MOST_NAMES])) + (", ..." if refused[_MOST_NAMES:] else "")
            message = f"{REFUSED} {whom} lets {shown} through, so the proxy learns no address of it from them"
        yield remarks.of_policy(policy, rule.path, rule.source, message)


def _naming(snapshot: model.Snapshot) -> Iterator[tuple[model.Policy, model.Section, model.Rule]]:
    for policy in snapshot.policies:
        for section in (section for section in policy.sections if not section.of_nodes):
            for rule, *_ in remarks.items(section):
                if any(isinstance(peer, model.NamePeer) for peer in rule.peers or ()):
                    yield policy, section, rule


class _Asked(NamedTuple):
    """Whom rules for DNS queries select, in words and as declared pods."""

    subjects: frozenset[model.Selector]
    pods: int


class _Seen:
    """Whose queries the proxy sees, and for what."""

    def __init__(self, snapshot: model.Snapshot) -> None:
        self._known = pods.Pods(snapshot)
        self._by_name: dict[model.NamePeer, set[model.Selector]] = {}  # that a rule lets through
        for subject, let in _asking(snapshot):
            for name in let:
                self._by_name.setdefault(name, set()).add(subject)
        self._select = functools.cache(self._known.select)
        self._asked = self._together(self._by_name)
        self._letting = functools.cache(self._find_letting)
        self._left = _MOST

    def lacking(self, subject: model.Selector, wanted: list[model.NamePeer]) -> tuple[str, list[model.NamePeer]]:
        """Return whose queries are not seen, in words, nothing where all are; and for which names, if for some only."""
        meant = self._select(subject)
        if self._lacks(subject, meant, self._asked):
            return "some of these pods" if meant & self._asked.pods else "these pods", []
        refused = [name for name in wanted if self._lacks(subject, meant, self._letting(name))]
        if not refused:
            return "", []
        any_let = any(meant & self._letting(name).pods for name in refused)
        return "some of these pods" if any_let else "these pods", refused

    def _lacks(self, subject: model.Selector, meant: int, asked: _Asked) -> bool:
        """Tell whether there are pods of a selector that none of others selects."""
        if meant:
            return bool(meant & ~asked.pods)
        # Where no such pod is declared, whoever may be meant by both is.
        if subject in asked.subjects:
            return False
        self._left -= len(asked.subjects)
        return self._left >= 0 and all(apart.selectors(subject, other) for other in asked.subjects)

    def _find_letting(self, wanted: model.NamePeer) -> _Asked:
        self._left -= len(self._by_name)
        if self._left < 0:
            return self._asked
        return self._together(let for let in self._by_name if _may_be_same(let, wanted))

    def _together(self, let: Iterable[model.NamePeer]) -> _Asked:
        subjects = frozenset(subject for name in let for subject in self._by_name[name])
        return _Asked(subjects, functools.reduce(int.__or__, map(self._select, subjects), 0))


def _may_be_same(one: model.NamePeer, other: model.NamePeer) -> bool:
    """Tell whether a name may be meant by both; of two patterns that is not known."""
    if one.name:
        return dnsnames.matches(other, one.name)
    return dnsnames.matches(one, other.name) if other.name else True


def _asking(snapshot: model.Snapshot) -> Iterator[tuple[model.Selector, tuple[model.NamePeer, ...]]]:
    """Yield each rule that has the proxy see DNS queries: of whom, and what it lets through."""
    looks, ports = looking.looks(snapshot), Ports(snapshot)
    for policy in snapshot.policies:
        for section in policy.sections:
            for rule in section.rules:
                if let := _let(section, rule, looks, ports):
                    yield section.subject, let


def is_seen(selecting: resolve.Selecting, snapshot: model.Snapshot) -> bool:
    """Tell whether the proxy sees any DNS query of a pod, given what selects it."""
    looks, ports = looking.of(selecting), Ports(snapshot)
    return any(_let(section, rule, looks, ports) for _, section in selecting for rule in section.rules)


def _let(
    section: model.Section, rule: model.Rule, looks: Mapping[int, Sequence[looking.Look]], ports: "Ports"
) -> tuple[model.NamePeer, ...]:
    """Return the names for which a rule has the proxy see DNS queries, as far as that is not plainly none."""
    if section.audit or rule.direction != abi.Direction.EGRESS or not (rule.l7 and rule.l7.dns):
        return ()
    if not any(not look.by and ports.has(look.spec) for look in looks.get(id(rule), ())):
        return ()
    return rule.l7.dns if rule.peers is None or any(map(_may_answer, rule.peers)) else ()


def _may_answer(peer: model.Peer) -> bool:
    # An address that is known by its name alone is learned from another server's answer.
    return not isinstance(peer, model.NamePeer) and not unserved.is_nobody(peer)


class Ports:
    """Where DNS servers listen: rules are for ports behind services."""

    def __init__(self, snapshot: model.Snapshot) -> None:
        targets = {port.target_port for service in snapshot.services for port in service.ports if port.port == 53}
        self._names: dict[str, set[int]] = {}
        self._numbers = set(_PORTS) | {target for target in targets if isinstance(target, int)}
        for workload in snapshot.workloads:
            for port in workload.ports:
                if port.name in targets:
                    self._numbers.add(port.port)
                if not workload.host_network:  # in rules a name is none of its
                    self._names.setdefault(port.name, set()).add(port.port)

    def has(self, spec: model.PortSpec) -> bool:
        """Tell whether a server may listen at a port of some."""
        if spec.name:  # of pods that are not declared it may be any
            return spec.name not in self._names or bool(self._names[spec.name] & self._numbers)
        return any(spec.first <= number <= spec.last for number in self._numbers)
