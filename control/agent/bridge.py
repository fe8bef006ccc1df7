"""Policy sets for the moment in which identities change: they know the old and the new identity of every peer. Pure.

Identities lie in maps of their own, so they cannot change in the same instant as the sets that name them. A bridge is
put in force first, then the identities change, then the new set comes. To an identity that some peer is about to get,
it says what the new set says; to every other, what the old set says.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from loader import abi

Where = tuple[int, int, int, int]  # direction, port, proto, plen
Entries = Mapping[Where, abi.PolicyValue]
Content = Mapping[int, Entries]  # by peer; 0: for any
Move = tuple[int, int]  # an address's old and new identity

_SHUT = abi.PolicyValue(int(abi.Verdict.DENY), int(abi.Rank.DENY), 0, 0, 0, 0, 1, 0)
_CLOSED: Entries = {(int(direction), 0, 0, 0): _SHUT for direction in abi.Direction}


def contents(policy: Mapping[abi.PolicyKey, abi.PolicyValue], sets: Iterable[int]) -> dict[int, dict[int, Entries]]:
    """Return the content of some sets, by number."""
    out: dict[int, dict[int, dict[Where, abi.PolicyValue]]] = {number: {} for number in sets}
    for key, value in policy.items():
        content = out.get(key.set_id)
        if content is not None:
            content.setdefault(key.peer_id, {})[key.direction, key.port, key.proto, key.plen] = value
    return out  # type: ignore[return-value]


def indifferent(content: Content, moves: Iterable[Move]) -> bool:
    """Tell whether a set says the same to the old and the new identity of each move."""
    return all(content.get(old) == content.get(new) for old, new in moves)


def between(old: Content, new: Content, moves: Iterable[Move]) -> Content:
    """Return the content of the set between old and new while these moves happen.

    An identity that some peer gets and another loses, and of which both sets think differently, is shut meanwhile.
    """
    moves = list(moves)
    gotten, lost = {to for _, to in moves}, {since for since, _ in moves}
    alike = old.get(0) == new.get(0)
    below, above = _levels(old, new)
    out: dict[int, Entries] = {
        peer: entries if alike else {where: _ranked(value, below) for where, value in entries.items()}
        for peer, entries in old.items()
        if peer not in gotten
    }
    for peer in gotten:
        if peer in lost and not (alike and old.get(peer) == new.get(peer)):
            out[peer] = _CLOSED
        elif alike:
            out[peer] = new.get(peer, {})
        else:
            both = _merged(new.get(0, {}), new.get(peer, {}))
            out[peer] = {where: _ranked(value, above) for where, value in both.items()}
    return out


def _levels(old: Content, new: Content) -> tuple[dict[int, int], dict[int, int]]:
    """Return ranks for the entries of both sets under which all of the new one's are above all of the old one's.

    The old set may be a bridge itself, of an agent that died on it, so its ranks may be any.
    """
    olds, news = _ranks(old), _ranks(new)
    below = {rank: level for level, rank in enumerate(olds)}
    above = {rank: len(olds) + level for level, rank in enumerate(news)}
    return below, above | {int(abi.Rank.DENY): int(abi.Rank.DENY)}


def _ranks(content: Content) -> list[int]:
    return sorted({r for entries in content.values() for v in entries.values() for r in (v.rank, v.audit_rank)})


def _ranked(value: abi.PolicyValue, ranks: Mapping[int, int]) -> abi.PolicyValue:
    return dataclasses.replace(value, rank=ranks[value.rank], audit_rank=ranks[value.audit_rank])


def _merged(general: Entries, particular: Entries) -> Entries:
    """Return the entries for one peer with those for any peer among them: of two in one place the higher rank stays."""
    out = dict(general)
    for where, value in particular.items():
        other = out.get(where)
        out[where] = value if other is None else _stronger(value, other)
    return out


def _stronger(one: abi.PolicyValue, other: abi.PolicyValue) -> abi.PolicyValue:
    if other.present and (not one.present or other.rank > one.rank):
        one = dataclasses.replace(
            one, verdict=other.verdict, rank=other.rank, rule_id=other.rule_id, present=other.present
        )
    if other.audit_present and (not one.audit_present or other.audit_rank > one.audit_rank):
        one = dataclasses.replace(
            one, audit_verdict=other.audit_verdict, audit_rank=other.audit_rank, audit_rule_id=other.audit_rule_id,
            audit_present=other.audit_present,
        )  # fmt: skip
    return one


def plens(content: Content) -> tuple[int, int]:
    """Return the bits of the port prefixes that a set uses, for ingress and egress."""
    bits = [0, 0]
    for entries in content.values():
        for direction, _, proto, plen in entries:
            if proto:
                bits[direction] |= 1 << plen
    return bits[abi.Direction.INGRESS], bits[abi.Direction.EGRESS]
