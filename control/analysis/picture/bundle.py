"""Connections made few enough to draw: workloads that look alike are one node, arrows that say the same are one net.

A net is a set of senders, a set of receivers and the ports that each of the ones may open to each of the others. Where
that holds for a whole namespace, the net leads to its box instead of to each node in it.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from control.analysis import portset
from control.analysis.connectivity import Connectivity, End
from control.analysis.portset import PortSet
from control.analysis.proxied import Proxied

MAX_NODES = 60  # more are no picture any more: each namespace becomes a node
_MAX_RANGES = 8  # of the outside, beside nodes that are namespaces
Kind = tuple[int, object]
_REPLICA = re.compile(r"(-[a-z0-9]*\d[a-z0-9]*)+$")


class Opened(NamedTuple):
    """Ports that may be opened, and what of these needs the node proxy, for some of those who may at least."""

    ports: PortSet
    proxied: PortSet = portset.NONE

    def __bool__(self) -> bool:
        return bool(self.ports)

    def __str__(self) -> str:
        return f"{self.ports}{' *' if self.proxied else ''}"

    def either(self, other: "Opened") -> "Opened":
        """Return what one of two may open."""
        return Opened(self.ports | other.ports, self.proxied | other.proxied)


NOTHING = Opened(portset.NONE)
Pairs = dict[tuple[int, int], Opened]


@dataclasses.dataclass(frozen=True)
class Node:
    """Something to draw. `box` is its namespace, None for the outside. `among`: its members may open these in turn."""

    box: str | None
    ends: tuple[End, ...]
    among: Opened = NOTHING


@dataclasses.dataclass(frozen=True, order=True)
class Item:
    """What a net leads to: a node by its place, or, where that is negative, a namespace's whole box."""

    node: int
    box: str = ""


@dataclasses.dataclass(frozen=True)
class Net:
    """Each sender may open the ports to each receiver; `is_mutual`: and the reverse."""

    senders: tuple[Item, ...]
    receivers: tuple[Item, ...]
    ports: Opened
    is_mutual: bool = False


@dataclasses.dataclass(frozen=True)
class Bundle:
    """All that a picture shows. `among`: what all nodes of a namespace may open to each other.

    `pairs` are the same as nets and `among`, pair by pair; more nodes than MAX_NODES have no nets.
    """

    nodes: tuple[Node, ...]
    pairs: Mapping[tuple[int, int], Opened]
    nets: tuple[Net, ...]
    among: Mapping[str, Opened]
    is_by_namespace: bool = False


def bundle(found: Connectivity, proxied: Proxied | None = None) -> Bundle:
    """Return connections as a picture shows them. Addresses are in it where somebody may talk to them."""
    groups = _groups(found, proxied, lambda end: _REPLICA.sub("", end.name) if end.kind == "Pod" else end.name)
    if len(groups) > MAX_NODES:
        groups = _groups(found, proxied, lambda end: "")
    if len(groups) > MAX_NODES:
        return _of_namespaces(found, proxied)

    def opened(sender: int, receiver: int) -> Opened:
        return _opened(proxied, sender, receiver, found.allowed(sender, receiver))

    groups += [[end] for end in range(len(found.workloads), len(found.ends))]
    pairs = {
        (a, b): both
        for (a, senders), (b, receivers) in itertools.permutations(enumerate(groups), 2)
        if (both := opened(senders[0], receivers[0]))
    }
    among = [opened(members[0], members[0]) if members[1:] else NOTHING for members in groups]
    nodes = [
        Node(None if found.ends[members[0]].is_outside else found.ends[members[0]].namespace,
             tuple(found.ends[member] for member in members), inside)
        for members, inside in zip(groups, among, strict=True)
    ]  # fmt: skip
    return _bundle(nodes, pairs)


def _opened(proxied: Proxied | None, sender: int, receiver: int, ports: PortSet) -> Opened:
    return Opened(ports, proxied.of(sender, receiver, ports) if proxied is not None and ports else portset.NONE)


def _kind(found: Connectivity, proxied: Proxied | None, end: int) -> Kind:
    """Return what ends have in common that may open the same, and need the proxy for the same."""
    return found.class_of[end], proxied.kind(end) if proxied is not None else None


def _groups(found: Connectivity, proxied: Proxied | None, stem: Callable[[End], str]) -> list[list[int]]:
    """Return the workloads of one namespace, kind and stem of a name each."""
    out: dict[tuple[str, Kind, str], list[int]] = {}
    for number, end in enumerate(found.workloads):
        out.setdefault((end.namespace, _kind(found, proxied, number), stem(end)), []).append(number)
    return list(out.values())


