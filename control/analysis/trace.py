"""One call held against all policies: what both ends say, who decides, and what would have allowed it (nearest.py)."""

import dataclasses

from control import evaluate, model, policy_set
from control.analysis import said, world
from control.analysis.call import Author, Call, author
from control.analysis.nearest import Nearest, nearest
from loader import abi

ALLOWED, DENIED, UNENFORCED = said.ALLOWED, said.DENIED, "unenforced"


@dataclasses.dataclass(frozen=True)
class Side:
    """What one end says. `http`: what rules for requests say of this one; `name`: what those for TLS server names and
    DNS queries do. `audited_by`: it passes only because who would refuse it is in audit mode. `some`: what rules for
    bytes count here (one of model.KINDS), where nothing was asked about these; `rules`: all of them.
    `own_node`: it is refused to a node, and would not be to the pod's own. `nothing`: it is refused because the rules
    for bytes that count here, or these and the other end's, let nothing through. `only_audit`: nothing is enforced
    here, and policies in audit mode select this end.
    """

    verdict: str
    author: Author | None = None
    http: str | None = None
    audited_by: Author | None = None
    nearest: Nearest | None = None
    some: str = ""
    name: str | None = None
    own_node: bool = False
    nothing: bool = False
    only_audit: bool = False
    rules: policy_set.L7 = ()

    @property
    def audit(self) -> bool:
        """Tell whether it would be refused, were audits enforced."""
        return self.audited_by is not None

    @property
    def denied(self) -> bool:
        return self.verdict == DENIED


@dataclasses.dataclass(frozen=True)
class Trace:
    egress: Side
    ingress: Side

    @property
    def verdict(self) -> str:
        return DENIED if self.egress.denied or self.ingress.denied else ALLOWED

    @property
    def needs_proxy(self) -> bool:
        """Tell whether it is allowed for what its bytes say."""
        return self.verdict == ALLOWED and any(s.some or s.http or s.name for s in (self.egress, self.ingress))


def trace(known: world.World, call: Call) -> Trace:
    """Return what both ends' policies say; a pod that calls itself is asked nothing."""
    if call.is_within_a_pod:
        return Trace(Side(UNENFORCED), Side(UNENFORCED))
    found = Trace(
        _side(known, call.source.workload, abi.Direction.EGRESS, _seen_by(call.source, call.destination), call),
        _side(known, call.destination.workload, abi.Direction.INGRESS, _seen_by(call.destination, call.source), call),
    )
    if found.verdict == ALLOWED and said.are_two(found.egress.rules, found.ingress.rules):
        http, name = (each and DENIED for each in (found.ingress.http, found.ingress.name))
        refusing = dataclasses.replace(
            found.ingress, verdict=DENIED, some="", audited_by=None, nothing=True, http=http, name=name
        )
        return Trace(found.egress, refusing)
    return found


def _seen_by(one: world.End, peer: world.End) -> world.End:
    """Return a node as a pod of its own sees it: another identity than that of all other nodes."""
    own = peer.on_node and one.workload is not None and one.workload.node == peer.on_node
    return dataclasses.replace(peer, identity=int(abi.ReservedIdentity.HOST)) if own else peer


def _side(
    known: world.World, workload: model.Workload | None, direction: abi.Direction, peer: world.End, call: Call
) -> Side:
    if workload is None:
        return Side(UNENFORCED)
    decision = known.decide(workload, direction, peer.identity, call.proto, call.port)
    key = known.rule(decision.rule_id)
    audited_by = _audited_by(known, workload, direction, decision, peer.identity, call)
    if not key and decision.verdict == abi.Verdict.ALLOW:
        return Side(UNENFORCED, audited_by=audited_by, only_audit=bool(known.policy(workload).audits[direction].rule))
    rules = _requests(known, workload, decision, peer.identity, call)
    told = said.verdict(rules, call)
    http, name = (told, None) if call.http is not None else (None, told)
    nothing = said.is_nothing(rules)
    refused = decision.verdict == abi.Verdict.DENY or told == DENIED or nothing
    would = nearest(known, workload, direction, peer, call) if refused and not said.are_two(rules) else None
    some = "" if told or nothing else said.kind(rules)
    if decision.verdict == abi.Verdict.PROXY and not refused:
        key = _letting(known, workload, direction, peer.identity, call, rules, key)
    own_node = refused and peer.is_node and (not peer.on_node or not workload.node)
    if own_node:
        host = int(abi.ReservedIdentity.HOST)
        own_node = known.decide(workload, direction, host, call.proto, call.port).verdict == abi.Verdict.ALLOW
    verdict, audited_by = (DENIED, None) if refused else (ALLOWED, audited_by)
    return Side(verdict, author(known, key), http, audited_by, would, some, name, own_node, nothing, rules=rules)


def _letting(
    known: world.World,
    workload: model.Workload,
    direction: abi.Direction,
    peer: int,
    call: Call,
    rules: policy_set.L7,
    first: str,
) -> str:
    """Return the key of a rule that lets through what is asked about: `first`, where that is one."""
    found = [
        rule.by
        for rule in known.policy(workload).rules
        if (rule.verdict, rule.direction, rule.audit) == (abi.Verdict.PROXY, direction, False)
        and said.lets(rule.l7, rules, call)
        and known.is_peer(rule, peer)
        and known.is_port(rule, workload, peer, call.proto, call.port)
    ]
    return first if first in found or not found else found[0]


def _requests(
    known: world.World, workload: model.Workload, decision: evaluate.Decision, peer: int, call: Call
) -> policy_set.L7:
    """Return the rules that decide of a call's requests; none where it carries no requests to them."""
    if decision.verdict != abi.Verdict.PROXY or decision.key is None:
        return ()
    l7 = known.policy_set(workload, peer).l7
    return policy_set.rules_at(l7, decision.key.direction, peer, call.proto, call.port)


def _audited_by(
    known: world.World,
    workload: model.Workload,
    direction: abi.Direction,
    decision: evaluate.Decision,
    peer: int,
    call: Call,
) -> Author | None:
    """Return who would refuse a call, were audits enforced, as far as one policy can be named; None where nobody."""
    policy = known.policy(workload)
    if not (policy.has_audit and decision.audit_found and _would_refuse(known, workload, decision, peer, call)):
        return None
    return author(known, known.rule(decision.audit_rule_id) or policy.audits[direction].rule)


def _would_refuse(
    known: world.World, workload: model.Workload, decision: evaluate.Decision, peer: int, call: Call
) -> bool:
    if decision.audit_verdict != abi.Verdict.PROXY or decision.audit_key is None:
        return decision.audit_verdict == abi.Verdict.DENY
    rules = policy_set.rules_at(
        known.policy_set(workload, peer).audit_l7, decision.audit_key.direction, peer, call.proto, call.port
    )
    return said.verdict(rules, call) == DENIED or said.is_nothing(rules)
