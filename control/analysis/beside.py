"""What no pair shows: requests that a proxy decides on, DNS names, nodes' own traffic.

Rules are compared as they are written, peer by peer and port by port, whatever their policy is called. Whether one
opens what another one had open in other words is not worked out: a check should rather refuse too much.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from control import identity, model
from control.analysis.portset import PROTOCOLS
from control.policy import dnsnames, refer, selectors
from loader import abi

_ANYTHING = (*PROTOCOLS, abi.Proto.ANY)
_EVERYBODY = model.PortSpec(abi.Proto.ANY)


class Beside(NamedTuple):
    """Something that may have been opened: what, by which policy or workload, and the file that says so."""

    what: str
    where: str
    source: str

    def jsonable(self) -> dict[str, Any]:
        return self._asdict()


class _Place(NamedTuple):
    """Where something is decided; `peer` and `port` None: any."""

    of_nodes: bool
    subject: model.Selector
    direction: abi.Direction
    peer: model.Peer | None
    port: model.PortSpec | None


class _Item(NamedTuple):
    """What is allowed or denied at a place; `request` None: whatever the bytes say."""

    place: _Place
    is_deny: bool
    request: model.HttpRule | model.NamePeer | str | None

    @property
    def is_in_no_pair(self) -> bool:
        place = self.place
        return place.of_nodes or self.request is not None or isinstance(place.peer, model.NamePeer)


@dataclasses.dataclass(frozen=True)
class _Side:
    """All that one snapshot enforces, each with the policy and the file that say so first."""

    items: dict[_Item, tuple[str, str]]
    defaults: dict[tuple[bool, model.Selector, abi.Direction], tuple[str, str]]  # where what is not allowed is refused


def _side(snapshot: model.Snapshot) -> _Side:
    side = _Side({}, {})
    for policy in refer.written_out(snapshot).policies:
        for section in policy.sections:
            if section.audit:
                continue
            for direction in sorted(section.default_deny):
                said = policy.key, section.source or policy.source
                side.defaults.setdefault((section.of_nodes, section.subject, direction), said)
            for rule in section.rules:
                for item in _items(section, rule):
                    side.items.setdefault(item, (policy.key, rule.source or section.source or policy.source))
    return side


def _items(section: model.Section, rule: model.Rule) -> Iterator[_Item]:
    # A policy that refuses nothing does not look inside the bytes either.
    l7 = rule.l7 if rule.direction in section.default_deny else None
    for peer in (None,) if rule.peers is None else rule.peers:
        for port in (None,) if rule.ports is None else rule.ports:
            place = _Place(section.of_nodes, section.subject, rule.direction, peer, port)
            for request in (None,) if l7 is None else _requests(l7):
                yield _Item(place, rule.verdict == abi.Verdict.DENY, request)


def _requests(l7: model.L7Rules) -> list[model.HttpRule | model.NamePeer | str]:
    return [*(l7.http or ()), *(l7.dns or ()), *(l7.server_names or ())] or [""]  # "": no request at all


def names(snapshot: model.Snapshot) -> tuple[str, ...]:
    """Return the names and patterns whose addresses enforced rules allow or deny, sorted."""
    peers = (item.place.peer for item in _side(snapshot).items)
    return tuple(sorted({dnsnames.show(peer) for peer in peers if isinstance(peer, model.NamePeer)}))


def kinds(snapshot: model.Snapshot) -> tuple[str, ...]:
    """Return in words what the pairs of a snapshot do not show, apart from names."""
    items = [item for item in _side(snapshot).items if not item.place.of_nodes]
    bound = {item.place for item in items if item.request is not None}
    protocols = {
        item.place.port.proto.name for item in items if item.place.port and item.place.port.proto not in _ANYTHING
    }
    out = [f"that {len(bound)} of the rules' ports are open for some requests only"] if bound else []
    return (*out, *([f"what rules say of {', '.join(sorted(protocols))}"] if protocols else []))


def opened(old: model.Snapshot, new: model.Snapshot) -> tuple[Beside, ...]:
    """Return what new may open beside all pairs. Nothing is where both say the same."""
    before, after = _side(old), _side(new)
    found = [*_allowed(before, after), *_no_longer_bound(before, after), *_no_longer_denied(before, after)]
    return (*dict.fromkeys(found), *_escaped(old, new), *_relabelled(old, new, {**before.items, **after.items}))


def _allowed(before: _Side, after: _Side) -> Iterator[Beside]:
    """Yield what only new allows, where old may have refused it."""
    refused = {(of_nodes, direction) for of_nodes, _, direction in before.defaults}
    bound = [item.place for item in before.items if item.request is not None]
    for item, (where, source) in after.items.items():
        place = item.place
        if item in before.items or item.is_deny or item.request == "" or not item.is_in_no_pair:
            continue
        # Of what was open for all requests, and nowhere for some only, no request is new.
        free = item._replace(request=None) in before.items
        if free and not any(_meet(place, other) for other in bound):
            continue
        if (place.of_nodes, place.direction) in refused:
            yield Beside(_words(item), where, source)


def _no_longer_bound(before: _Side, after: _Side) -> Iterator[Beside]:
    """Yield what was open for some requests only and may be for all now."""
    still = {item.place for item in after.items if item.request is not None}
    free = {item.place: said for item, said in after.items.items() if item.request is None and not item.is_deny}
    added = {place: said for place, said in free.items() if _Item(place, False, None) not in before.items}
    for place, (where, source) in {i.place: said for i, said in before.items.items() if i.request is not None}.items():
        what = f"any request, {_at(place)}"
        if (place.of_nodes, place.subject, place.direction) not in after.defaults:
            yield Beside(what, where, source)
        for other, said in (added if place in still else free).items():
            # A rule for the same peer and ports takes the place of one for requests; beside others, that one rules.
            same = (other.peer, other.port) == (place.peer, place.port)
            if _meet(place, other) and (same or place not in still):
                yield Beside(what, *said)


def _no_longer_denied(before: _Side, after: _Side) -> Iterator[Beside]:
    for item, said in before.items.items():
        if item.is_deny and item not in after.items and item.is_in_no_pair:
            yield Beside(f"no longer denied: {_words(item)}", *said)
    for key, said in before.defaults.items():
        if key[0] and key not in after.defaults:
            yield Beside(f"{key[2].name.lower()} of nodes, no longer denied by default", *said)


def _escaped(old: model.Snapshot, new: model.Snapshot) -> Iterator[Beside]:
    """Yield the workloads that moved to their node's network: no policy of pods is theirs any more."""
    own = {(w.kind, w.namespace, w.name) for w in old.workloads if not w.host_network}
    for w in new.workloads:
        if w.host_network and (w.kind, w.namespace, w.name) in own:
            yield Beside("on the network of its node, where no policy of pods holds", f"{w.kind} {w}", w.source)


