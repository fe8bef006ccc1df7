"""Where a change is: the policies, and whom they mean, that it may have something to do with; pure.

Only there is it worth asking what it means for pods that no file declares.
"""

import functools
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from control import identity, model, places
from control.analysis.change import selecting, written
from control.analysis.change.undeclared import Around
from control.analysis.change.written import Written
from control.policy import selectors

Values = Mapping[tuple[str, str], set[str]]
_ANY_POD = model.Selector((selectors.IS_ENDPOINT,))
PODS = (None, model.Entity.ALL, model.Entity.CLUSTER, model.Entity.CLUSTER_MESH)


class Rule(NamedTuple):
    """Whom a rule is of, and whom it means; `peer` None: anybody. `port`: where it is one by name."""

    subject: model.Selector
    peer: model.Peer | None
    port: model.PortSpec | None = None


def around(changed: Collection[Rule], both: tuple[Written, Written]) -> Around:
    """Return whom the rules that a change is about are of and mean, and what else is asked of these; raises
    model.TooMuch.
    """
    about = {selector for rule in changed for selector in (rule.subject, _pods(rule.peer)) if selector is not None}
    rules = {rule._replace(port=None) for rule in _rules(both)}
    asking = {rule.subject for rule in rules}
    may_be_about = functools.cache(selecting.Meeting(about).has)
    for rule in rules:
        if isinstance(rule.peer, model.Selector) and may_be_about(rule.subject):
            asking.add(rule.peer)
    # A name that is denied may stand for a number that nobody asks for: it counts where the rule means others now.
    ports = {
        i.place.port for each in both for i in each.items if i.place.port and not (i.is_deny and i.place.port.name)
    } | {rule.port for rule in changed if rule.port is not None}
    return Around(frozenset(about), frozenset(asking), frozenset(ports))


def _pods(peer: model.Peer | None) -> model.Selector | None:
    if isinstance(peer, model.Selector):
        return peer
    return _ANY_POD if peer in PODS else None


def _rules(both: tuple[Written, Written]) -> Iterator[Rule]:
    for each in both:
        places = (item.place for item in each.items if not item.place.of_nodes)
        yield from (Rule(p.subject, p.peer, p.port if p.port and p.port.name else None) for p in places)
        yield from (Rule(subject, None) for of_nodes, subject, _ in each.defaults if not of_nodes)


def moved(old: model.Snapshot, new: model.Snapshot, both: tuple[Written, Written]) -> Iterator[Rule]:
    """Yield the rules that mean somebody else than before, or other ports, or are of somebody else, as they are
    written.
    """
    outside = _outside(old) != _outside(new) or any(freed(old, new))
    relabelled = list(_labels(old, new))
    rules = dict.fromkeys(_rules(both))
    used = {rule.port.name for rule in rules if rule.port is not None}
    naming = [selectors.values_of(labels) for labels in {labels for _, labels in renamed(old, new, used)}]
    in_namespaces = [(was, now) for _, was, now in of_namespaces(old, new)]

    @functools.cache
    def differs(selector: model.Selector) -> bool:
        own = of_namespace(selector)
        pairs = [*((selector, each) for each in relabelled), *((own, each) for each in in_namespaces)]
        return any(selectors.fulfils(asked, was) != selectors.fulfils(asked, now) for asked, (was, now) in pairs)

    @functools.cache
    def calls_others(peer: model.Peer | None) -> bool:
        return any(not isinstance(peer, model.Selector) or selectors.fulfils(peer, values) for values in naming)

    for rule in rules:
        means_others = (isinstance(rule.peer, model.Selector) and differs(rule.peer)) or (
            outside and not written.is_of_pods(rule.peer)
        )
        names_others = rule.port is not None and (calls_others(rule.subject) or calls_others(rule.peer))
        if differs(rule.subject) or means_others or names_others:
            yield rule


def of_namespace(selector: model.Selector) -> model.Selector:
    """Return what a selector asks of a pod's namespace."""
    prefix = model.NAMESPACE_LABEL_PREFIX
    asked = (r for r in selector.requirements if r.key == model.NAMESPACE_KEY or r.key.startswith(prefix))
    return model.Selector(tuple(asked))


def renamed(
    old: model.Snapshot, new: model.Snapshot, used: Collection[str]
) -> Iterator[tuple[model.Workload, tuple[str, ...]]]:
    """Yield the workloads whose labels stand for other ports by one of some names, with these; those gone, too.

    At egress a name is what all pods with the labels call so, so one that goes may free what another one has.
    """

    def called(snapshot: model.Snapshot) -> dict[object, set[model.ContainerPort]]:
        out: dict[object, set[model.ContainerPort]] = {}
        for w, labels in identity.labelled(snapshot):
            for key in ((w.kind, str(w)), _naming(w, labels)):
                out.setdefault(key, set()).update(port for port in w.ports if port.name in used)
        return out

    were, are = called(old), called(new)
    for w, labels in [*identity.labelled(new), *identity.labelled(old)]:
        keys = [key for key in ((w.kind, str(w)), _naming(w, labels)) if key in were and key in are]
        if any(were[key] != are[key] for key in keys):
            yield w, _naming(w, labels)


def _naming(w: model.Workload, labels: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a workload shares its port names by; what has a node's network is any node."""
    return (places.REMOTE_NODE,) if w.host_network else labels


def _labels(old: model.Snapshot, new: model.Snapshot) -> Iterator[tuple[Values, Values]]:
    """Yield the values of labels, before and now, of the workloads that have others now; nothing: it was not there."""
    were = {(w.kind, str(w)): labels for w, labels in identity.labelled(old) if not w.host_network}
    changed = {(were.get((w.kind, str(w)), ()), labels) for w, labels in identity.labelled(new) if not w.host_network}
    # Whoever has a pod's address that is outside now is no pod any more.
    lost = {(w.kind, str(w)) for w in freed(old, new)}
    changed |= {(labels, ()) for whose, labels in were.items() if whose in lost}
    return ((selectors.values_of(was), selectors.values_of(now)) for was, now in changed if was != now)


def of_namespaces(old: model.Snapshot, new: model.Snapshot) -> Iterator[tuple[model.Namespace, Values, Values]]:
    """Yield the namespaces with other labels, and what these make of a pod's before and now."""
    were, are = ({each.name: each for each in snapshot.namespaces} for snapshot in (old, new))
    for name, namespace in {**were, **are}.items():
        pod = model.Workload(name, "")
        was, now = identity.labels_of(pod, were), identity.labels_of(pod, are)
        if was != now:
            yield namespace, selectors.values_of(was), selectors.values_of(now)


def _outside(snapshot: model.Snapshot) -> object:
    """Return what decides whom rules mean that do not mean pods."""
    hosts = {(str(w), w.kind, w.node) for w in snapshot.workloads if w.host_network}
    nodes = {(node.name, node.ips, *sorted(node.labels.items())) for node in snapshot.nodes}
    return hosts, nodes, set(places.api_server_of(snapshot.services))


def freed(old: model.Snapshot, new: model.Snapshot) -> Iterator[model.Workload]:
    """Yield the pods that are still there and have lost their addresses, which are outside then."""
    had = {(w.kind, str(w)) for w in old.workloads if w.ips}
    return (w for w in new.workloads if (w.kind, str(w)) in had and not w.ips)
