"""What a change opens in no pair: to and from nodes, what has its node's network, and pods that no file declares.

All of these are given a place beside the ends of the pairs, and then compared as these are, so nothing is guessed.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from control import identity, model, places
from control.analysis import outside, portset
from control.analysis.change import placed, undeclared
from control.analysis.change.diff import Alike, Difference
from control.analysis.connectivity import Connectivity, End, analyse
from control.analysis.portset import PortSet
from loader import abi

_RESERVED = {
    abi.ReservedIdentity.HOST: "their own node",
    abi.ReservedIdentity.REMOTE_NODE: "other nodes",
    abi.ReservedIdentity.KUBE_APISERVER: "the API server",
    abi.ReservedIdentity.INGRESS: "the ingress",
    abi.ReservedIdentity.HEALTH: "health probes",
    abi.ReservedIdentity.UNMANAGED: "unmanaged pods",
    abi.ReservedIdentity.INIT: "pods that start",
}
_ENTITIES = {known: End("Entity", name=words) for known, words in _RESERVED.items()}
_HOST, _NODES = (_ENTITIES[known] for known in (abi.ReservedIdentity.HOST, abi.ReservedIdentity.REMOTE_NODE))
Values = Mapping[tuple[str, str], set[str]]


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """All ends that are alike on one side of what is opened. `values`: the labels of those that are pods, before and
    after; `declared`: those that files declare, `others`: all else, in words.
    """

    declared: tuple[model.Workload, ...]
    others: tuple[str, ...]
    values: tuple[Values, ...]
    is_in_pairs: bool
    has_more: bool  # than pods


class Opening(NamedTuple):
    source: Side
    destination: Side
    ports: PortSet


class Openings(NamedTuple):
    """What is opened in pairs, and beside them what no pair of the same workload shows as much of."""

    shown: list[Opening]
    beside: list[Opening]


def compare(old: model.Snapshot, new: model.Snapshot, pods: Sequence[model.Workload]) -> Openings:
    """Return all that is opened. `pods`: those that nobody declares."""
    before, after = (
        analyse(dataclasses.replace(each, workloads=(*each.workloads, *pods)), portset.ALL_PROTOCOLS, _others(each))
        for each in (old, new)
    )
    found = Difference(before, after, {**_entities(before, after), **_addresses(old, new, before, after)})
    sides = _Sides(found.ends, old, new, pods)
    hidden: list[Opening] = []
    shown: list[Opening] = []
    for senders, receivers, ports in found.between():
        if opening := sides.opening(senders, receivers, ports):
            (shown if _is_pair(opening) else hidden).append(opening)
    covered = _Covered(shown)
    hidden += _own_nodes(old, new, before, after, sides)
    return Openings(shown, [each for each in hidden if not covered.shows(each)])


def _is_pair(opening: Opening) -> bool:
    """Tell whether it is seen in a pair, too; no pair is of a workload and itself."""
    ends = opening.source, opening.destination
    return all(end.is_in_pairs for end in ends) and not (ends[0] is ends[1] and len(ends[0].declared) == 1)


def _others(snapshot: model.Snapshot) -> Callable[[identity.Identities], dict[End, int]]:
    """Return who is in no pair and has no policy, each with its identity."""

    def of(identities: identity.Identities) -> dict[End, int]:
        out = {end: int(known) for known, end in _ENTITIES.items()}
        for w in snapshot.workloads:
            if w.host_network:
                name = str(w) if w.kind == "Pod" else f"{w.namespace}/{w.kind}/{w.name}"
                out[_on_host(w)] = identities.of_workload[name]
        for node in snapshot.nodes:
            out.update((_at(node, ip), identities.addresses[places.host(ip)]) for ip in node.ips)
        return out

    return of


def _on_host(w: model.Workload) -> End:
    return End("HostNetwork", w.namespace, f"{w.kind} {w}, which has its node's network")


def _at(node: model.Node, ip: str) -> End:
    return End("Node", ip, f"Node {node.name}")


def _entities(before: Connectivity, after: Connectivity) -> dict[End, Alike]:
    """Return the entities and what has its node's network. What is new on a node could only be the node before."""
    return {
        end: (before.others.get(end, before.others[_NODES]), number)
        for end, number in after.others.items()
        if end.kind != "Node"  # their addresses are in the pairs
    }


def _addresses(old: model.Snapshot, new: model.Snapshot, before: Connectivity, after: Connectivity) -> dict[End, Alike]:
    """Return the addresses of pods that are still there and have none now: for rules they are outside."""
    known = dict(zip(before.workloads, before.class_of, strict=False))
    used = {ip for w in new.workloads for ip in w.ips} | {ip for node in new.nodes for ip in node.ips}
    still = {(w.kind, str(w)) for w in new.workloads if not w.ips and not w.host_network}
    return {
        End("Address", name=f"{ip}, which was {w}'s"): (
            known[End(w.kind, w.namespace, w.name)], after.class_at(outside.place_of(places.host(ip)))
        )
        for w in old.workloads
        if (w.kind, str(w)) in still and not w.host_network
        for ip in w.ips
        if ip not in used
    }  # fmt: skip


