"""One resolved policy to its policy set: the entries that the kernel looks up for each connection of an endpoint.

A rule is one entry for each of its peers, and for each of the port prefixes that its port ranges are split into. What
is enforced and what is only audited are two halves of each entry. Endpoints whose sets have equal digests share one.
What the bytes of a connection must say stands beside its entry: the kernel knows only that the proxy must be asked.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping

from control import identity, model
from control.policy import meaning, ports, resolve
from loader import abi

# A few rules can name so many ranges that each means all the others: more entries than these nobody could load.
MAX_ENTRIES = 4 * abi.MAP_BY_NAME["policy"].max_entries


Slot = tuple[int, int, int]  # rank, verdict, rule id
_ASKS = (int(abi.Rank.PROXY), int(abi.Verdict.PROXY))
_FREE = (int(abi.Rank.PROXY), int(abi.Verdict.ALLOW))  # of a rule that asks, and lets anything through
Entry = tuple[int, int, int, int, int]  # direction, peer, proto, port, plen
L7 = tuple[model.L7Rules, ...]
ANYTHING: L7 = (model.L7Rules(),)


@dataclasses.dataclass(frozen=True)
class PolicySet:
    """The entries of one endpoint's policy, under set id 0 until it has a number.

    `l7`: for each entry of the rank PROXY, what its own rules say of the bytes, ANYTHING where it allows them all;
    `rules_at` has what counts for a connection. `audit_l7`: the same, were audits enforced.
    """

    entries: Mapping[abi.PolicyKey, abi.PolicyValue]
    ingress_plens: int
    egress_plens: int
    has_audit: bool
    digest: str
    l7: Mapping[abi.PolicyKey, L7] = dataclasses.field(default_factory=dict)
    audit_l7: Mapping[abi.PolicyKey, L7] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Meaning:
    """What names in rules mean at the moment: peers, port names, and the numbers that rules have."""

    identities: identity.Identities
    named: meaning.NamedPorts
    rules: identity.Numbers


class _Half:
    """What is enforced, or what would be: the slots, and what the bytes must say at those of the rank PROXY."""

    def __init__(self, defaults: Mapping[abi.Direction, resolve.Default], rules: identity.Numbers) -> None:
        self.slots: dict[Entry, Slot] = {}
        self._l7: dict[Entry, dict[model.L7Rules, None]] = {}
        for direction, default in defaults.items():
            rule_id = rules[default.rule] if default.rule else 0
            self.slots[int(direction), 0, 0, 0, 0] = (int(abi.Rank.DEFAULT), int(default.verdict), rule_id)

    def offer(self, entry: Entry, slot: Slot, l7: model.L7Rules | None) -> None:
        """Take a rule for an entry: the highest rank stays, then what lets more through, then the lower rule id."""
        if l7 is not None:
            self._l7.setdefault(entry, {})[l7] = None
        old = self.slots.get(entry)
        if old is None or _order(slot) > _order(old):
            self.slots[entry] = slot

    def free(self) -> None:
        """Have the proxy not asked where a rule lets all bytes through for this peer and port: see rules_at. Raises
        model.TooMuch.
        """
        frees: dict[tuple[int, int], dict[tuple[int, int], dict[int, Slot]]] = {}  # by ports, by peer
        for (direction, peer, proto, port, plen), slot in self.slots.items():
            if slot[:2] == _FREE:
                frees.setdefault((direction, proto), {}).setdefault((port, plen), {})[peer] = slot
        asking = [entry for entry, slot in self.slots.items() if slot[:2] == _ASKS and (entry[0], entry[2]) in frees]
        made = 0
        for direction, peer, proto, port, plen in asking:
            around = frees[direction, proto]
            free = [around[at] for at in _around(port, plen) if at in around]
            by = next((each[who] for each in free for who in (peer, 0) if who in each), None)
            if by is not None:
                self.offer((direction, peer, proto, port, plen), by, None)
            elif not peer:  # it stays as it is for others: whoever is free there gets an entry of his own
                made += sum(map(len, free))
                if made > MAX_ENTRIES:
                    raise _too_many("rules for requests and what is free of them")
                for who, slot in {who: slot for each in reversed(free) for who, slot in each.items()}.items():
                    self.offer((direction, who, proto, port, plen), slot, None)

    def l7(self, entry: Entry) -> L7:
        """Return what the bytes must say, any one of these; nothing where no rule asks that the proxy looks."""
        rank, verdict, _ = self.slots.get(entry, (0, 0, 0))
        if rank != abi.Rank.PROXY:
            return ()
        return tuple(self._l7[entry]) if verdict == abi.Verdict.PROXY else ANYTHING


def _around(port: int, most: int = 16) -> Iterator[tuple[int, int]]:
    """Yield port and plen of every prefix of ports that a port or prefix is in, the most specific first."""
    for plen in range(most, -1, -1):
        yield port >> (16 - plen) << (16 - plen), plen


def _too_many(whose: str) -> model.TooMuch:
    return model.TooMuch(f"{whose}: more than {MAX_ENTRIES:,} entries are needed (fewer or wider rules)")


def _order(slot: Slot) -> tuple[int, bool, int]:
    rank, verdict, rule_id = slot
    return rank, verdict == abi.Verdict.ALLOW, -rule_id


def compile_set(
    policy: resolve.ResolvedPolicy,
    ports: tuple[model.ContainerPort, ...],
    known: Meaning,
    only: frozenset[int] | None = None,
) -> PolicySet:
    """Return the entries of one resolved policy for a subject with these container ports; raises model.TooMuch.

    `only`: the identities that will be asked about; entries of others are left out, but count as too many like all.
    """
    offered = 0
    enforced, audited = _Half(policy.defaults, known.rules), _Half(policy.audits, known.rules)
    for rule in policy.rules:
        slot = _slot(rule, known.rules)
        halves = (audited,) if rule.audit else (enforced, audited)
        for peers, specs in meaning.meant(rule, ports, known.identities, known.named):
            where = list(_port_entries(specs))
            offered += len(where) * (1 if peers is None else len(peers))
            if offered > MAX_ENTRIES:
                policies = f"{rule.rule.partition('#')[0]} and what else selects the same pods"
                raise _too_many(policies)
            for peer in (0,) if peers is None else peers if only is None else peers & only:
                for proto, port, plen in where:
                    for half in halves:
                        half.offer((int(rule.direction), peer, proto, port, plen), slot, rule.l7)
    for half in (enforced, audited):
        half.free()
    return _policy_set(enforced, audited if policy.has_audit else None)


def rules_at(rules: Mapping[abi.PolicyKey, L7], direction: int, peer: int, proto: int, port: int) -> L7:
    """Return what the bytes of a connection must say that the proxy is asked about, any one of these.

    The most specific entry decides that the proxy is asked; what it lets through is what any rule does for this peer
    and port: an entry for one port takes nothing from what another says of a range around it, or of any peer. Where one
    of them lets anything through, that is ANYTHING.
    """
    keys = (
        abi.PolicyKey(0, who, first, proto, int(direction), plen)
        for first, plen in _around(port)
        for who in dict.fromkeys((peer, 0))
    )
    found = tuple(dict.fromkeys(each for key in keys for each in rules.get(key, ())))
    return ANYTHING if ANYTHING[0] in found else found


def _slot(rule: resolve.ResolvedRule, rules: identity.Numbers) -> Slot:
    match rule.verdict:
        case abi.Verdict.DENY:
            return int(abi.Rank.DENY), int(abi.Verdict.DENY), rules[rule.by]
        case abi.Verdict.PROXY:
            # What may say anything need not be looked at, yet it counts as what must be does beside other rules.
            verdict = abi.Verdict.ALLOW if rule.l7 is None else abi.Verdict.PROXY
            return int(abi.Rank.PROXY), int(verdict), rules[rule.by]
        case _:
            # Among denies of one rank the one that names the peer counts.
            rank = abi.Rank.DENY if rule.is_first else abi.Rank.ALLOW
            return int(rank), int(abi.Verdict.ALLOW), rules[rule.by]


def _policy_set(enforced: _Half, audited: _Half | None) -> PolicySet:
    entries: dict[abi.PolicyKey, abi.PolicyValue] = {}
    plens = [0, 0]
    digest = hashlib.sha256(b"audit" if audited else b"")
    audit_slots = audited.slots if audited else {}
    l7: tuple[dict[abi.PolicyKey, L7], dict[abi.PolicyKey, L7]] = ({}, {})
    for entry in sorted(enforced.slots.keys() | audit_slots.keys()):
        direction, peer, proto, port, plen = entry
        rank, verdict, rule_id = enforced.slots.get(entry, (0, 0, 0))
        audit_rank, audit_verdict, audit_rule_id = audit_slots.get(entry, (0, 0, 0))
        key = abi.PolicyKey(set_id=0, peer_id=peer, port=port, proto=proto, direction=direction, plen=plen)
        value = abi.PolicyValue(
            verdict=verdict,
            rank=rank,
            audit_verdict=audit_verdict,
            audit_rank=audit_rank,
            rule_id=rule_id,
            audit_rule_id=audit_rule_id,
            present=int(entry in enforced.slots),
            audit_present=int(entry in audit_slots),
        )
        if proto:  # entries for every protocol are looked up whatever the bits say
            plens[direction] |= 1 << plen
        entries[key] = value
        digest.update(key.pack() + value.pack())
        for half, found in zip((enforced, audited), l7, strict=True):
            if half and (rules := half.l7(entry)):
                found[key] = rules
                digest.update(repr(found[key]).encode())
    in_plens, out_plens = plens[abi.Direction.INGRESS], plens[abi.Direction.EGRESS]
    return PolicySet(entries, in_plens, out_plens, audited is not None, digest.hexdigest(), *l7)


def _port_entries(specs: Iterable[model.PortSpec] | None) -> Iterable[tuple[int, int, int]]:
    """Yield (proto, port, plen) for all that specs name; for None the one entry of every protocol."""
    if specs is None:
        yield 0, 0, 0
        return
    for spec in specs:
        for port, plen in ports.split(spec.first, spec.last):
            yield int(spec.proto), port, plen
