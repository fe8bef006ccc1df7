"""One direction of a resolved policy as ports for peers: who may, on which ports, is all that is left of its rules.

Peers are classes, given as bits of one number, so that a thousand of them are taken apart in one step. What is only
audited is not enforced, so it does not count; what a proxy decides on is open at this level, unless no rule there lets
anything through, or rules of two kinds of bytes meet, of which the proxy follows neither.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

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
Parts = tuple[tuple["Let", int], ...]  # the classes that have exactly these ports; no class is in two of them


class Let(NamedTuple):
    """The ports that one end lets a class use. `bound`: those of each of `model.KINDS` for which its rules let through
    bytes of this kind alone; empty where there are none.
    """

    ports: PortSet
    bound: tuple[PortSet, ...] = ()

    def beside(self, other: "Let") -> PortSet:
        """Return the ports that both ends let use: not those where each lets through bytes of another kind."""
        ports = self.ports & other.ports
        if self.bound and other.bound:
            kinds = (one | also for one, also in zip(self.bound, other.bound, strict=True))
            ports -= _of_two(kinds)
        return ports


_NOBODY_ASKS: tuple[Rules, ...] = (frozenset(),) * len(model.KINDS)


@dataclasses.dataclass(frozen=True)
class Content:
    """What one direction says, whoever says it: policies with equal contents are one. Peers None: any.

    Rules that look inside the bytes count before those that do not look. `shuts`: those that let nothing through;
    `asks`: those that let some of one of `model.KINDS` through, for each of these; `opens`: those that let anything
    through, whatever the others say, empty where there are none of these.
    """

    is_open: bool
    allows: Rules
    denies: Rules
    shuts: Rules = frozenset()
    opens: Rules = frozenset()
    asks: tuple[Rules, ...] = _NOBODY_ASKS

    @property
    def lists(self) -> tuple[Rules, ...]:
        return self.allows, self.denies, self.shuts, self.opens, *self.asks


def contents(
    policy: resolve.ResolvedPolicy,
    meant: Callable[[resolve.ResolvedRule], list[meaning.Meant]],
    view: portset.View = portset.ONLY_PORTS,
    without_proxy: bool = False,
) -> dict[abi.Direction, Content]:
    """Return what each direction of a policy enforces; `meant` says whom and which ports a rule means. `without_proxy`:
    what it would decide on is refused.
    """
    found: dict[tuple[abi.Direction, str], dict[PortSet, list[Identities]]] = {}
    count = 0
    for rule in policy.rules:
        for peers, specs in meant(rule) if not rule.audit else ():
            count += len(peers or ())
            if count > MAX_PEERS:
                raise model.TooMuch(_TOO_MUCH)
            if ports := view.of(specs):
                found.setdefault((rule.direction, _list_of(rule, without_proxy)), {}).setdefault(ports, []).append(
                    peers
                )
    out = {}
    for direction in abi.Direction:
        is_open = policy.defaults[direction].verdict != abi.Verdict.DENY
        allows, denies, shuts, opens, *asks = (
            found.get((direction, name), {}) for name in ("allows", "denies", "shuts", "opens", *model.KINDS)
        )
        # Where the default allows, allowing adds nothing: such rules are left out, and more contents are equal.
        allows = {} if is_open else allows
        if not shuts and not any(asks):
            for ports, each in opens.items() if not is_open else ():
                allows.setdefault(ports, []).extend(each)
            opens = {}
        joined = _joined(allows), _joined(denies), _joined(shuts), _joined(opens)
        out[direction] = Content(is_open, *joined, asks=tuple(map(_joined, asks)))
    return out


def _list_of(rule: resolve.ResolvedRule, without_proxy: bool) -> str:
    """Return which list of a Content a rule is in."""
    match rule.verdict:
        case abi.Verdict.DENY:
            return "denies"
        case abi.Verdict.PROXY:
            if rule.l7 is None:
                return "opens"
            return "shuts" if without_proxy else rule.l7.kind or "shuts"
        case _:
            return "allows"


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
    found: dict[Let, int] = {}
    for classes, held in _cut(content, masks):
        let = _let(content, held, whole)
        if let.ports:
            found[let] = found.get(let, 0) | classes
    return tuple(sorted(found.items(), key=lambda part: [each.spans for each in (part[0].ports, *part[0].bound)]))


def _of_two(kinds: Iterable[PortSet]) -> PortSet:
    """Return where rules of more than one kind of bytes meet, so that nothing is let through, given where there are
    rules of each kind.
    """
    one = two = portset.NONE
    for where in kinds:
        two |= one & where
        one |= where
    return two


# The ports of the rules that hold for a class, the last one first; classes share what they have in common.
_Held = tuple[PortSet, "_Held"] | tuple[()]


def _let(content: Content, held: tuple[_Held, ...], whole: PortSet) -> Let:
    """Return the ports of a class for which these rules hold, list by list."""
    allows, denies, shuts, opens, *asks = held
    ports = whole if content.is_open else portset.union(_listed(allows))
    asked = [portset.union(_listed(each)) for each in asks] if any(asks) else []
    free = portset.union(_listed(opens))
    if shuts or asked:
        ports = ports - portset.union(_listed(shuts)) | portset.union(asked)
        ports = ports - _of_two(asked)
    ports = (ports | free) - portset.union(_listed(denies))
    bound = tuple((each & ports) - free for each in asked)
    return Let(ports, bound if any(bound) else ())


_Part = tuple[int, tuple[_Held, ...]]  # one for each list of a Content


def _cut(content: Content, masks: Mapping[Identities, int]) -> list[_Part]:
    """Return classes that the same rules hold for, and the ports of these, list by list. Nothing is joined here: that
    is done once for each, when all its rules are known.
    """
    now: list[_Part] = [(masks[None], ((),) * len(content.lists))]
    held = 0  # spans, of all
    for number, rules in enumerate(content.lists):
        # Backwards, so that they are in order in the end, last one first.
        for ports, peers in sorted(rules, key=lambda rule: rule[0].spans, reverse=True):
            mask = masks[peers]
            after: list[_Part] = []
            for part in now:
                classes, lists = part
                if not (inside := classes & mask):
                    after.append(part)
                    continue
                if inside != classes:
                    after.append((classes ^ inside, lists))
                after.append((inside, (*lists[:number], (ports, lists[number]), *lists[number + 1 :])))
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
