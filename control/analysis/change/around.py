"""Where a change is: the policies, and whom they mean, that it may have something to do with; pure.

Only there is it worth asking what it means for pods that no file declares.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from control import identity, model, places
from control.analysis.change import written
from control.analysis.change.undeclared import Around
from control.analysis.change.written import Written
from control.policy import selectors

Values = Mapping[tuple[str, str], set[str]]
_ANY_POD = model.Selector((selectors.IS_ENDPOINT,))
_PODS = (None, model.Entity.ALL, model.Entity.CLUSTER, model.Entity.CLUSTER_MESH)


class Rule(NamedTuple):
    """Whom a rule is of, and whom it means; `peer` None: anybody."""

    subject: model.Selector
    peer: model.Peer | None


def around(changed: Iterable[Rule], both: tuple[Written, Written]) -> Around:
    """Return whom the rules that a change is about are of and mean, and what else is asked of these."""
    about = {selector for rule in changed for selector in (rule.subject, _pods(rule.peer)) if selector is not None}
    rules = {*_rules(both)}
    asking = {rule.subject for rule in rules}
    for rule in rules:
        if isinstance(rule.peer, model.Selector) and not all(written.apart(rule.subject, each) for each in about):
            asking.add(rule.peer)
    # Where a name is denied, it may stand for a number that nobody asks for.
    ports = {
        i.place.port for each in both for i in each.items if i.place.port and not (i.is_deny and i.place.port.name)
    }
    return Around(frozenset(about), frozenset(asking), frozenset(ports))


def _pods(peer: model.Peer | None) -> model.Selector | None:
    if isinstance(peer, model.Selector):
        return peer
    return _ANY_POD if peer in _PODS else None


def _rules(both: tuple[Written, Written]) -> Iterator[Rule]:
    for each in both:
        yield from (Rule(i.place.subject, i.place.peer) for i in each.items if not i.place.of_nodes)
        yield from (Rule(subject, None) for of_nodes, subject, _ in each.defaults if not of_nodes)


def moved(old: model.Snapshot, new: model.Snapshot, both: tuple[Written, Written]) -> Iterator[Rule]:
    """Yield the rules that mean somebody else than before, or are of somebody else, as they are written."""
    outside = _outside(old) != _outside(new) or _is_freed(old, new)
    labels = list(_labels(old, new))
    in_namespaces = [(was, now) for _, was, now in of_namespaces(old, new)]

    @functools.cache
    def differs(selector: model.Selector) -> bool:
        own = of_namespace(selector)
        pairs = [*((selector, each) for each in labels), *((own, each) for each in in_namespaces)]
        return any(selectors.fulfils(asked, was) != selectors.fulfils(asked, now) for asked, (was, now) in pairs)

    for rule in dict.fromkeys(_rules(both)):
        if differs(rule.subject) or (differs(rule.peer) if isinstance(rule.peer, model.Selector) else outside):
            yield rule


def of_namespace(selector: model.Selector) -> model.Selector:
    """Return what a selector asks of a pod's namespace."""
    prefix = model.NAMESPACE_LABEL_PREFIX
    asked = (r for r in selector.requirements if r.key == model.NAMESPACE_KEY or r.key.startswith(prefix))
    return model.Selector(tuple(asked))


def _labels(old: model.Snapshot, new: model.Snapshot) -> Iterator[tuple[Values, Values]]:
    """Yield the values of labels, before and now, of the workloads that have others now; nothing: it was not there."""
    were = {(w.kind, str(w)): labels for w, labels in identity.labelled(old) if not w.host_network}
    changed = {(were.get((w.kind, str(w)), ()), labels) for w, labels in identity.labelled(new) if not w.host_network}
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
    hosts = {(str(w), w.kind, w.node, w.ports) for w in snapshot.workloads if w.host_network}
    nodes = {(node.name, node.ips, *sorted(node.labels.items())) for node in snapshot.nodes}
    return hosts, nodes, set(places.api_server_of(snapshot.services))


def _is_freed(old: model.Snapshot, new: model.Snapshot) -> bool:
    """Tell whether a pod that is still there has lost its addresses, which are outside then."""
    had = {(w.kind, str(w)) for w in old.workloads if w.ips}
    return any((w.kind, str(w)) in had and not w.ips for w in new.workloads)
