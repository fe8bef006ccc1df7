"""Which rules for bytes see any, port by port, beside all other rules for the same pods. Pure.

A rule whose peers another one lets through at the same ports looks at nothing there. What it lets through then comes
before the rules for bytes of the same pods that are for some of these peers and ports, so these see nothing either: see
resolve.py and policy_set.py. Here the same pods are those that are selected in the same words.
"""

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from control import model
from control.policy import apart, covering, denying, resolve
from control.policy.effort import Effort, Enough
from loader import abi

MOST = 50_000  # comparisons for one snapshot: what would take more counts as if it sees bytes, or frees others


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
    return _looks(together.values(), frees)


def of(selecting: resolve.Selecting) -> Mapping[int, Sequence[Look]]:
    """Return the same of sections, in order, that select the same pods in whatever words."""
    return _looks([selecting])


def _looks(several: Iterable[resolve.Selecting], frees: bool = False) -> Mapping[int, Sequence[Look]]:
    groups = [(selecting, list(_parts(selecting))) for selecting in several]
    effort = Effort(MOST)
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

    def __init__(self, selecting: resolve.Selecting, parts: Sequence[_Part], effort: Effort) -> None:
        self._effort = effort
        self._free: dict[model.Peer | None, list[tuple[_Part, list[model.PortSpec], str]]] = {}
        self._idle = set[str]()
        for part, specs in _shared((part for part in parts if part.opened), lambda part: part.opened):
            if part.rule.direction not in part.section.default_deny:
                self._idle.add(resolve.key_of(part.policy, part.rule))
            for by, peers in part.opened.items():
                for peer in peers:
                    self._free.setdefault(peer, []).append((part, specs, by))
        self._denies = denying.Denies(selecting if parts else (), effort)

    def decide(self, part: _Part) -> tuple[tuple[str, ...], Why]:
        """Return who decides about a part whatever the bytes say, and why; nobody where they are looked at."""
        by = dict.fromkeys(part.opened)
        try:
            if by_denies := self._denies.of(part.section, part.rule, part.spec):
                return by_denies, Why.DENIED
            for peer in part.others:
                if not (freeing := self._freeing(peer, part)):
                    break
                by[freeing] = None
            else:
                return tuple(by), Why.REFUSES_NOTHING if by.keys() <= self._idle else Why.LET_THROUGH
        except Enough:
            pass
        return (), Why.LET_THROUGH

    def _freeing(self, peer: model.Peer | None, part: _Part) -> str:
        for who in (peer, None):
            for free, specs, by in self._free.get(who, ()):
                self._effort.spend(len(specs))
                counts = denying.counts_for(free.section, free.rule, part.section, part.rule)
                if counts and covering.any_of_ports(specs, part.spec):
                    return by
        return ""


class _Asks:
    """What bytes are looked at, for any pods."""

    def __init__(self, parts: Iterable[_Part], effort: Effort) -> None:
        self._asks, self._effort = _shared(parts, lambda part: part.others), effort

    def are_met_by(self, part: _Part) -> bool:
        """Tell whether any may be of what a part lets through, so that nobody looks at it any more."""
        try:
            return any(self._is_met(ask, specs, part) for ask, specs in self._asks)
        except Enough:
            return True

    def _is_met(self, ask: _Part, specs: Sequence[model.PortSpec], part: _Part) -> bool:
        self._effort.spend(len(specs))
        counts = denying.counts_for(part.section, part.rule, ask.section, ask.rule)
        if not counts or covering.is_none_of_ports(specs, part.spec):
            return False
        one, other = part.section.subject, ask.section.subject
        if one is not other and apart.selectors(one, other):
            return False
        opened = [peer for peers in part.opened.values() for peer in peers]
        self._effort.spend(len(opened) * len(ask.others))
        return any(not apart.peers(peer, asked) for peer in opened for asked in ask.others)
