"""Which nodes workloads are on, before and after a change; pure.

A controller stands for its pods, which may be on several nodes.
"""

from collections.abc import Iterable, Iterator, Mapping

from control import model

Nodes = Mapping[tuple[str, str], frozenset[str]]  # by kind and "namespace/name"


def nodes(snapshot: model.Snapshot) -> Nodes:
    """Return the nodes of all workloads, none where these are not known; "" where that of some pods only is not, which
    may be any other one.
    """
    folded: dict[str, set[str]] = {}
    for pod, owner in snapshot.folded.items():
        folded.setdefault(owner, set()).add(snapshot.folded_nodes.get(pod, ""))
    out: dict[tuple[str, str], frozenset[str]] = {}
    for w in snapshot.workloads:
        # It is called with its kind where another one has its name.
        pods = folded.get(f"{w.namespace}/{w.kind}/{w.name}") or folded.get(str(w), set())
        known = {w.node} if w.node else pods
        out[w.kind, str(w)] = frozenset(known if any(known) else ())
    return out


def moves(before: frozenset[str], after: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Yield a node before and one after for all that pods may do now, of this node or of others, because of where they
    are; "" stands for whatever other node.

    What has been on one node, and is on one, has gone from that to this.
    """
    if len(before) <= 1 and len(after) <= 1:
        yield "".join(before), "".join(after)
        return
    for node in sorted((before | after) - {""}):
        if node in before and node in after:
            yield node, node
        # Of several pods some see a node as their own, the others as another one.
        if node in after and node not in before:
            yield "", node
        if _others(after, node) and not _others(before, node):
            yield node, ""


def _others(nodes_of: frozenset[str], node: str) -> bool:
    """Tell whether pods on these nodes, or on one that is not known, see a node as another one."""
    return not nodes_of or bool(nodes_of - {node})


class Index:
    """What is on nodes, each given as its node before and after, by these. Built once, then only asked."""

    def __init__(self, placed: Iterable[tuple[str, str]]) -> None:
        self._at: dict[tuple[int, str], list[int]] = {}
        for number, pair in enumerate(placed):
            for side, node in enumerate(pair):
                self._at.setdefault((side, node), []).append(number)

    def those_on(self, pair: tuple[str, str]) -> list[int]:
        """Return the numbers of those that are on a node with a pod before or after, in order."""
        return sorted({number for at in enumerate(pair) if at[1] for number in self._at.get(at, ())})