def _relabelled(old: model.Snapshot, new: model.Snapshot, items: Iterable[_Item]) -> Iterator[Beside]:
    """Yield the workloads that other rules are about than before, where there are rules for requests: which of these
    that opens is not worked out."""
    if all(item.request is None for item in items):
        return
    asked = {s for item in items for s in (item.place.subject, item.place.peer) if isinstance(s, model.Selector)}
    were = {(w.kind, str(w)): labels for w, labels in _labelled(old)}
    for w, labels in _labelled(new):
        before = were.get((w.kind, str(w)), labels)
        if labels != before and _of(asked, labels) != _of(asked, before):
            yield Beside("requests, because other rules hold for its labels", f"{w.kind} {w}", w.source)


def _labelled(snapshot: model.Snapshot) -> Iterator[tuple[model.Workload, tuple[str, ...]]]:
    namespaces = {namespace.name: namespace for namespace in snapshot.namespaces}
    return ((w, identity.labels_of(w, namespaces)) for w in snapshot.workloads)


def _of(asked: Iterable[model.Selector], labels: tuple[str, ...]) -> set[model.Selector]:
    values = selectors.values_of(labels)
    return {selector for selector in asked if selectors.fulfils(selector, values)}


def _meet(one: _Place, other: _Place) -> bool:
    """Tell whether both may be about one packet; labels are not worked out, only namespaces are."""
    if (one.of_nodes, one.direction) != (other.of_nodes, other.direction):
        return False
    left, right = _namespaces(one.subject), _namespaces(other.subject)
    if left is not None and right is not None and not left & right:
        return False
    a, b = one.port or _EVERYBODY, other.port or _EVERYBODY
    if a.proto != b.proto and abi.Proto.ANY not in (a.proto, b.proto):
        return False
    return bool(a.name or b.name) or max(a.first, b.first) <= min(a.last, b.last)


def _namespaces(subject: model.Selector) -> frozenset[str] | None:
    for asked in subject.requirements:
        if asked.key == model.NAMESPACE_KEY and asked.operator is model.Operator.IN:
            return frozenset(asked.values)
    return None


def _words(item: _Item) -> str:
    request = item.request
    if isinstance(request, model.HttpRule):
        said = " ".join(filter(None, (request.method, request.host, request.path))) or "any"
        headers = f" with {', '.join(header.name for header in request.headers)}" if request.headers else ""
        what = f"http requests {said}{headers}, "
    elif isinstance(request, model.NamePeer):
        what = f"DNS queries for {dnsnames.show(request)}, "
    else:
        what = f"TLS name {request}, " if request else ""
    return what + _at(item.place)


def _at(place: _Place) -> str:
    port = place.port
    if port is None:
        ports = "all ports"
    elif port.proto not in _ANYTHING:
        ports = port.proto.name + (
            f" type {port.first}" if port.first == port.last and "ICMP" in port.proto.name else ""
        )
    elif port.name:
        ports = f"{port.proto.name} {port.name}"
    else:
        ports = f"{port.proto.name} {port.first}" + (f"-{port.last}" if port.last != port.first else "")
    name = f" DNS name {dnsnames.show(place.peer)}," if isinstance(place.peer, model.NamePeer) else ""
    return f"{place.direction.name.lower()}{' of nodes' if place.of_nodes else ''},{name} {ports}"
