"""Which rules for bytes see any, port by port, beside all other rules for the same pods. Pure.

A rule whose peers another one lets through at the same ports looks at nothing there. What it lets through then comes
before the rules for bytes of the same pods that are for some of these peers and ports, so these see nothing either: see
resolve.py and policy_set.py. Here the same pods are those that are selected in the same words.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from control import model
from control.policy import apart, covering, resolve
from loader import abi

MOST = 50_000  # comparisons for one snapshot: what would take more counts as if it sees bytes, or frees others

_MOST_PAIRS = 64  # of peers of a rule and of a deny in other words: more are not held against each other


class _Enough(Exception):
    """There were MOST comparisons."""


class _Effort:
    def __init__(self) -> None:
        self._left = MOST

    def spend(self, comparisons: int) -> None:
        """Count comparisons that are about to be made; raises _Enough."""
        self._left -= comparisons
        if self._left < 0:
            raise _Enough


class Why(enum.Enum):
    """Why nobody looks at bytes: rules let them through, those are of specs that refuse nothing, or a rule denies."""

    LET_THROUGH = enum.auto()
    REFUSES_NOTHING = enum.auto()
    DENIED = enum.auto()


class Look(NamedTuple):
    """A rule for bytes at one of its ports. `by`: the keys of those that decide there whatever the bytes say; none
    where it sees some. `frees`: bytes at which others would look are let through for there is this rule.
    """

    spec: model.PortSpec
    by: tuple[str, ...] = ()
    why: Why = Why.LET_THROUGH
    frees: bool = False


class _Part(NamedTuple):
    """A rule for bytes at one of its ports as it is resolved: the peers that are let through whatever they say, and the
    others.
    """

    policy: model.Policy
    section: model.Section
    rule: model.Rule
    spec: model.PortSpec
    opened: resolve.Opened
    others: resolve.Who


def looks(snapshot: model.Snapshot, frees: bool = False) -> Mapping[int, Sequence[Look]]:
    """Return every rule for bytes at each of its ports, by the rule's id(): the snapshot keeps it. `frees`: this is
    asked, too.
    """
    together: dict[model.Selector, list[tuple[model.Policy, model.Section]]] = {}
    for policy in sorted(snapshot.policies, key=resolve.order):
        for section in policy.sections:
            if not section.of_nodes:
                together.setdefault(section.subject, []).append((policy, section))
    groups = [(selecting, list(_parts(selecting))) for selecting in together.values()]
    effort = _Effort()
    asks = _Asks((part for _, parts in groups for part in parts if part.others), effort)
    out: dict[int, list[Look]] = {}
    for selecting, parts in groups:
        beside = _Beside(selecting, parts, effort)
        for part in parts:
            look = Look(part.spec, *beside.decide(part))
            if frees and look.by and part.opened:
                look = look._replace(frees=asks.are_met_by(part))
            out.setdefault(id(part.rule), []).append(look)
    return out


def _parts(selecting: resolve.Selecting) -> Iterator[_Part]:
    if not any(rule.l7 is not None for _, section in selecting for rule in section.rules):
        return
    # As resolve.together has it: what is only audited opens nothing that is enforced.
    enforced = [(policy, section) for policy, section in selecting if not section.audit]
    plain = resolve.Plain(enforced), resolve.Plain(selecting if len(enforced) < len(selecting) else ())
    for policy, section in selecting:
        for rule in section.rules:
            if rule.l7 is None or rule.peers == ():
                continue
            refuses_nothing = rule.direction not in section.default_deny
            itself = {resolve.key_of(policy, rule): (None,) if rule.peers is None else rule.peers}
            for spec in rule.ports or ():
                found = (itself, ()) if refuses_nothing else plain[section.audit].split(rule, spec)
                yield _Part(policy, section, rule, spec, *found)


Shared = tuple[_Part, list[model.PortSpec]]


def _shared(parts: Iterable[_Part], whom: Callable[[_Part], object]) -> list[Shared]:
    """Return parts of the same peers once, with the ports of all: a rule of some kilobytes has millions of pairs."""
    out: dict[tuple[int, int, abi.Direction], Shared] = {}
    for part in parts:
        key = id(whom(part)), id(part.section), part.rule.direction
        out.setdefault(key, (part, []))[1].append(part.spec)
    return list(out.values())


class _Beside:
    """All that is for the same pods: what it lets through, and what it denies."""

    def __init__(self, selecting: resolve.Selecting, parts: Sequence[_Part], effort: _Effort) -> None:
        self._effort = effort
        self._free: dict[model.Peer | None, list[tuple[_Part, list[model.PortSpec], str]]] = {}
        self._idle = set[str]()
        for part, specs in _shared((part for part in parts if part.opened), lambda part: part.opened):
            if part.rule.direction not in part.section.default_deny:
                self._idle.add(resolve.key_of(part.policy, part.rule))
            for by, peers in part.opened.items():
                for peer in peers:
                    self._free.setdefault(peer, []).append((part, specs, by))
        self._denies = [
            (resolve.key_of(policy, rule), section, rule, frozenset(rule.peers or ()))
            for policy, section in (selecting if parts else ())
            for rule in section.rules
            # What stands in for a policy that cannot be read says nothing of those that can.
            if rule.verdict == abi.Verdict.DENY and not policy.invalid
        ]

    def decide(self, part: _Part) -> tuple[tuple[str, ...], Why]:
        """Return who decides about a part whatever the bytes say, and why; nobody where they are looked at."""
        by = dict.fromkeys(part.opened)
        try:
            if denying := self._denying(part):
                return (denying,), Why.DENIED
            for peer in part.others:
                if not (freeing := self._freeing(peer, part)):
                    break
                by[freeing] = None
            else:
                return tuple(by), Why.REFUSES_NOTHING if by.keys() <= self._idle else Why.LET_THROUGH
        except _Enough:
            pass
        return (), Why.LET_THROUGH

    def _freeing(self, peer: model.Peer | None, part: _Part) -> str:
        for who in (peer, None):
            for free, specs, by in self._free.get(who, ()):
                self._effort.spend(len(specs))
                if _counts_for(free.section, free.rule, part) and covering.any_of_ports(specs, part.spec):
                    return by
        return ""

    def _denying(self, part: _Part) -> str:
        for key, section, rule, peers in self._denies:
            self._effort.spend(1 + len(rule.ports or ()))
            if not _counts_for(section, rule, part):
                continue
            if covering.any_of_ports(rule.ports, part.spec) and self._means_all(rule, peers, part):
                return key
        return ""

    def _means_all(self, deny: model.Rule, peers: frozenset[model.Peer], part: _Part) -> bool:
        """Tell whether a deny, whose peers are given as a set, too, is for all that a part is for."""
        asked = part.rule.peers or (None,)
        self._effort.spend(len(asked))
        if deny.peers is None or peers.issuperset(asked):
            return True
        if len(asked) * len(deny.peers) > _MOST_PAIRS:
            return False
        self._effort.spend(len(asked) * len(deny.peers))
        return all(any(covering.peers(peer, each) for peer in deny.peers) for each in asked)


class _Asks:
    """What bytes are looked at, for any pods."""

    def __init__(self, parts: Iterable[_Part], effort: _Effort) -> None:
        self._asks, self._effort = _shared(parts, lambda part: part.others), effort

    def are_met_by(self, part: _Part) -> bool:
        """Tell whether any may be of what a part lets through, so that nobody looks at it any more."""
        try:
            return any(self._is_met(ask, specs, part) for ask, specs in self._asks)
        except _Enough:
            return True

    def _is_met(self, ask: _Part, specs: Sequence[model.PortSpec], part: _Part) -> bool:
        self._effort.spend(len(specs))
        if not _counts_for(part.section, part.rule, ask) or all(apart.ports(part.spec, spec) for spec in specs):
            return False
        one, other = part.section.subject, ask.section.subject
        if one is not other and apart.selectors(one, other):
            return False
        opened = [peer for peers in part.opened.values() for peer in peers]
        self._effort.spend(len(opened) * len(ask.others))
        return any(not apart.peers(peer, asked) for peer in opened for asked in ask.others)


def _counts_for(section: model.Section, rule: model.Rule, part: _Part) -> bool:
    """Tell whether a rule says anything where another one counts: what is only audited says nothing of the rest."""
    return rule.direction == part.rule.direction and section.audit <= part.section.audit
