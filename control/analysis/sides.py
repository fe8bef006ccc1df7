"""One direction of a resolved policy as ports for peers: who may, on which ports, is all that is left of its rules.

Peers are classes, given as bits of one number, so that a thousand of them are taken apart in one step. What is only
audited is not enforced, so it does not count; what a proxy decides on is open at this level.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from control import model
from control.analysis import portset
from control.analysis.portset import PortSet
from control.policy import meaning, resolve
from loader import abi

# What policies tell apart multiplies: a thousand ranges, each left out of one rule with ports of its own.
MAX_SPANS = 500_000
MAX_PEERS = 2_000_000  # of all rules of one policy together, each an identity
_TOO_MUCH = "a policy gives so many peers ports of their own that no list could show them"

Identities = frozenset[int] | None  # None: any
Rules = frozenset[tuple[PortSet, Identities]]
Parts = tuple[tuple[PortSet, int], ...]  # ports, and the classes that have exactly these; no class is in two of them


@dataclasses.dataclass(frozen=True)
class Content:
    """What one direction says, whoever says it: policies with equal contents are one. Peers None: any."""

    is_open: bool
    allows: Rules
    denies: Rules


def contents(
    policy: resolve.ResolvedPolicy,
    meant: Callable[[resolve.ResolvedRule], list[meaning.Meant]],
    view: portset.View = portset.ONLY_PORTS,
    served: bool = False,
) -> dict[abi.Direction, Content]:
    """Return what each direction of a policy enforces; `meant` says whom and which ports a rule means. `served`: what
    a proxy would decide on is refused, as it is where there is none.
    """
    found: dict[tuple[abi.Direction, bool], dict[PortSet, list[Identities]]] = {}
    count = 0
    for rule in policy.rules:
        for peers, specs in meant(rule) if not rule.audit else ():
            count += len(peers or ())
            if count > MAX_PEERS:
                raise model.TooMuch(_TOO_MUCH)
            if ports := view.of(specs):
                # It comes before rules that allow, wherever it is not for all bytes.
                needs_proxy = rule.verdict == abi.Verdict.PROXY and rule.l7 is not None
                which = rule.direction, rule.verdict == abi.Verdict.DENY or (served and needs_proxy)
                found.setdefault(which, {}).setdefault(ports, []).append(peers)
    out = {}
    for direction in abi.Direction:
        is_open = policy.defaults[direction].verdict != abi.Verdict.DENY
        # Where the default allows, allowing adds nothing: such rules are left out, and more contents are equal.
        allows = {} if is_open else found.get((direction, False), {})
        denies = found.get((direction, True), {})
        out[direction] = Content(is_open, _joined(allows), _joined(denies))
    return out


def _joined(rules: Mapping[PortSet, list[Identities]]) -> Rules:
    """Return one rule for each set of ports: a named port is as many rules as there are identities that have it."""
    return frozenset((ports, _everyone(each)) for ports, each in rules.items())


def _everyone(each: list[Identities]) -> Identities:
    known = [peers for peers in each if peers is not None]
    if len(known) < len(each):
        return None
    return known[0] if len(known) == 1 else frozenset().union(*known)


def parts(content: Content, masks: Mapping[Identities, int], whole: PortSet = portset.ALL) -> Parts:
    """Return the ports of each class that has any, `whole` where nothing is refused; `masks` gives the classes of a set
    of identities.
    """
    found: dict[PortSet, int] = {}
    for classes, allows, denies in _cut(content, masks):
        allowed = whole if content.is_open else portset.union(_listed(allows))
        ports = allowed - portset.union(_listed(denies)) if denies else allowed
        if ports:
            found[ports] = found.get(ports, 0) | classes
    return tuple(sorted(found.items(), key=lambda part: part[0].spans))


# The ports of the rules that hold for a class, the last one first; classes share what they have in common.
_Held = tuple[PortSet, "_Held"] | tuple[()]


def _cut(content: Content, masks: Mapping[Identities, int]) -> list[tuple[int, _Held, _Held]]:
    """Return classes that the same rules hold for, and the ports of these, allowed and denied. Nothing is joined here:
    that is done once for each, when all its rules are known.
    """
    now: list[tuple[int, _Held, _Held]] = [(masks[None], (), ())]
    held = 0  # spans, of all
    for is_deny, rules in ((False, content.allows), (True, content.denies)):
        # Backwards, so that they are in order in the end, last one first.
        for ports, peers in sorted(rules, key=lambda rule: rule[0].spans, reverse=True):
            mask = masks[peers]
            after: list[tuple[int, _Held, _Held]] = []
            for part in now:
                classes, allows, denies = part
                if not (inside := classes & mask):
                    after.append(part)
                    continue
                if inside != classes:
                    after.append((classes ^ inside, allows, denies))
                after.append((inside, allows, (ports, denies)) if is_deny else (inside, (ports, allows), denies))
                held += len(ports.spans)
            now = after
            # Classes that are cut apart later take what they hold with them, so this counts too little, never too much.
            if held > MAX_SPANS:
                raise model.TooMuch(_TOO_MUCH)
    return now


def _listed(held: _Held) -> Iterator[PortSet]:
    while held:
        ports, held = held
        yield ports