class _Sides:
    """Who the ends of a difference are."""

    def __init__(
        self, ends: Sequence[End], old: model.Snapshot, new: model.Snapshot, pods: Sequence[model.Workload]
    ) -> None:
        self.ends = ends
        self._snapshots = old, new
        self._before = {End(w.kind, w.namespace, w.name) for w in old.workloads}
        self._workloads = {End(w.kind, w.namespace, w.name): w for each in (old, new) for w in each.workloads}
        self.undeclared = {End(w.kind, w.namespace, w.name): w for w in pods}
        self._known: dict[tuple[int, ...], Side] = {}

    def opening(self, senders: Sequence[int], receivers: Sequence[int], ports: PortSet) -> Opening | None:
        """Return what is opened between any two of these, None where there are no two."""
        if senders is receivers and len(senders) == 1 and self.ends[senders[0]].kind == "Pod":
            return None
        # Its own node reaches every new pod that does not deny it: nothing that a policy opened.
        if [self.ends[end] for end in senders] == [_HOST] and all(self._is_new(end) for end in receivers):
            return None
        return Opening(self.side(senders), self.side(receivers), ports)

    def _is_new(self, number: int) -> bool:
        return self.ends[number] in self._workloads and self.ends[number] not in self._before

    def side(self, members: Sequence[int]) -> Side:
        key = tuple(members)
        if key not in self._known:
            self._known[key] = self.of([self.ends[member] for member in members])
        return self._known[key]

    def of(self, ends: Sequence[End]) -> Side:
        declared = tuple(self._workloads[end] for end in ends if end in self._workloads)
        pods = tuple(self.undeclared[end] for end in ends if end in self.undeclared)
        more = [end for end in ends if end not in self._workloads and end not in self.undeclared]
        return Side(
            declared,
            (*(str(end) if end.is_outside else end.name for end in more), *map(undeclared.words, pods)),
            tuple(values for w in (*declared, *pods) for values in undeclared.seen(w, self._snapshots)),
            bool(declared) or any(end.is_outside for end in more),
            bool(more),
        )


class _Covered:
    """What pairs show of workloads that somebody unseen is let to, or lets in, too."""

    def __init__(self, shown: Sequence[Opening]) -> None:
        self._leaving: dict[Side, PortSet] = {}
        self._entering: dict[Side, PortSet] = {}
        self._any = portset.NONE
        for each in shown:
            self._leaving[each.source] = self._leaving.get(each.source, portset.NONE) | each.ports
            self._entering[each.destination] = self._entering.get(each.destination, portset.NONE) | each.ports
            self._any |= each.ports

    def shows(self, each: Opening) -> bool:
        if not each.source.declared and not each.destination.declared:
            return not each.ports - self._any
        told = [self._leaving.get(each.source), self._entering.get(each.destination)]
        return any(ports is not None and not each.ports - ports for ports in told)


class _OnNode(NamedTuple):
    """What is on a node, before and after: the node's name, and the class that it has for pods of other nodes."""

    end: End
    nodes: tuple[str, str]
    classes: tuple[int, int]


def _own_nodes(
    old: model.Snapshot, new: model.Snapshot, before: Connectivity, after: Connectivity, sides: _Sides
) -> Iterator[Opening]:
    """Yield what is opened because a pod, and what is on a node, are on one node now, or no longer are."""
    classes = [dict(zip(each.workloads, each.class_of, strict=False)) for each in (before, after)]
    hosts = before.others[_HOST], after.others[_HOST]
    there = _on_nodes(old, new, before, after)
    at = placed.Index([other.nodes for other in there])
    for end, nodes in _pods(old, new, sides, there):
        pod = classes[0][end], classes[1][end]
        for other in (there[number] for number in at.those_on(nodes)):
            own = [bool(one) and one == its for one, its in zip(nodes, other.nodes, strict=True)]
            if own[0] == own[1]:
                continue  # compared as the node, or as another one, already
            seen = (hosts[0] if own[0] else other.classes[0], hosts[1] if own[1] else other.classes[1])
            for senders, receivers in ((pod, seen), (seen, pod)):
                now = after.row(senders[1]).get(receivers[1], portset.NONE)
                if opened := now - before.row(senders[0]).get(receivers[0], portset.NONE):
                    ends = ([end], [other.end]) if senders is pod else ([other.end], [end])
                    yield Opening(sides.of(ends[0]), sides.of(ends[1]), opened)


def _pods(
    old: model.Snapshot, new: model.Snapshot, sides: _Sides, there: Sequence[_OnNode]
) -> Iterator[tuple[End, tuple[str, str]]]:
    """Yield the pods of both snapshots with their nodes; those undeclared may be wherever something moved."""
    were, are = placed.nodes(old), placed.nodes(new)
    there_before = {(w.kind, str(w)) for w in old.workloads if not w.host_network}
    for w in new.workloads:
        if not w.host_network and (key := (w.kind, str(w))) in there_before:
            yield from ((End(w.kind, w.namespace, w.name), nodes) for nodes in placed.moves(were[key], are[key]))
    moved = {node for other in there if other.nodes[0] != other.nodes[1] for node in other.nodes if node}
    yield from ((end, (node, node)) for node in sorted(moved) for end in sides.undeclared)


def _on_nodes(old: model.Snapshot, new: model.Snapshot, before: Connectivity, after: Connectivity) -> list[_OnNode]:
    """Return what has a node's network, and the nodes' addresses: those that are no node's are outside."""
    out: list[_OnNode] = []
    were, are = placed.nodes(old), placed.nodes(new)
    there_before = {(w.kind, str(w)) for w in old.workloads if w.host_network}
    for w in new.workloads:
        if w.host_network:
            end, key = _on_host(w), (w.kind, str(w))
            classes = before.others.get(end, before.others[_NODES]), after.others[end]
            moves = placed.moves(were[key] if key in there_before else frozenset(), are[key])
            out += (_OnNode(end, nodes, classes) for nodes in moves)
    known = [{_at(node, ip): node.name for node in each.nodes for ip in node.ips} for each in (old, new)]
    for end in {**known[0], **known[1]}:
        place = outside.place_of(places.host(end.namespace))
        at = [each.others[end] if end in each.others else each.class_at(place) for each in (before, after)]
        out.append(_OnNode(end, (known[0].get(end, ""), known[1].get(end, "")), (at[0], at[1])))
    return out
