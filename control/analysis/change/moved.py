"""Workloads, nodes and ports that other rules are about than before, though no rule has changed: pure.

Pairs show what that opens by address. What it opens by name, or for which requests, is not worked out, only told of;
nor is what pods that no file declares call ports.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from control import identity, model, places
from control.analysis.change import around, placed, written
from control.analysis.change.around import Values
from control.analysis.change.called import Words
from control.analysis.change.written import Beside, Item, Said, Written
from control.policy import selectors
from loader import abi


def moved(old: model.Snapshot, new: model.Snapshot, both: tuple[Written, Written], called: Words) -> Iterator[Beside]:
    """Yield what changed about ends for which some of the rules, old and new, are in no pair."""
    items = {**both[0].items, **both[1].items}
    yield from _escaped(old, new, any(each.items or each.defaults for each in both), called)
    yield from _sharing(old, new, items)
    about = {i: None for i in items if i.request is not None or isinstance(i.place.peer, model.NamePeer)}
    if about:
        deciding = {item: items[item] for item in _deciding(items, about, both)}
        yield from _relabelled(old, new, deciding, about)
        yield from _new(old, new, about, called)
        yield from _ports(old, new, deciding)
    of_nodes = any(item.place.of_nodes for item in items)
    if about or of_nodes:
        yield from _freed(old, new, called)
    # Where requests of pods only are bound, those of all others are free wherever these are.
    if of_nodes or not all(written.is_of_pods(item.place.peer) for item in about):
        yield from _elsewhere(old, new, called)
        yield from _nodes(old, new)
    elif about and any(isinstance(item.place.peer, model.NodePeer) for item in items):
        yield from _nodes(old, new)


def _deciding(items: Iterable[Item], about: Collection[Item], both: tuple[Written, Written]) -> Iterator[Item]:
    """Yield the rules that decide of requests and names: those about them, and those that may take their place."""
    bound = {(i.place.direction, i.place.peer, i.place.port) for i in about if i.request is not None}
    unbound = both[0].unbound.keys() | both[1].unbound.keys()
    has_names = any(isinstance(item.place.peer, model.NamePeer) for item in about)
    for item in items:
        place = item.place
        takes = (place.direction, place.peer, place.port) in bound or place in unbound
        # What is denied by address may be where a name leads.
        if item in about or takes or (has_names and item.is_deny and not isinstance(place.peer, model.Selector)):
            yield item


def _escaped(old: model.Snapshot, new: model.Snapshot, has_rules: bool, called: Words) -> Iterator[Beside]:
    """Yield the workloads that are on their node's network now: no policy of pods is theirs."""
    were = {(w.kind, str(w)): w.host_network for w in old.workloads}
    for w in new.workloads:
        before = were.get((w.kind, str(w)))
        if w.host_network and (before is False or (before is None and has_rules)):
            yield Beside(called.on_host, f"{w.kind} {w}", w.source)


def _relabelled(
    old: model.Snapshot, new: model.Snapshot, items: Mapping[Item, Said], about: Collection[Item]
) -> Iterator[Beside]:
    """Yield the workloads, and the namespaces, that have other labels now for which other rules hold."""
    were = {(w.kind, str(w)): labels for w, labels in identity.labelled(old)}
    for w, labels in identity.labelled(new):
        before = were.get((w.kind, str(w)), labels)
        if labels != before:
            values = selectors.values_of(before), selectors.values_of(labels)
            yield from _held(items, about, *values, lambda selector: selector, f"{w.kind} {w}", w.source)
    for namespace, was, now in around.of_namespaces(old, new):
        yield from _held(items, about, was, now, around.of_namespace, f"Namespace {namespace.name}", namespace.source)


def _held(
    items: Mapping[Item, Said],
    about: Collection[Item],
    was: Values,
    now: Values,
    part: Callable[[model.Selector], model.Selector],
    who: str,
    source: str,
) -> Iterator[Beside]:
    """Yield the first rule that holds for one of two label sets only; `part`: what of selectors is asked."""

    def holds(selector: model.Selector, values: Values) -> bool:
        return selectors.fulfils(part(selector), values)

    bound = {item.place.direction for item in about if holds(item.place.subject, now)}
    for item in items:
        if item not in about and item.place.direction not in bound:
            continue  # there is nothing that it could take the place of
        for selector in (item.place.subject, item.place.peer):
            if isinstance(selector, model.Selector) and holds(selector, was) != holds(selector, now):
                rule = f"{written.item_words(item)} ({items[item][0]})"
                yield Beside(f"requests or names, because of its labels: {rule}", who, source)
                return


