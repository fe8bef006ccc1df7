"""Rules as they are written: what each allows or denies, of whom, peer by peer and port by port; pure.

For what no pair of workloads can show. Nothing is resolved: two selectors are the same where they are written alike.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from control import model
from control.analysis.portset import PROTOCOLS
from control.policy import apart, dnsnames, refer, resolve, words
from loader import abi

WITH_PORTS = (*PROTOCOLS, abi.Proto.ANY)
_WITHOUT_PODS = (model.CidrPeer, model.NamePeer, model.NodePeer)
_WITH_PODS = (model.Entity.ALL, model.Entity.CLUSTER, model.Entity.CLUSTER_MESH)
NOTHING = ""  # of what is asked: no request, name or query at all
MAX_ITEMS = 250_000  # peers times ports times requests, of all rules: thousands of policies have some ten thousand
_TOO_MUCH = f"up to here rules come to more than {MAX_ITEMS:,} pairs of peer and port (fewer or wider rules)"

Said = tuple[str, str]  # the policy, and the file that says so


class Beside(NamedTuple):
    """Something that may have been opened, or closed: what, by which policy or workload, and the file that says so."""

    what: str
    where: str
    source: str

    def jsonable(self) -> dict[str, Any]:
        return self._asdict()


class Place(NamedTuple):
    """Where something is decided; `peer` and `port` None: any."""

    of_nodes: bool
    subject: model.Selector
    direction: abi.Direction
    peer: model.Peer | None
    port: model.PortSpec | None


class Item(NamedTuple):
    """What is allowed or denied at a place; `request` None: whatever the bytes say."""

    place: Place
    is_deny: bool
    request: model.HttpRule | model.NamePeer | str | None


class Order(NamedTuple):
    """Which of the rules for a request counts, where both are kept for the same ports: the least. At more ports than
    another one, or for anybody where the other is not, a rule comes after it whatever this says.
    """

    for_anybody: bool
    rule: int
    number: int  # in the rule


_Where = tuple[bool, abi.Direction, model.Peer | None, model.PortSpec | None]
_Subjects = Mapping[model.Selector, Said]


@dataclasses.dataclass(frozen=True)
class Written:
    """All that one snapshot enforces, each with the policy and the file that say so first."""

    items: dict[Item, Said]
    order: list[tuple[Item, Order]]  # of those for HTTP requests; what several rules say is in it several times
    unbound: dict[Place, tuple[Said, ...]]  # where rules for requests let all pass, and the rules that make that so
    defaults: dict[tuple[bool, model.Selector, abi.Direction], Said]  # where what is not allowed is refused


def enforced(snapshot: model.Snapshot) -> Iterator[tuple[model.Policy, model.Section, model.Rule]]:
    """Yield every rule that is not only told of and allows or denies anything, in the order in which they count."""
    for policy in sorted(refer.written_out(snapshot).policies, key=resolve.order):
        for section in policy.sections:
            for rule in section.rules if not section.audit else ():
                if rule.peers != () and rule.ports != ():
                    yield policy, section, rule


def read(snapshot: model.Snapshot) -> Written:
    """Return what a snapshot enforces as it is written; raises model.TooMuch."""
    snapshot = refer.written_out(snapshot)
    out = Written({}, [], {}, {})
    bound: dict[_Where, dict[model.Selector, Said]] = {}
    plain: dict[_Where, dict[model.Selector, Said]] = {}
    for policy in snapshot.policies:
        for section in policy.sections:
            for direction in sorted(section.default_deny) if not section.audit else ():
                said = words.policy_word(policy), section.source or policy.source
                out.defaults.setdefault((section.of_nodes, one_form(section.subject), direction), said)
    count = 0
    for position, (policy, section, rule) in enumerate(enforced(snapshot)):
        said = words.policy_word(policy), rule.source or section.source or policy.source
        count += _count(rule)
        if count > MAX_ITEMS:
            raise model.TooMuch(f"{said[1]}: {said[0]}: {_TOO_MUCH}")
        for_anybody = rule.peers is None or model.Entity.ALL in rule.peers
        for item, number, peer in _items(section, rule):
            if isinstance(item.request, model.HttpRule):
                out.order.append((item, Order(for_anybody, position, number)))
            if rule.l7 is not None and rule.direction not in section.default_deny:
                out.unbound.setdefault(item.place, (said,))
            out.items.setdefault(item, said)
            if item.place.port is not None and not item.is_deny:
                among = plain if item.request is None else bound
                # Only a plain rule for the very same peer frees one for requests: in the words of the policy.
                here = item.place.of_nodes, item.place.direction, peer, item.place.port
                among.setdefault(here, {}).setdefault(item.place.subject, said)
    for where in bound.keys() & plain.keys():
        count += len(bound[where]) * len(plain[where])
        if count > MAX_ITEMS:
            raise model.TooMuch(_TOO_MUCH)
        for place, both in _unbound(where, bound[where], plain[where]):
            out.unbound.setdefault(place, both)
    return out


def _unbound(where: _Where, bound: _Subjects, plain: _Subjects) -> Iterator[tuple[Place, tuple[Said, ...]]]:
    """Yield the places of plain rules beside rules for requests of the same peer and ports: whoever both select may
    make any request there, whatever else is said of it.
    """
    of_nodes, direction, peer, port = where
    for asked, free in itertools.product(bound, plain):
        if not apart.selectors(asked, free):
            more = (r for r in asked.requirements if r not in free.requirements)
            subject = model.Selector((*free.requirements, *more))
            yield Place(of_nodes, subject, direction, _in_one_form(peer), port), (plain[free], bound[asked])


def _items(section: model.Section, rule: model.Rule) -> Iterator[tuple[Item, int, model.Peer | None]]:
    """Yield what a rule says, each with its number among the requests of the rule, and its peer in the rule's words."""
    # A policy that refuses nothing does not look inside the bytes either.
    l7 = rule.l7 if rule.direction in section.default_deny else None
    subject = one_form(section.subject)
    for given in (None,) if rule.peers is None else rule.peers:
        peer = _in_one_form(given)
        for port in (None,) if rule.ports is None else rule.ports:
            place = Place(section.of_nodes, subject, rule.direction, peer, port)
            for number, request in enumerate((None,) if l7 is None else _requests(l7)):
                yield Item(place, rule.verdict == abi.Verdict.DENY, request), number, given


