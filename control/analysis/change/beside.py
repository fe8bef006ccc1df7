"""What no pair shows: requests that a proxy decides on, DNS names, nodes' own traffic, whoever no manifest declares.

Rules are compared as they are written, peer by peer and port by port, whatever their policy is called. Where more than
ports and known peers counts, whether one opens what others had open in other words is worked out as far as one rule
that was there is plainly wider: a check should rather refuse too much.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

from control import model
from control.analysis.change import lacking, meeting, mending, moved, narrower, selecting, two, written
from control.analysis.change.called import CLOSED, OPENED, Words
from control.analysis.change.lacking import Told
from control.analysis.change.meeting import Index
from control.analysis.change.written import Beside, Item, Place, Written
from control.policy import dnsnames, looking, refer, selectors, words
from control.policy import kinds as policy_kinds
from loader import abi

_OWN_NODE = selectors.values_of(["reserved:host"])
_WITH_OWN_NODE = (None, model.Entity.ALL, model.Entity.HOST, model.Entity.CLUSTER, model.Entity.CLUSTER_MESH)


def names(snapshot: model.Snapshot) -> tuple[str, ...]:
    """Return the names and patterns whose addresses enforced rules allow or deny, sorted."""
    peers = (peer for _, _, rule in written.enforced(snapshot) for peer in rule.peers or ())
    return tuple(sorted({dnsnames.show(peer) for peer in peers if isinstance(peer, model.NamePeer)}))


def kinds(snapshot: model.Snapshot) -> tuple[str, ...]:
    """Return in words what the pairs of a snapshot do not show, apart from names."""
    items = written.read(_with_effect(snapshot)).items
    bound = {item.place for item in items if item.request not in (None, written.NOTHING)}
    protocols = {
        spec.proto.name
        for _, section, rule in written.enforced(snapshot)
        for spec in rule.ports or ()
        if not section.of_nodes and spec.proto not in written.WITH_PORTS
    }
    out = [f"for which requests {len(bound)} of the rules' ports are open"] if bound else []
    return (*out, *([f"what rules say of {', '.join(sorted(protocols))}"] if protocols else []))


def _with_effect(snapshot: model.Snapshot) -> model.Snapshot:
    """Return the snapshot with the rules for bytes alone that see some, at the ports where they do; none for nodes."""
    snapshot = refer.written_out(snapshot)
    looks, shut = looking.looks(snapshot), policy_kinds.shut(snapshot)

    def kept(section: model.Section) -> model.Section:
        seen = ((rule, tuple(look.spec for look in looks.get(id(rule), ()) if not look.by)) for rule in section.rules)
        rules = tuple(dataclasses.replace(rule, ports=at) for rule, at in seen if at and id(rule) not in shut)
        return dataclasses.replace(section, rules=rules)

    policies = (dataclasses.replace(each, sections=tuple(map(kept, each.sections))) for each in snapshot.policies)
    return dataclasses.replace(snapshot, policies=tuple(policies))


def opened(old: model.Snapshot, new: model.Snapshot) -> tuple[Beside, ...]:
    """Return what new may open beside all pairs. Nothing is where both say the same."""
    return _opened(old, new, OPENED)


def closed(old: model.Snapshot, new: model.Snapshot) -> tuple[Beside, ...]:
    """Return what new may close beside all pairs: what going back to old may open."""
    return _opened(new, old, CLOSED)


def _opened(old: model.Snapshot, new: model.Snapshot, called: Words) -> tuple[Beside, ...]:
    both = written.read(old), written.read(new)
    unbound, undenied = _no_longer_bound(*both, called), _no_longer_denied(*both, called)
    was = _Was(both[0])
    allowed = [*_allowed(*both, was), *_mended(*both, was, called)]
    maybe = dict.fromkeys([*allowed, *unbound, *undenied, *two.no_longer(*both, called)])
    return tuple(dict.fromkeys([*lacking.told(old, new, both, tuple(maybe)), *moved.moved(old, new, both, called)]))


def _refusing(
    of: Written, kind: type[selecting.Meeting] | type[selecting.Covering]
) -> Callable[[bool, model.Selector, abi.Direction], bool]:
    """Return what tells whether what no rule allows is refused: to somebody whom a selector means (Meeting), as far as
    that is not plainly nobody, or plainly to all of them (Covering).
    """
    given: dict[tuple[bool, abi.Direction], list[model.Selector]] = {}
    for of_nodes, subject, direction in of.defaults:
        given.setdefault((of_nodes, direction), []).append(subject)
    refusing = {where: kind(subjects) for where, subjects in given.items()}

    @functools.cache
    def refuses(of_nodes: bool, subject: model.Selector, direction: abi.Direction) -> bool:
        return (of_nodes, direction) in refusing and refusing[of_nodes, direction].has(subject)

    return refuses


class _Was:
    """Where old let all requests through. Built once, then only asked."""

    def __init__(self, before: Written) -> None:
        plain = [item.place for item in before.items if item.request is None and not item.is_deny]
        self._open_to_all = meeting.of(plain, meeting.INCLUDES_BY_PEER)
        self._open_by_name = meeting.of(plain, meeting.INCLUDES)
        self._bound = meeting.of((i.place for i in before.items if i.request is not None), meeting.MEETS)
        self.may_refuse = _refusing(before, selecting.Meeting)

    def is_open(self, item: Item) -> bool:
        """Tell whether it was open for all requests, and nowhere for some only: no request is new there. A port name
        means of some pods no more than of all.
        """
        around = self._open_by_name if written.is_of_named_port(item) else self._open_to_all
        return around.has(item.place) and not self._bound.has(item.place)


def _mended(before: Written, after: Written, was: _Was, called: Words) -> Iterator[Told]:
    """Yield the rules for requests that were let through before, and with other headers."""
    headers = mending.Mending(before, after)
    for item, said in after.items.items() if headers.may_differ else ():
        if headers.differs(item, was.is_open(item) or not was.may_refuse(*item.place[:3])):
            yield Told(Beside(f"{called.mended}: {written.item_words(item)}", *said))


def _allowed(before: Written, after: Written, was: _Was) -> Iterator[Told]:
    """Yield what only new allows, where old may have refused it."""
    allowing = [item for item in before.items if not item.is_deny]
    requests, is_shut = narrower.Before(allowing), two.shut(after)
    letting = meeting.of((i.place for i in allowing if i.request != written.NOTHING), meeting.INCLUDES)
    for item, said in after.items.items():
        place = item.place
        if item in before.items or item.is_deny or item.request == written.NOTHING:
            continue
        if not was.may_refuse(*place[:3]):
            continue
        beside = Beside(written.item_words(item), *said)
        if written.is_exact(item):
            if not letting.has(place):
                yield Told(beside, place)
            continue
        if not was.is_open(item) and not is_shut(item) and not requests.let(item):
            yield Told(beside, unless=place if written.is_of_named_port(item) else None)


def _no_longer_bound(before: Written, after: Written, called: Words) -> Iterator[Told]:
    """Yield what was open for some requests only and may be for all now."""
    still = {item.place for item in after.items if item.request is not None}
    free = {item.place: said for item, said in after.items.items() if item.request is None and not item.is_deny}
    # A place where rules for requests let all pass frees all that it meets, whatever binds that still.
    known = {policy for policy, _ in before.items.values()}
    freed = {
        place: next((each for each in said if each[0] not in known), said[0])
        for place, said in after.unbound.items()
        if place not in before.unbound
    }
    closed = (item.place for item in after.items if item.is_deny or item.request is not None)
    # Where the own node is denied or bound still, in whatever words.
    to_own_node = (place._replace(peer=None) for place in closed if _means_own_node(place.peer))
    still_closed = meeting.of(to_own_node, meeting.INCLUDES)
    unbound = meeting.of(before.unbound, meeting.INCLUDES)
    now_free = Index(freed, meeting.MEETS), Index({**free, **freed}, meeting.MEETS)
    refuses = _refusing(after, selecting.Covering)
    for place, (where, source) in {i.place: said for i, said in before.items.items() if i.request is not None}.items():
        if place in before.unbound or unbound.has(place):
            continue  # nobody was bound there
        what = f"{called.any_request}, {written.at(place)}"
        if not refuses(place.of_nodes, place.subject, place.direction):
            yield Told(Beside(what, where, source))
        elif _is_for_own_node(place) and not still_closed.has(place):
            # No default refuses that one.
            yield Told(Beside(f"{called.own_node}, {written.at(place)}", where, source))
        for said in now_free[place not in still].said(place):
            yield Told(Beside(what, *said))


def _is_for_own_node(place: Place) -> bool:
    return (place.of_nodes, place.direction) == (False, abi.Direction.INGRESS) and _means_own_node(place.peer)


def _means_own_node(peer: model.Peer | None) -> bool:
    return peer in _WITH_OWN_NODE or (isinstance(peer, model.Selector) and selectors.fulfils(peer, _OWN_NODE))


def _no_longer_denied(before: Written, after: Written, called: Words) -> Iterator[Told]:
    denied = meeting.of((item.place for item in after.items if item.is_deny), meeting.INCLUDES)
    allowed = (item.place for item in after.items if not item.is_deny)
    named = meeting.of((place for place in allowed if isinstance(place.peer, model.NamePeer)), meeting.MEETS)
    for item, said in before.items.items():
        if not item.is_deny or item in after.items or denied.has(item.place):
            continue
        beside = Beside(f"{called.undenied}: {written.item_words(item)}", *said)
        # What is denied by address may be where a name that is allowed leads.
        if named.has(item.place):
            yield Told(beside)
        elif written.is_exact(item):
            yield Told(beside, item.place)
        else:
            yield Told(beside, unless=item.place if written.is_of_named_port(item) else None)
    refuses = _refusing(after, selecting.Covering)
    for (of_nodes, subject, direction), said in before.defaults.items():
        if not refuses(of_nodes, subject, direction):
            whose = " of nodes" if of_nodes else f" of {words.peer_word(subject)}"
            beside = Beside(f"{direction.name.lower()}{whose}, {called.by_default}", *said)
            yield Told(beside, None if of_nodes else Place(False, subject, direction, None, None))
