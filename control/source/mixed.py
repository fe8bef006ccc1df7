"""What only all policies together can tell of a port: that two of them ask it to speak two protocols.

Within one rule set that is a mistake; here it is told only where both select the same endpoints in the same words.
"""

from collections.abc import Iterator

from control import model
from control.policy import words
from control.source import remarks, unserved
from loader import abi

_HTTP, _SERVER_NAMES = "rules.http", "serverNames"
# Whom it selects, in which direction, and the port.
_Place = tuple[model.Selector, abi.Direction, model.PortSpec]
_Asked = tuple[str, tuple[model.Peer, ...] | None, model.Policy]  # the kind of rules, for whom, by which policy


def protocols(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each policy that asks another protocol of a port than a policy before it."""
    first: dict[_Place, dict[str, _Asked]] = {}
    for policy in snapshot.policies:
        clash = None
        for subject, rule in ((section.subject, rule) for section in policy.sections for rule in section.rules):
            kind = unserved.kind(rule.l7)
            for spec in rule.ports or () if kind else ():
                seen = first.setdefault((subject, rule.direction, spec), {})
                clash = clash or next(
                    (
                        (rule, spec, kind, other)
                        for other in seen.values()
                        if _differ((kind, rule.peers, policy), other)
                    ),
                    None,
                )
                seen.setdefault(kind, (kind, rule.peers, policy))
        if clash is not None:
            at, spec, kind, (theirs, _, other_policy) = clash
            message = (
                f"{kind} on port {words.port_word(spec)}, for which {remarks.shown(other_policy)} has {theirs}: "
                "a port speaks one protocol (one kind of rules for the same endpoints and port)"
            )
            yield remarks.of_policy(policy, at.path, at.source, message)


def _differ(one: _Asked, other: _Asked) -> bool:
    """Tell whether two policies clash. Server names and HTTP go together, for different peers."""
    if one[0] == other[0] or one[2] is other[2]:
        return False
    return {one[0], other[0]} != {_HTTP, _SERVER_NAMES} or one[1] == other[1]
