"""What only rule sets together can tell of a port: that two of them ask it to speak two protocols.

Within one rule set that is a mistake; here it is told only where both select the same endpoints in the same words.
"""

from collections.abc import Iterator
from typing import NamedTuple

from control import model
from control.policy import words
from control.source import remarks, unserved
from loader import abi

_HTTP, _SERVER_NAMES = "rules.http", "serverNames"
# The number of whom it selects, in which direction, and the port.
_Place = tuple[int, abi.Direction, model.PortSpec]


class _Asked(NamedTuple):
    """The kind of rules, the number of their peers, and who asks."""

    kind: str
    peers: int
    policy: model.Policy
    section: model.Section


class _Numbers:
    """Numbers of what is equal. Each object is looked at once: a selector may have thousands of conditions, and what
    is numbered is kept by the snapshot.
    """

    def __init__(self) -> None:
        self._equal: dict[object, int] = {}
        self._same: dict[int, int] = {}

    def __call__(self, of: object) -> int:
        if id(of) not in self._same:
            self._same[id(of)] = self._equal.setdefault(of, len(self._equal))
        return self._same[id(of)]


def protocols(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each policy that asks another protocol of a port than a rule set before it."""
    first: dict[_Place, dict[str, _Asked]] = {}
    subjects, peers = _Numbers(), _Numbers()
    for policy in snapshot.policies:
        clash = None
        for section, rule, kind in _asking(policy):
            subject, asked = subjects(section.subject), _Asked(kind, peers(rule.peers), policy, section)
            for spec in rule.ports or ():
                seen = first.setdefault((subject, rule.direction, spec), {})
                others = ((rule, spec, kind, other) for other in seen.values() if _differ(asked, other))
                clash = clash or next(others, None)
                seen.setdefault(kind, asked)
        if clash is not None:
            at, spec, kind, other = clash
            whose = remarks.shown(other.policy) if other.policy is not policy else other.section.path
            message = (
                f"{kind} on port {words.port_word(spec)}, for which {whose} has {other.kind}: "
                "a port speaks one protocol (one kind of rules for the same endpoints and port)"
            )
            yield remarks.of_policy(policy, at.path, at.source, message)


def _asking(policy: model.Policy) -> Iterator[tuple[model.Section, model.Rule, str]]:
    for section in policy.sections:
        for rule in section.rules:
            if kind := unserved.kind(rule.l7):
                yield section, rule, kind


def _differ(one: _Asked, other: _Asked) -> bool:
    """Tell whether two rule sets clash. Server names and HTTP go together, for different peers."""
    if one.kind == other.kind or one.section is other.section:
        return False
    return {one.kind, other.kind} != {_HTTP, _SERVER_NAMES} or one.peers == other.peers