def _of_namespaces(found: Connectivity, proxied: Proxied | None) -> Bundle:
    """Return a node for each namespace; an arrow then says what some workload of one may open to some of the other."""
    places: dict[str, int] = {}
    members: list[list[End]] = []
    where: dict[Kind, set[int]] = {}  # the nodes that its members are in
    those: dict[Kind, list[int]] = {}
    kinds: dict[int, dict[Kind, None]] = {}  # of each class
    is_many = len(found.blocks) > _MAX_RANGES
    for number, end in enumerate(found.ends):
        key = f"namespace {end.namespace}" if not end.is_outside else "" if is_many else str(end)
        place = places.setdefault(key, len(places))
        members += [[]] if place == len(members) else []
        members[place].append(end)
        kind = _kind(found, proxied, number)
        where.setdefault(kind, set()).add(place)
        those.setdefault(kind, []).append(number)
        kinds.setdefault(kind[0], {})[kind] = None
    pairs: Pairs = {}
    for sender, senders in those.items():
        for number, ports in found.row(sender[0]).items():
            for receiver in kinds.get(number, ()):
                if sender == receiver and not senders[1:]:
                    continue
                both = _opened(proxied, senders[0], those[receiver][0], ports)
                for pair in itertools.product(where[sender], where[receiver]):
                    pairs[pair] = both.either(pairs.get(pair, NOTHING))
    nodes = [
        Node(None if ends[0].is_outside else "", tuple(ends), pairs.pop((place, place), NOTHING))
        for place, ends in enumerate(members)
    ]
    return dataclasses.replace(_bundle(nodes, pairs), is_by_namespace=True)


def _bundle(nodes: list[Node], pairs: Pairs) -> Bundle:
    used = {number for pair in pairs for number in pair}
    kept = [number for number, node in enumerate(nodes) if node.box is not None or number in used]
    place = {number: index for index, number in enumerate(kept)}
    nodes = [nodes[number] for number in kept]
    pairs = {(place[a], place[b]): ports for (a, b), ports in sorted(pairs.items())}
    nets, among = _all_nets(nodes, pairs) if len(nodes) <= MAX_NODES + _MAX_RANGES else ([], {})
    return Bundle(tuple(nodes), pairs, tuple(sorted(nets, key=lambda net: (net.senders, net.receivers))), among)


def _all_nets(nodes: list[Node], pairs: Pairs) -> tuple[list[Net], dict[str, Opened]]:
    """Return the nets, and what all nodes of one box may open to each other, which needs none."""
    by_ports: dict[Opened, set[tuple[int, int]]] = {}
    for pair, ports in pairs.items():
        by_ports.setdefault(ports, set()).add(pair)
    boxes: dict[str, list[int]] = {}
    for number, node in enumerate(nodes):
        if node.box:
            boxes.setdefault(node.box, []).append(number)
    whole = {box: each for box, each in boxes.items() if each[1:]}
    among: dict[str, Opened] = {}
    nets: list[Net] = []
    for ports, open_pairs in by_ports.items():
        for box, each in whole.items():
            if (all_of := set(itertools.permutations(each, 2))) <= open_pairs:
                among[box] = ports
                open_pairs -= all_of
        nets += _mutual(list(_nets(_with_boxes(open_pairs, whole, nodes), ports)))
    return nets, among


def _with_boxes(
    pairs: set[tuple[int, int]], whole: Mapping[str, list[int]], nodes: list[Node]
) -> set[tuple[Item, Item]]:
    """Return pairs of nodes, and of boxes where they hold for all nodes in them."""
    out: set[tuple[Item, Item]] = set()
    items = [(Item(-1, box), each) for box, each in whole.items()]
    single = [(Item(number), [number]) for number in range(len(nodes))]
    for left, right in ((items, items), (single, items), (items, single)):
        for (a, senders), (b, receivers) in itertools.product(left, right):
            both = set(itertools.product(senders, receivers))
            if both <= pairs and not {nodes[n].box for n in senders} & {nodes[n].box for n in receivers}:
                out.add((a, b))
                pairs = pairs - both
    return out | {(Item(a), Item(b)) for a, b in pairs}


def _nets(pairs: set[tuple[Item, Item]], ports: Opened) -> Iterator[Net]:
    """Yield few nets that are together exactly these pairs."""
    receivers = _by(pairs)
    circles: dict[frozenset[Item], set[Item]] = {}
    for sender, each in receivers.items():
        circles.setdefault(each | {sender}, set()).add(sender)
    for circle, members in circles.items():
        if circle == members and len(circle) > 2:  # all of them to all others
            yield Net(tuple(sorted(circle)), tuple(sorted(circle)), ports, is_mutual=True)
            pairs = pairs - set(itertools.permutations(circle, 2))
    stars = _joined(_by(pairs))
    turned = _joined(_by({(b, a) for a, b in pairs}))
    if len(stars) <= len(turned):
        yield from (Net(tuple(sorted(each)), tuple(sorted(of)), ports) for of, each in stars.items())
    else:
        yield from (Net(tuple(sorted(of)), tuple(sorted(each)), ports) for of, each in turned.items())


def _by(pairs: set[tuple[Item, Item]]) -> dict[Item, frozenset[Item]]:
    out: dict[Item, set[Item]] = {}
    for a, b in sorted(pairs):
        out.setdefault(a, set()).add(b)
    return {a: frozenset(each) for a, each in out.items()}


def _joined(stars: Mapping[Item, frozenset[Item]]) -> dict[frozenset[Item], list[Item]]:
    out: dict[frozenset[Item], list[Item]] = {}
    for center, points in stars.items():
        out.setdefault(points, []).append(center)
    return out


def _mutual(nets: list[Net]) -> list[Net]:
    """Return nets with one of two heads in the place of two that say the same in both directions."""
    known = {(net.senders, net.receivers) for net in nets}
    return [
        dataclasses.replace(net, is_mutual=net.is_mutual or (net.receivers, net.senders) in known)
        for net in nets
        if net.senders <= net.receivers or (net.receivers, net.senders) not in known
    ]
