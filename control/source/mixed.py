"""What only rule sets together can tell of a port: that two of them ask it to speak two protocols.

Within one rule set that is a mistake where both are for the same peers and port in the same words. Here it is told of
all that may meet; of what selects the same endpoints in the same words, also for different peers.
"""

from collections.abc import Iterator
from typing import NamedTuple

from control import model
from control.policy import kinds, words
from control.source import remarks
from loader import abi

_HTTP, _SERVER_NAMES = "rules.http", "serverNames"
# The number of whom it selects, in which direction, and the port.
_Place = tuple[int, abi.Direction, model.PortSpec]


class _Asked(NamedTuple):
    """A rule, and the number of its peers."""

    rule: kinds.Asking
    peers: int


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
    """Yield a problem for each policy that asks another protocol of a port than a rule set, or a rule, before it."""
    first: dict[_Place, dict[str, _Asked]] = {}
    subjects, peers, known = _Numbers(), _Numbers(), kinds.Kinds(snapshot)
    before = set[int]()  # the rules, by id(): the snapshot keeps them
    for policy in snapshot.policies:
        clash = None
        for rule in kinds.asking(policy):
            of_subject, asked = subjects(rule.section.subject), _Asked(rule, peers(rule.rule.peers))
            for spec in rule.rule.ports or ():
                seen = first.setdefault((of_subject, rule.rule.direction, spec), {})
                others = ((rule, spec, other.rule) for other in seen.values() if _differ(asked, other))
                clash = clash or next(others, None)
                seen.setdefault(rule.kind, asked)
            meeting = ((rule, spec, other) for spec, other in known.meeting(rule) if id(other.rule) in before)
            clash = clash or next(meeting, None)
            before.add(id(rule.rule))
        if clash is not None:
            yield _problem(*clash)


def _problem(asked: kinds.Asking, spec: model.PortSpec, other: kinds.Asking) -> model.Problem:
    whose = remarks.shown(other.policy)
    if other.policy is asked.policy:
        whose = other.rule.path if other.section is asked.section else other.section.path
    message = (
        f"{asked.kind} on port {words.port_word(spec)}, for which {whose} has {other.kind}: "
        "a port speaks one protocol (one kind of rules for the same endpoints and port)"
    )
    return remarks.of_policy(asked.policy, asked.rule.path, asked.rule.source, message)


def _differ(one: _Asked, other: _Asked) -> bool:
    """Tell whether two rule sets clash. Server names and HTTP go together, for different peers."""
    if one.rule.kind == other.rule.kind or one.rule.section is other.rule.section:
        return False
    return {one.rule.kind, other.rule.kind} != {_HTTP, _SERVER_NAMES} or one.peers == other.peers
