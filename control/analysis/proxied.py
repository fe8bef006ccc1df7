"""Of what pairs may do, what needs the node proxy: rules for bytes, which are refused where there is none.

The same snapshot is worked out a second time, with these rules as the kernel takes them, and the two are compared.
"""

from control import model
from control.analysis import connectivity, spans
from control.analysis.connectivity import Connectivity
from control.analysis.portset import PortSet


class Proxied:
    """What needs the proxy of pairs that `found`, which was worked out of the snapshot, says are allowed."""

    def __init__(self, snapshot: model.Snapshot, found: Connectivity) -> None:
        self._without = connectivity.analyse(snapshot, without_proxy=True)
        # Workloads are the same ones in the same order; the outside may be cut otherwise.
        first = len(found.workloads)
        self._same = [{end} for end in range(first)] + [set[int]() for _ in found.addresses]
        for ours, others, _ in spans.overlaps(found.addresses, self._without.addresses):
            self._same[first + ours].add(first + others)

    def kind(self, end: int) -> object:
        """Return what ends have in common for which the same needs it, if they are alike in all else."""
        return self._without.class_of[end] if end < len(self._without.workloads) else end

    def of(self, sender: int, receiver: int, ports: PortSet) -> PortSet:
        """Return the ports of a pair, given as numbers of ends, that need it; to some of its addresses at least."""
        left = ports
        for one in self._same[sender]:
            for other in self._same[receiver]:
                left &= self._without.allowed(one, other)
        return ports - left
