"""Which rules of a workload meet one for another kind of bytes, so that neither lets anything through; pure."""

import functools
import itertools
from collections.abc import Iterable, Sequence

from control import model
from control.analysis import portset, world
from control.analysis.portset import PortSet
from control.analysis.sides import Identities
from control.policy import resolve
from loader import abi

_Meant = Sequence[tuple[Identities, PortSet]]
_NOWHERE = "", portset.NONE


def shut(known: world.World, workload: model.Workload) -> list[tuple[str, PortSet]]:
    """Return for each rule the key of the first one that it meets so, and at which ports; nothing where there is none.

    Only what is enforced counts, and only this end.
    """
    rules = known.policy(workload).rules
    asking: dict[tuple[abi.Direction, str], list[resolve.ResolvedRule]] = {}
    free: dict[abi.Direction, list[resolve.ResolvedRule]] = {}
    for rule in rules:
        if rule.verdict == abi.Verdict.PROXY and not rule.audit:
            if rule.l7 is None:
                free.setdefault(rule.direction, []).append(rule)
            elif kind := rule.l7.kind:
                asking.setdefault((rule.direction, kind), []).append(rule)

    @functools.cache
    def meant(number: int) -> _Meant:
        return [(peers, portset.of_specs(specs)) for peers, specs in known.meant(by_id[number], workload)]

    by_id = {id(rule): rule for rule in rules}
    out = dict.fromkeys(by_id, _NOWHERE)
    for (direction, kind), of_kind in asking.items():
        beside = (each for at, found in asking.items() if at[0] == direction and at[1] != kind for each in found)
        others = [each for each in beside if meant(id(each))]  # most of thousands may mean nobody who is there
        freed = [each for rule in free.get(direction, ()) for each in meant(id(rule))] if others else []
        around = _Around(meant(id(other)) for other in others)
        for rule in (each for each in (of_kind if others else ()) if around.may_meet(meant(id(each)))):
            meeting = ((other.rule, _meet(meant(id(rule)), meant(id(other)), freed)) for other in others)
            out[id(rule)] = next((each for each in meeting if each[1]), _NOWHERE)
    return [out[id(rule)] for rule in rules]


class _Around:
    """Where rules are for anybody at all: most of thousands meet none of them, and need not be held against each."""

    def __init__(self, several: Iterable[_Meant]) -> None:
        found: dict[int | None, dict[PortSet, None]] = {}  # by peer, None: any
        for peers, ports in itertools.chain.from_iterable(several):
            for peer in peers if peers is not None else (None,):
                found.setdefault(peer, {})[ports] = None
        self._at = {peer: portset.union(each) for peer, each in found.items()}
        self._anywhere = portset.union(dict.fromkeys(self._at.values()))

    def may_meet(self, one: _Meant) -> bool:
        """Tell whether a rule is for some peer at a port where another one is for it, too."""
        return any(
            peers is None
            or bool(ports & self._at.get(None, portset.NONE))
            or any(ports & self._at[peer] for peer in peers if peer in self._at)
            for peers, ports in one
            if ports & self._anywhere
        )


def _meet(one: _Meant, other: _Meant, freed: _Meant) -> PortSet:
    """Return the ports at which both are about somebody, and where nothing is free for these."""
    return portset.union(
        _left(peers & also if peers is not None and also is not None else also if peers is None else peers, both, freed)
        for peers, ports in one
        for also, those in other
        if (both := ports & those)
    )


def _left(peers: Identities, ports: PortSet, freed: _Meant) -> PortSet:
    """Return the ports of some peers without those at which each of these is free."""
    around: list[tuple[Identities, PortSet]] = [(who, free) for who, free in freed if free & ports]
    if not around:
        return ports if peers is None or peers else portset.NONE
    named: Iterable[int | None] = peers if peers is not None else {None}.union(*(who or () for who, _ in around))
    return portset.union(
        ports - portset.union(free for who, free in around if who is None or peer in who) for peer in named
    )