def _new(old: model.Snapshot, new: model.Snapshot, about: Iterable[Item], called: Words) -> Iterator[Beside]:
    """Yield the workloads that old has not and that rules let call by names."""
    calling = {item.place.subject for item in about if isinstance(item.place.peer, model.NamePeer) and not item.is_deny}
    known = {(w.kind, str(w)) for w in old.workloads}
    for w, labels in identity.labelled(new):
        if (w.kind, str(w)) not in known and _of(calling, labels):
            yield Beside(called.new_names, f"{w.kind} {w}", w.source)


def _ports(old: model.Snapshot, new: model.Snapshot, items: Iterable[Item]) -> Iterator[Beside]:
    """Yield the workloads whose labels stand for other ports by a name that some rule uses, those that are gone too."""
    used = {item.place.port.name for item in items if item.place.port is not None and item.place.port.name}
    for w, _ in around.renamed(old, new, used):
        yield Beside("requests or names, because it calls other ports so", f"{w.kind} {w}", w.source)


def _sharing(old: model.Snapshot, new: model.Snapshot, items: Mapping[Item, Said]) -> Iterator[Beside]:
    """Yield the workloads that share the names of ports with other pods than before, where a rule asks for such a name.

    At egress a name is what all pods with the same labels call so, and no file may declare these.
    """
    by_name = [
        item
        for item in items
        if item.place.direction == abi.Direction.EGRESS and item.place.port is not None and item.place.port.name
    ]
    for w, was, now in _others_beside(old, new) if by_name else ():
        for item in by_name:
            # What a rule allowed, or denies now, closes. One for requests binds what it means, so it may free as well.
            allows = not item.is_deny and item.request != written.NOTHING and _means(item.place.peer, now)
            refused = (item.is_deny or item.request is not None) and _means(item.place.peer, was)
            if allows or refused:
                rule = f"{written.item_words(item)} ({items[item][0]})"
                what = f"ports that undeclared pods with its labels may call so: {rule}"
                yield Beside(what, f"{w.kind} {w}", w.source)
                break


def _others_beside(
    old: model.Snapshot, new: model.Snapshot
) -> Iterator[tuple[model.Workload, Values | None, Values | None]]:
    """Yield the workloads that have their labels in common with other pods now, with the values of these before and
    now; None where policy takes it for no pod. Labels of a namespace are those of all its pods.
    """
    were = {(w.kind, str(w)): (w, labels) for w, labels in identity.labelled(old) if not w.host_network}
    freed = {(w.kind, str(w)) for w in around.freed(old, new)}
    for w, labels in identity.labelled(new):
        before = were.get((w.kind, str(w)))
        was = selectors.values_of(before[1]) if before is not None else None
        if (w.kind, str(w)) in freed:
            yield w, was, None
        elif not w.host_network and (before is None or _own(before[0]) != _own(w)):
            yield w, was, selectors.values_of(labels)


def _own(w: model.Workload) -> tuple[str, Mapping[str, str], str]:
    return w.namespace, w.labels, w.service_account


def _means(peer: model.Peer | None, values: Values | None) -> bool:
    if values is None:
        return False
    return selectors.fulfils(peer, values) if isinstance(peer, model.Selector) else not written.is_of_no_pods(peer)


def _freed(old: model.Snapshot, new: model.Snapshot, called: Words) -> Iterator[Beside]:
    """Yield the pods whose addresses are outside now, where rules for pods bind nobody."""
    for w in around.freed(old, new):
        yield Beside(called.addressless, f"{w.kind} {w}", w.source)


def _elsewhere(old: model.Snapshot, new: model.Snapshot, called: Words) -> Iterator[Beside]:
    """Yield the workloads for which another node is their own now, and the API server where it is another one."""
    were, are = placed.nodes(old), placed.nodes(new)
    for w in new.workloads:
        nodes = are[w.kind, str(w)]
        if nodes != were.get((w.kind, str(w)), nodes):
            yield Beside("requests or names, because it is on another node", f"{w.kind} {w}", w.source)
    there = set(places.api_server_of(new.services))
    if there != set(places.api_server_of(old.services)):
        what = f"at {', '.join(sorted(there))}" if there else "nowhere"
        yield Beside(f"{called.api_server} {what}", "default/kubernetes", "")


def _nodes(old: model.Snapshot, new: model.Snapshot) -> Iterator[Beside]:
    """Yield the nodes that are others than before; the addresses of one that is gone are outside."""
    were, are = ({node.name: node for node in snapshot.nodes} for snapshot in (old, new))
    for name, node in {**were, **are}.items():
        seen = [(each[name].labels, each[name].ips) if name in each else None for each in (were, are)]
        if seen[0] != seen[1]:
            yield Beside("requests, because rules are about nodes", f"Node {name}", node.source)


def _of(asked: Iterable[model.Selector], labels: tuple[str, ...]) -> set[model.Selector]:
    values = selectors.values_of(labels)
    return {selector for selector in asked if selectors.fulfils(selector, values)}
