"""One call held against all policies: what both ends say, who decides, and what would have allowed it."""

import dataclasses
from collections.abc import Sequence

from control import evaluate, identity, model, places, policy_set
from control.analysis import said, world
from control.policy import looking, request, resolve, words
from loader import abi

ALLOWED, DENIED, UNENFORCED = said.ALLOWED, said.DENIED, "unenforced"


@dataclasses.dataclass(frozen=True)
class Call:
    """What is asked about. `port`: of ICMP the type, 0 for what has no ports. Nothing of `http`, `server_name` (of a
    TLS client) and `query` (of DNS): only whether a connection may be opened.
    """

    source: world.End
    destination: world.End
    proto: int
    port: int
    http: request.Request | None = None
    server_name: str = ""
    query: str = ""

    @property
    def is_within_a_pod(self) -> bool:
        """Tell whether a pod calls itself; what stands for many pods may call another one of them."""
        workload = self.source.workload
        return workload is not None and workload is self.destination.workload and workload.kind == "Pod"


@dataclasses.dataclass(frozen=True)
class Author:
    """Who says something: a policy, its rule ("" where selecting the pod is all it does), and where that is written."""

    kind: str
    namespace: str
    name: str
    rule: str
    source: str

    def __str__(self) -> str:
        name = f"{self.namespace}/{self.name}" if self.namespace else self.name
        return " ".join(filter(None, (self.kind, name, self.rule)))


@dataclasses.dataclass(frozen=True)
class Nearest:
    """A rule that allows the most of what was asked; `lacks` is what it does not allow, `wants` what it does."""

    author: Author
    lacks: tuple[str, ...]
    wants: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Side:
    """What one end says. `http`: what rules for requests say of this one; `name`: what those for TLS server names and
    DNS queries do. `audited_by`: it passes only because who would refuse it is in audit mode. `some`: what rules for
    bytes count here ("http", "dns", "server_name"), where nothing was asked about these; `rules`: all of them.
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
        refusing = dataclasses.replace(found.ingress, verdict=DENIED, some="", audited_by=None, nothing=True)
        return Trace(found.egress, refusing)
    return found


def sees_queries(known: world.World, call: Call) -> bool:
    """Tell whether the proxy sees what the caller asks DNS for, and so learns addresses of names from it."""
    workload = call.source.workload
    rules = known.policy(workload).rules if workload is not None else ()
    enforced = [rule for rule in rules if rule.direction == abi.Direction.EGRESS and not rule.audit]
    denies = [rule for rule in enforced if rule.verdict == abi.Verdict.DENY]
    return any(rule.l7 and rule.l7.dns and not _is_denied(rule, denies) for rule in enforced)


def _is_denied(rule: resolve.ResolvedRule, denies: Sequence[resolve.ResolvedRule]) -> bool:
    """Tell whether all that a rule with ports allows is denied, each of its ports by one deny."""
    around = [deny for deny in denies if deny.peers is None or set(rule.peers or (None,)) <= set(deny.peers)]
    return all(
        any(deny.ports is None or looking.are_around(deny.ports, spec) for deny in around) for spec in rule.ports or ()
    )


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
    nearest = _nearest(known, workload, direction, peer, call) if refused and not said.are_two(rules) else None
    some = "" if told or nothing else said.kind(rules)
    if decision.verdict == abi.Verdict.PROXY and not refused:
        key = _letting(known, workload, direction, peer.identity, call, rules, key)
    own_node = refused and peer.is_node and (not peer.on_node or not workload.node)
    if own_node:
        host = int(abi.ReservedIdentity.HOST)
        own_node = known.decide(workload, direction, host, call.proto, call.port).verdict == abi.Verdict.ALLOW
    verdict, audited_by = (DENIED, None) if refused else (ALLOWED, audited_by)
    return Side(verdict, author(known, key), http, audited_by, nearest, some, name, own_node, nothing, rules=rules)


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


def author(known: world.World, key: str) -> Author | None:
    """Return who says what is kept under a rule's key."""
    if not key:
        return None
    policy, path, source = known.sources[key]
    if policy is None:
        return Author("Reserved", "", key.removeprefix("Reserved//").removesuffix("#"), "", "")
    return Author(policy.kind, policy.namespace, policy.name, path if path.endswith("]") else "", source)


# --- what would have allowed it --------------------------------------------------------------------------------------


def _nearest(
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
    if rule.l7 is not None and said.verdict((rule.l7,), call) == DENIED:
        lacks["request"] = words.l7_word(rule.l7)
    return lacks
