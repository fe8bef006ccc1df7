"""What rules say that is read here and not served by this version.

What is said anywhere of the proxy that is missing is all here, and goes when it comes: of bytes NEEDS_PROXY and
`by_proxy`, of DNS names, which it learns, LEARNS_NO_NAMES and `by_name`.
"""

from collections.abc import Iterator

from control import model, places
from control.source import remarks
from loader import abi

NEEDS_PROXY = "this version refuses it all the same: what looks into bytes needs the proxy, which it does not have yet"
LEARNS_NO_NAMES = (
    "no proxy learns names yet, so in this version toFQDNs allows and denies nothing: an address of that name is "
    "judged by the other rules alone"
)

_NOBODY = (model.Entity.HEALTH, model.Entity.INGRESS, model.Entity.INIT)


def by_proxy(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each kind of bytes that a policy lets something through for, at its first such rule."""
    for policy in snapshot.policies:
        first: dict[str, model.Rule] = {}
        for rule in (rule for section in policy.sections if not section.of_nodes for rule in section.rules):
            if rule.ports != () and (asked := kind(rule.l7)):
                first.setdefault(asked, rule)
        for asked, rule in first.items():
            message = f"{asked} needs the proxy, which this version does not have: what it allows is refused"
            yield remarks.of_policy(policy, rule.path, rule.source, message)


def by_name(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each rule that means DNS names: a deny of them is open, so none may go untold."""
    for policy in snapshot.policies:
        first: dict[str, model.Rule] = {}  # a rule whose ports differ in L7 is several
        for rule in (rule for section in policy.sections for rule in section.rules):
            if any(isinstance(peer, model.NamePeer) for peer in rule.peers or ()):
                first.setdefault(rule.path, rule)
        for path, rule in first.items():
            done = "denies" if rule.verdict == abi.Verdict.DENY else "allows"
            message = f"toFQDNs {done} nothing in this version: no proxy learns names yet"
            yield remarks.of_policy(policy, path, rule.source, message)


def kind(asked: model.L7Rules | None) -> str:
    """Return the field that asks of bytes what a rule asks; nothing where it asks nothing, or lets nothing through."""
    if asked is None:
        return ""
    fields = (("rules.http", asked.http), ("rules.dns", asked.dns), ("serverNames", asked.server_names))
    return next((name for name, given in fields if given), "")


def entities(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each rule whose entity is nobody here."""
    nobody = dict.fromkeys(_NOBODY, "nobody is that here")
    if not places.api_server_of(snapshot.services):
        nobody[model.Entity.KUBE_APISERVER] = "no endpoints of the service default/kubernetes say where that is"
    for policy in snapshot.policies:
        told: set[tuple[str, model.Peer]] = set()  # a rule whose ports differ in L7 is several
        for rule in (rule for section in policy.sections for rule in section.rules):
            for peer in rule.peers or ():
                if isinstance(peer, model.Entity) and peer in nobody and (rule.path, peer) not in told:
                    told.add((rule.path, peer))
                    done = "denies" if rule.verdict == abi.Verdict.DENY else "allows"
                    there = "" if len(rule.peers or ()) == 1 else " there"
                    message = f"entity {peer.value}: {nobody[peer]}, so this rule {done} nothing{there}"
                    yield remarks.of_policy(policy, rule.path, rule.source, message)
