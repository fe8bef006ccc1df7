"""Which denies are for all that a rule for bytes is for at a port, alone or together. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from control import model
from control.policy import covering, resolve
from control.policy.effort import Effort
from loader import abi

_MOST_PAIRS = 64  # of peers of a rule and of a deny in other words: more are not held against each other
_PARTS = 8  # of peers that are compared: they count as one comparison

_Peers = Mapping[int, model.Peer | None]  # by number


class _Deny(NamedTuple):
    """A rule that denies, under its key."""

    key: str
    section: model.Section
    rule: model.Rule
    peers: _Peers


class Denies:
    """The denies of all that selects the same pods. Built once, then only asked; asking raises effort.Enough."""

    def __init__(self, selecting: resolve.Selecting, effort: Effort) -> None:
        self._effort = effort
        self._numbers: dict[model.Peer | None, int] = {}
        self._numbered: dict[int, _Peers] = {}  # by the rule's id(): the snapshot keeps it
        self._denies = [
            _Deny(resolve.key_of(policy, rule), section, rule, self._peers(rule))
            for policy, section in selecting
            for rule in section.rules
            # What stands in for a policy that cannot be read says nothing of those that can.
            if rule.verdict == abi.Verdict.DENY and rule.peers != () and not policy.invalid
        ]
        self._denied: dict[tuple[int, int], frozenset[int]] = {}

    def of(self, section: model.Section, rule: model.Rule, spec: model.PortSpec) -> tuple[str, ...]:
        """Return the keys of the denies that are together for all peers of a rule at one of its ports: of one alone
        where there is one, nothing where there are none.
        """
        asked = self._peers(rule)
        around: list[tuple[_Deny, frozenset[int]]] = []
        for number, deny in enumerate(self._denies):
            self._effort.spend(1 + len(deny.rule.ports or ()))
            if not counts_for(deny.section, deny.rule, section, rule):
                continue
            if covering.is_none_of_ports(deny.rule.ports, spec):
                continue
            peers = self._denied_by(number, rule)
            if len(peers) == len(asked) and covering.any_of_ports(deny.rule.ports, spec):
                return (deny.key,)
            around.append((deny, peers))
        if not around:
            return ()
        self._effort.spend(len(asked) * len(around))
        alike = {tuple(number for number, (_, peers) in enumerate(around) if peer in peers) for peer in asked}
        by = dict[str, None]()
        for numbers in sorted(alike):
            if not (keys := self._at_port([around[number][0] for number in numbers], spec)):
                return ()
            by.update(dict.fromkeys(keys))
        return tuple(by)

    def _at_port(self, denies: Sequence[_Deny], spec: model.PortSpec) -> tuple[str, ...]:
        self._effort.spend(sum(1 + len(deny.rule.ports or ()) for deny in denies))
        for deny in denies:
            if covering.any_of_ports(deny.rule.ports, spec):
                return (deny.key,)
        at = [port for deny in denies for port in deny.rule.ports or ()]
        return tuple(deny.key for deny in denies) if covering.are_ports_together(at, spec) else ()

    def _denied_by(self, number: int, rule: model.Rule) -> frozenset[int]:
        """Return the peers of a rule that a deny means, by numbers of both: worked out once, not for each port."""
        if (number, id(rule)) not in self._denied:
            deny, asked = self._denies[number].peers, self._peers(rule)
            self._effort.spend(len(asked))
            found = asked.keys() & deny.keys()
            if self._denies[number].rule.peers is None:
                found = set(asked)
            elif len(found) < len(asked) and (len(asked) - len(found)) * len(deny) <= _MOST_PAIRS:
                others = [peer for peer in asked if peer not in found]
                parts = len(deny) * sum(covering.size(asked[other]) for other in others)
                parts += len(others) * sum(map(covering.size, deny.values()))
                self._effort.spend(len(others) * len(deny) + parts // _PARTS)
                found |= {o for o in others if any(covering.peers(peer, asked[o]) for peer in deny.values())}
            self._denied[number, id(rule)] = frozenset(found)
        return self._denied[number, id(rule)]

    def _peers(self, rule: model.Rule) -> _Peers:
        """Return the peers of a rule. They are looked at once: a selector may have thousands of conditions."""
        if id(rule) not in self._numbered:
            who = rule.peers if rule.peers is not None else (None,)
            self._numbered[id(rule)] = {self._numbers.setdefault(each, len(self._numbers)): each for each in who}
        return self._numbered[id(rule)]


def counts_for(section: model.Section, rule: model.Rule, asked: model.Section, asked_rule: model.Rule) -> bool:
    """Tell whether a rule says anything where another one counts: what is only audited says nothing of the rest."""
    return rule.direction == asked_rule.direction and section.audit <= asked.audit
