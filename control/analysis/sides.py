"""One direction of a resolved policy as ports for peers: who may, on which ports, is all that is left of its rules.

Peers are classes, given as bits of one number, so that a thousand of them are taken apart in one step. What is only
audited is not enforced, so it does not count; what a proxy decides on is open at this level.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from control import model
from control.analysis import portset
from control.analysis.portset import PortSet
from control.policy import meaning, resolve
from loader import abi

# What policies tell apart multiplies: a thousand ranges, each left out of one rule with ports of its own.
MAX_SPANS = 500_000


Identities = frozenset[int] | None  # None: any
Parts = tuple[tuple[PortSet, int], ...]  # ports, and the classes that have exactly these; no class is in two of them


@dataclasses.dataclass(frozen=True)
class Content:
    """What one direction says, whoever says it: policies with equal contents are one. Peers None: any."""

    is_open: bool
    allows: frozenset[tuple[PortSet, Identities]]
    denies: frozenset[tuple[PortSet, Identities]]


def contents(
    policy: resolve.ResolvedPolicy, meant: Callable[[resolve.ResolvedRule], list[meaning.Meant]]
) -> dict[abi.Direction, Content]:  # fmt: skip
    """Return what each direction of a policy enforces; `meant` says whom and which ports a rule means."""
    found: dict[tuple[abi.Direction, bool], dict[PortSet, list[Identities]]] = {}
    for rule in policy.rules:
        for peers, specs in meant(rule) if not rule.audit else ():
            if ports := portset.of_specs(specs):
                which = rule.direction, rule.verdict == abi.Verdict.DENY
                found.setdefault(which, {}).setdefault(ports, []).append(peers)
    out = {}
    for direction in abi.Direction:
        is_open = policy.defaults[direction].verdict != abi.Verdict.DENY
        # Where the default allows, allowing adds nothing: such rules are left out, and more contents are equal.
        allows = {} if is_open else found.get((direction, False), {})
        denies = found.get((direction, True), {})
        out[direction] = Content(is_open, _joined(allows), _joined(denies))
    return out


def _joined(rules: Mapping[PortSet, list[Identities]]) -> frozenset[tuple[PortSet, Identities]]:
    """Return one rule for each set of ports: a named port is as many rules as there are identities that have it."""
    return frozenset((ports, _everyone(each)) for ports, each in rules.items())


def _everyone(each: list[Identities]) -> Identities:
    known = [peers for peers in each if peers is not None]
    if len(known) < len(each):
        return None
    return known[0] if len(known) == 1 else frozenset().union(*known)


def parts(content: Content, masks: Mapping[Identities, int]) -> Parts:
    """Return the ports of each class that has any; `masks` gives the classes of a set of identities."""
    start = portset.ALL if content.is_open else portset.NONE
    allowed = _split({start: masks[None]}, content.allows, masks, PortSet.__or__)
    allowed = _split(allowed, content.denies, masks, PortSet.__sub__)
    return tuple(sorted(((p, mask) for p, mask in allowed.items() if p), key=lambda part: part[0].spans))


def _split(
    before: Mapping[PortSet, int],
    rules: Iterable[tuple[PortSet, Identities]],
    masks: Mapping[Identities, int],
    change: Callable[[PortSet, PortSet], PortSet],
) -> dict[PortSet, int]:
    now = dict(before)
    for ports, peers in rules:
        mask = masks[peers]
        after: dict[PortSet, int] = {}
        for old, classes in now.items():
            for part, result in ((classes & mask, change(old, ports)), (classes & ~mask, old)):
                if part:
                    after[result] = after.get(result, 0) | part
        now = after
        if sum(len(part.spans) for part in now) > MAX_SPANS:
            raise model.TooMuch("a policy gives so many peers ports of their own that no list could show them")
    return now
