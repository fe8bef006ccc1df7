"""The Python twin of bpf/verdict.h: the same lookup over the same entries, for tests, `explain` and the agent.

One verdict costs at most 17 port prefixes times two peers, and two lookups for entries of every protocol, however many
entries there are; the `plens` bits of the endpoint say which prefixes are worth asking for.
"""

import dataclasses
from collections.abc import Mapping

from control import compile as compiler
from loader import abi, record


@dataclasses.dataclass(frozen=True)
class Decision:
    """What one end's policy says, and, apart from it, what it would say with audits enforced."""

    verdict: abi.Verdict = abi.Verdict.DENY
    rank: int = 0
    rule_id: int = 0
    found: bool = False
    audit_verdict: abi.Verdict = abi.Verdict.DENY
    audit_rule_id: int = 0
    audit_found: bool = False
    # The entries that said so.
    key: abi.PolicyKey | None = dataclasses.field(default=None, compare=False)
    audit_key: abi.PolicyKey | None = dataclasses.field(default=None, compare=False)
    has_proxy: bool = dataclasses.field(default=False, compare=False)

    @property
    def allowed(self) -> bool:
        """Tell whether the kernel lets it through: what the proxy must look at it refuses where there is none."""
        return self.verdict == abi.Verdict.ALLOW or (self.has_proxy and self.verdict == abi.Verdict.PROXY)

    @property
    def reason(self) -> abi.DropReason:
        """Return what is on record as the reason of a refusal."""
        if self.verdict == abi.Verdict.PROXY:
            return abi.DropReason.PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL
        by_deny = self.found and self.rank == abi.Rank.DENY
        return abi.DropReason.POLICY_DENY if by_deny else abi.DropReason.POLICY_DENIED

    @property
    def audited(self) -> bool:
        """Tell whether it passes only because a policy that would deny it is in audit mode."""
        return self.allowed and self.audit_found and self.audit_verdict == abi.Verdict.DENY


DENIED = Decision()


@dataclasses.dataclass(frozen=True)
class Pair:
    """Both ends' say; None: that end is no endpoint of this node, so it is not asked here."""

    egress: Decision | None
    ingress: Decision | None
    source_identity: int
    destination_identity: int

    @property
    def allowed(self) -> bool:
        return all(decision is None or decision.allowed for decision in (self.egress, self.ingress))


def lookup(
    entries: Mapping[abi.PolicyKey, abi.PolicyValue],
    set_id: int,
    plens: int,
    direction: int,
    peer_id: int,
    proto: int,
    dport: int,
) -> Decision:
    """Return what a policy set says: of all entries that match, the first of the highest rank decides."""
    enforced: abi.PolicyValue | None = None
    audit: abi.PolicyValue | None = None
    by: list[abi.PolicyKey | None] = [None, None]
    candidates = [
        (dport & (0xFFFF << (16 - plen)) & 0xFFFF, proto, plen) for plen in range(16, -1, -1) if plens >> plen & 1
    ]
    for port, protocol, plen in [*candidates, (0, 0, 0)]:
        for peer in (peer_id, 0) if peer_id else (0,):
            key = abi.PolicyKey(set_id, peer, port, protocol, direction, plen)
            value = entries.get(key)
            if value is None:
                continue
            if value.present and (enforced is None or value.rank > enforced.rank):
                enforced, by[0] = value, key
            if value.audit_present and (audit is None or value.audit_rank > audit.audit_rank):
                audit, by[1] = value, key
    return Decision(
        verdict=abi.Verdict(enforced.verdict) if enforced else abi.Verdict.DENY,
        rank=enforced.rank if enforced else 0,
        rule_id=enforced.rule_id if enforced else 0,
        found=enforced is not None,
        audit_verdict=abi.Verdict(audit.audit_verdict) if audit else abi.Verdict.DENY,
        audit_rule_id=audit.audit_rule_id if audit else 0,
        audit_found=audit is not None,
        key=by[0],
        audit_key=by[1],
    )


class View:
    """The maps as the kernel's hooks see them. Built once for a Desired, then only asked."""

    def __init__(self, desired: compiler.Desired, has_proxy: bool = False) -> None:
        self._has_proxy = has_proxy
        self.policy: Mapping[abi.PolicyKey, abi.PolicyValue] = desired["policy"]  # type: ignore[assignment]
        self.ipcache = desired["ipcache"]
        self.endpoints = desired["endpoints"]
        self.endpoint_ips = desired["endpoint_ips"]
        lengths = {key.prefixlen for key in self.ipcache if isinstance(key, abi.IpcacheKey)}
        self._masks = [(n, ((1 << n) - 1) << (128 - n)) for n in sorted(lengths, reverse=True)]

    def identity(self, ip: str) -> int:
        """Return the identity of the longest range that ip is in."""
        address = int.from_bytes(record.pack_addr(ip), "big")
        for length, mask in self._masks:
            value = self.ipcache.get(abi.IpcacheKey(length, (address & mask).to_bytes(16, "big")))
            if isinstance(value, abi.IpcacheValue):
                return value.identity
        return int(abi.ReservedIdentity.UNKNOWN)

    def endpoint_id(self, ip: str) -> int:
        """Return the number of the endpoint of this node that has ip, 0 for none."""
        ref = self.endpoint_ips.get(abi.AddrKey(record.pack_addr(ip)))
        return ref.id if isinstance(ref, abi.EndpointRef) else 0

    def endpoint(self, ip: str) -> abi.Endpoint | None:
        """Return the enrolled endpoint of this node that has ip."""
        found = self.endpoints.get(abi.EndpointKey(self.endpoint_id(ip)))
        return found if isinstance(found, abi.Endpoint) else None

    def decide(self, endpoint: abi.Endpoint, direction: int, peer_id: int, proto: int, dport: int) -> Decision:
        """Return what one endpoint's policy says; one that is not enrolled yet is closed."""
        if not endpoint.flags & abi.EndpointFlag.ENROLLED:
            return DENIED
        plens = endpoint.egress_plens if direction == abi.Direction.EGRESS else endpoint.ingress_plens
        found = lookup(self.policy, endpoint.set_id, plens, direction, peer_id, proto, dport)
        if self._has_proxy and proto in (abi.Proto.TCP, abi.Proto.UDP):
            return dataclasses.replace(found, has_proxy=True)
        return found


def evaluate_pair(view: View, source: str, destination: str, proto: int, dport: int) -> Pair:
    """Return what both ends say to a connection from source to destination; for ICMP, dport is the type.

    Policy has no say where both are addresses of one endpoint.
    """
    from_id, to_id = view.identity(source), view.identity(destination)
    sender, receiver = view.endpoint(source), view.endpoint(destination)
    if sender and view.endpoint_id(source) == view.endpoint_id(destination):
        sender = receiver = None
    return Pair(
        view.decide(sender, abi.Direction.EGRESS, to_id, proto, dport) if sender else None,
        view.decide(receiver, abi.Direction.INGRESS, from_id, proto, dport) if receiver else None,
        from_id,
        to_id,
    )
