"""One resolved policy to its policy set: the entries that the kernel looks up for each connection of an endpoint.

A rule is one entry for each of its peers, and for each of the port prefixes that its port ranges are split into. What
is enforced and what is only audited are two halves of each entry. Endpoints whose sets have equal digests share one.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping

from control import identity, model
from control.policy import ports, resolve
from loader import abi

Slot = tuple[int, int, int]  # rank, verdict, rule id
Entry = tuple[int, int, int, int, int]  # direction, peer, proto, port, plen


@dataclasses.dataclass(frozen=True)
class PolicySet:
    """The entries of one endpoint's policy, under set id 0 until it has a number."""

    entries: Mapping[abi.PolicyKey, abi.PolicyValue]
    ingress_plens: int
    egress_plens: int
    has_audit: bool
    digest: str


def compile_set(policy: resolve.ResolvedPolicy, rules: identity.Numbers) -> PolicySet:
    """Return the entries of one resolved policy; of two rules for one key the higher rank stays, then the lower id."""
    enforced: dict[Entry, Slot] = {}
    audited: dict[Entry, Slot] = {}
    for direction in abi.Direction:
        for slots, defaults in ((enforced, policy.defaults), (audited, policy.audits)):
            default = defaults[direction]
            rule_id = rules[default.rule] if default.rule else 0
            slots[int(direction), 0, 0, 0, 0] = (int(abi.Rank.DEFAULT), int(default.verdict), rule_id)
    for rule in policy.rules:
        rank = int(abi.Rank.DENY if rule.verdict == abi.Verdict.DENY else abi.Rank.ALLOW)
        slot = (rank, int(rule.verdict), rules[rule.rule])
        targets = (audited,) if rule.audit else (enforced, audited)
        where = list(_port_entries(rule.ports))
        for peer in rule.peers if rule.peers is not None else (0,):
            for proto, port, plen in where:
                entry = (int(rule.direction), peer, proto, port, plen)
                for slots in targets:
                    old = slots.get(entry)
                    if old is None or (rank, -slot[2]) > (old[0], -old[2]):
                        slots[entry] = slot
    return _policy_set(enforced, audited if policy.has_audit else {}, policy.has_audit)


def _policy_set(enforced: Mapping[Entry, Slot], audited: Mapping[Entry, Slot], has_audit: bool) -> PolicySet:
    entries: dict[abi.PolicyKey, abi.PolicyValue] = {}
    plens = [0, 0]
    digest = hashlib.sha256(b"audit" if has_audit else b"")
    for entry in sorted(enforced.keys() | audited.keys()):
        direction, peer, proto, port, plen = entry
        rank, verdict, rule_id = enforced.get(entry, (0, 0, 0))
        audit_rank, audit_verdict, audit_rule_id = audited.get(entry, (0, 0, 0))
        key = abi.PolicyKey(set_id=0, peer_id=peer, port=port, proto=proto, direction=direction, plen=plen)
        value = abi.PolicyValue(
            verdict=verdict,
            rank=rank,
            audit_verdict=audit_verdict,
            audit_rank=audit_rank,
            rule_id=rule_id,
            audit_rule_id=audit_rule_id,
            present=int(entry in enforced),
            audit_present=int(entry in audited),
        )
        if proto:  # entries for every protocol are looked up whatever the bits say
            plens[direction] |= 1 << plen
        entries[key] = value
        digest.update(key.pack() + value.pack())
    return PolicySet(entries, plens[abi.Direction.INGRESS], plens[abi.Direction.EGRESS], has_audit, digest.hexdigest())


def _port_entries(specs: Iterable[model.PortSpec] | None) -> Iterable[tuple[int, int, int]]:
    """Yield (proto, port, plen) for all that specs name; for None the one entry of every protocol."""
    if specs is None:
        yield 0, 0, 0
        return
    for spec in specs:
        for port, plen in ports.split(spec.first, spec.last):
            yield int(spec.proto), port, plen
