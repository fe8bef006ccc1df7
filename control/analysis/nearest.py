"""What would have allowed a call: of the rules that do not, the one that lacks least."""

import dataclasses

from control import identity, model, places
from control.analysis import said, world
from control.analysis.call import Author, Call, author
from control.policy import resolve, words
from loader import abi


@dataclasses.dataclass(frozen=True)
class Nearest:
    """A rule that allows the most of what was asked; `lacks` is what it does not allow, `wants` what it does."""

    author: Author
    lacks: tuple[str, ...]
    wants: tuple[str, ...] = ()


def nearest(
    known: world.World, workload: model.Workload, direction: abi.Direction, peer: world.End, call: Call
) -> Nearest | None:
    """Return the enforced rule that lacks least; of several one that speaks of the peer, and then the first. None:
    there is no rule that allows anything.
    """
    found: list[tuple[int, bool, int, Nearest]] = []
    for rule in known.policy(workload).rules:
        if rule.direction != direction or rule.verdict == abi.Verdict.DENY or rule.audit:
            continue
        if rule.l7 is not None and rule.l7.is_nothing:
            continue
        who = author(known, rule.by)
        if who is None or rule.rule == identity.LOCALHOST_RULE:
            continue
        around = _around(rule, peer)
        lacks = _lacks(known, workload, rule, peer, call)
        is_other = "peer" in lacks and around is None
        if "peer" in lacks and around is not None:
            lacks["peer"] = words.whom([around]) + _why_not(around, peer)
        found.append((len(lacks), is_other, len(found), Nearest(who, tuple(lacks), tuple(lacks.values()))))
    return min(found)[-1] if found else None


def _around(rule: resolve.ResolvedRule, peer: world.End) -> model.CidrPeer | None:
    """Return the first range of a rule that has an address of the peer in it, be it cut out again."""
    addresses = _addresses(peer)
    ranges = (each for each in rule.peers or () if isinstance(each, model.CidrPeer))
    return next((each for each in ranges if any(each.prefix.contains(at) for at in addresses)), None)


def _addresses(peer: world.End) -> list[model.Prefix]:
    if peer.workload is not None:
        return list(map(places.host, peer.workload.ips))
    try:
        return [places.host(peer.name)]
    except ValueError:  # a name
        return []


def _why_not(around: model.CidrPeer, peer: world.End) -> str:
    """Return why a range that has an address in it is not about it, where the range itself does not tell."""
    if any(cut.contains(at) for at in _addresses(peer) for cut in around.excepts):
        return ""
    return ": ranges do not match nodes" if peer.is_node else ": ranges do not match pods" if peer.workload else ""


def _lacks(
    known: world.World, workload: model.Workload, rule: resolve.ResolvedRule, peer: world.End, call: Call
) -> dict[str, str]:
    """Return what the rule does not allow, each judged apart, and what it does; nothing: something comes before it."""
    lacks = {}
    if not known.is_peer(rule, peer.identity):
        lacks["peer"] = words.whom(rule.peers)
    if not known.is_port(rule, workload, peer.identity, call.proto, call.port):
        lacks["port"] = words.ports(rule.ports)
    if rule.l7 is not None and said.verdict((rule.l7,), call) == said.DENIED:
        lacks["request"] = words.l7_word(rule.l7)
    return lacks
