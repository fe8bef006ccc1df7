"""What rules say that is not served everywhere: what needs the node proxy, and entities that are nobody here.

All words for what a node without the proxy does not serve are here: of bytes NEEDS_PROXY and `by_proxy`, of DNS names,
which it learns, LEARNS_NAMES and `by_name`. Files alone do not tell whether a node has it; an agent knows.
"""

from collections.abc import Iterator

from control import model, places
from control.policy import kinds, looking, refer, selectors
from control.source import remarks
from loader import abi

REMEDY = "start the agent with --proxy, and `sockmesh proxy`"
NEEDS_PROXY = f"the node needs the proxy for it: {REMEDY}"
LEARNS_NAMES = (
    f"addresses of that name are those that the node proxy has learned ({REMEDY}); others are judged by the other "
    "rules alone"
)

_NOBODY = (model.Entity.HEALTH, model.Entity.INGRESS, model.Entity.INIT)


def by_proxy(snapshot: model.Snapshot, has_none: bool = False) -> Iterator[model.Problem]:
    """Yield a problem for each kind of bytes that a policy lets something through for, at its first such rule that
    has an effect: where one for another kind of bytes shuts it, a proxy lets nothing through either. `has_none`: it is
    known that there is no proxy.
    """
    effect = ": what it allows is refused" if has_none else ""
    snapshot = refer.with_audits(snapshot)
    looks, shut = looking.looks(snapshot), kinds.shut(snapshot)
    for policy in snapshot.policies:
        first: dict[str, model.Rule] = {}
        for rule in (rule for section in policy.sections for rule in section.rules):
            if id(rule) not in shut and any(not look.by for look in looks.get(id(rule), ())):
                first.setdefault(kinds.kind(rule.l7), rule)
        first.pop("", None)  # it lets nothing through
        for asked, rule in first.items():
            message = f"{asked} needs the node proxy{effect} ({REMEDY})"
            yield remarks.of_policy(policy, rule.path, rule.source, message)


def by_name(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each rule that means DNS names: without a proxy a deny of them is open."""
    for policy in snapshot.policies:
        for rule, *_ in (item for section in policy.sections for item in remarks.items(section)):
            if any(isinstance(peer, model.NamePeer) for peer in rule.peers or ()):
                done = "denies" if rule.verdict == abi.Verdict.DENY else "allows"
                message = f"toFQDNs {done} nothing without the node proxy, which learns names ({REMEDY})"
                yield remarks.of_policy(policy, rule.path, rule.source, message)


def entities(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each rule whose entity, or reserved label, is nobody here, or only with an option of the
    agent's.
    """
    nobody = dict.fromkeys((entity.value for entity in _NOBODY), "nobody is that here")
    if not places.api_server_of(snapshot.services):
        nobody[model.Entity.KUBE_APISERVER.value] = "no endpoints of the service default/kubernetes say where that is"
    # Files do not tell whether the agent has one; where it has none, what this is to mean is `world`.
    nobody[model.Entity.UNMANAGED.value] = "nobody is that where the agent has no --cluster-cidr"
    for policy in snapshot.policies:
        told: set[tuple[str, model.Peer]] = set()  # a rule whose ports differ in L7 is several
        for rule in (rule for section in policy.sections for rule in section.rules):
            for peer in rule.peers or ():
                called, names = _reserved(peer)
                why = next((nobody[name] for name in names if name in nobody), "")
                if why and (rule.path, peer) not in told:
                    told.add((rule.path, peer))
                    done = "denies" if rule.verdict == abi.Verdict.DENY else "allows"
                    there = "" if len(rule.peers or ()) == 1 else " there"
                    message = f"{called}: {why}, so this rule {done} nothing{there}"
                    yield remarks.of_policy(policy, rule.path, rule.source, message)


def is_nobody(peer: model.Peer) -> bool:
    """Tell whether a peer is nobody here, whatever files declare."""
    _, names = _reserved(peer)
    return any(name in (*(entity.value for entity in _NOBODY), model.Entity.NONE.value) for name in names)


def _reserved(peer: model.Peer) -> tuple[str, tuple[str, ...]]:
    """Return what a peer that is no workload is called, and the entities that it must be."""
    if isinstance(peer, model.Entity):
        return f"entity {peer.value}", (peer.value,)
    names = selectors.reserved(peer) if isinstance(peer, model.Selector) else ()
    return " ".join(f"reserved:{name}" for name in names), names