def _count(rule: model.Rule) -> int:
    several = (rule.peers, rule.ports, _requests(rule.l7) if rule.l7 else None)
    return math.prod(1 if each is None else len(each) for each in several)


def _requests(l7: model.L7Rules) -> list[model.HttpRule | model.NamePeer | str]:
    return [*(l7.http or ()), *(l7.dns or ()), *(l7.server_names or ())] or [NOTHING]


def is_of_pods(peer: model.Peer | None) -> bool:
    """Tell whether a peer can mean nothing but pods."""
    return isinstance(peer, model.Selector) and all(r.source in ("any", "k8s") for r in peer.requirements)


def is_of_no_pods(peer: model.Peer | None) -> bool:
    """Tell whether a peer never means a pod: ranges, names and all entities but those that have pods among them."""
    return isinstance(peer, _WITHOUT_PODS) or (isinstance(peer, model.Entity) and peer not in _WITH_PODS)


def _in_one_form(peer: model.Peer | None) -> model.Peer | None:
    return one_form(peer) if isinstance(peer, model.Selector) else peer


def one_form(selector: model.Selector) -> model.Selector:
    """Return a selector in the form that all have that ask for the same labels of pods, by any source or by k8s."""
    if not apart.is_of_pods(selector) or all(r.source != "any" for r in selector.requirements):
        return selector
    asked = (dataclasses.replace(r, source="k8s") if r.source == "any" else r for r in selector.requirements)
    return model.Selector(tuple(dict.fromkeys(asked)))


def is_exact(item: Item) -> bool:
    """Tell whether who may talk, and on which ports, is all that a rule says, and can be worked out.

    Names lead anywhere, nodes have any labels, and a port of any number may have a name.
    """
    return _is_of_known(item) and not (item.place.port is not None and item.place.port.name)


def is_of_named_port(item: Item) -> bool:
    """Tell whether the number of a named port is all that is not known."""
    return _is_of_known(item) and not is_exact(item)


def _is_of_known(item: Item) -> bool:
    peer = item.place.peer
    sources = {r.source for r in peer.requirements} if isinstance(peer, model.Selector) else set()
    of_nodes = item.place.of_nodes or isinstance(peer, model.NodePeer) or ("reserved" in sources and len(sources) > 1)
    return item.request is None and not of_nodes and not isinstance(peer, model.NamePeer)


def item_words(item: Item) -> str:
    request = item.request
    if isinstance(request, model.HttpRule):
        said = " ".join(filter(None, (request.method, request.host, request.path))) or "any"
        headers = f" with {', '.join(map(words.header_word, request.headers))}" if request.headers else ""
        what = f"http requests {said}{headers}, "
    elif isinstance(request, model.NamePeer):
        what = f"DNS queries for {dnsnames.show(request)}, "
    else:
        what = f"TLS name {request}, " if request else ""
    return what + at(item.place)


def at(place: Place) -> str:
    port = place.port
    if port is None:
        ports = "all ports"
    elif port.proto not in WITH_PORTS:
        ports = port.proto.name + (
            f" type {port.first}" if port.first == port.last and "ICMP" in port.proto.name else ""
        )
    elif port.name:
        ports = f"{port.proto.name} {port.name}"
    else:
        ports = f"{port.proto.name} {port.first}" + (f"-{port.last}" if port.last != port.first else "")
    if isinstance(place.peer, model.NamePeer):
        peer = f", DNS name {dnsnames.show(place.peer)}"
    else:
        way = "from" if place.direction == abi.Direction.INGRESS else "to"
        peer = "" if place.peer is None else f" {way} {words.peer_word(place.peer)}"
    return f"{place.direction.name.lower()}{' of nodes' if place.of_nodes else ''}{peer}, {ports}"
