"""What rules say that is read here and not served by this version.

NEEDS_PROXY and `by_proxy` are all that is said anywhere of the proxy that is missing: they go when it comes.
"""

from collections.abc import Iterator

from control import model, places
from control.source import portnames
from loader import abi

NEEDS_PROXY = "this version refuses it all the same: what looks into bytes needs the proxy, which it does not have yet"

_NOBODY = (model.Entity.HEALTH, model.Entity.INGRESS, model.Entity.INIT)


def by_proxy(snapshot: model.Snapshot) -> Iterator[model.Problem]:
    """Yield a problem for each policy that lets something through for what its bytes say."""
    for policy in snapshot.policies:
        rules = (rule for section in policy.sections for rule in section.rules if not section.of_nodes)
        asking = next((rule for rule in rules if rule.ports != () and kind(rule.l7)), None)
        if asking is not None:
            message = f"{kind(asking.l7)} needs the proxy, which this version does not have: what it allows is refused"
            yield portnames.problem_at(asking.source, f"{portnames.shown(policy)} {asking.path}", message)


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
                    yield portnames.problem_at(rule.source, f"{portnames.shown(policy)} {rule.path}", message)
