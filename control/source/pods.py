"""Which of the pods that files declare a selector selects, for thousands of selectors of thousands of pods.

Pods with the same labels are one bit of a number, and what a selector selects is such a number: a set for each selector
would take gigabytes.
"""

import functools
import operator
from collections.abc import Iterable

from control import identity, model
from control.policy import selectors
from loader import abi

Port = tuple[str, abi.Proto]  # what it is called

_NEGATIVE = (model.Operator.NOT_IN, model.Operator.DOES_NOT_EXIST)
_EVERY_POD = (model.Entity.ALL, model.Entity.CLUSTER, model.Entity.CLUSTER_MESH)
_NAMED = (model.Operator.IN, model.Operator.NOT_IN)


class Pods:
    """The pods of a snapshot but those with their node's network, which no policy means; `on_host`: these alone."""

    def __init__(self, snapshot: model.Snapshot, on_host: bool = False) -> None:
        bits: dict[tuple[str, ...], int] = {}
        self.namespaces = set[str]()
        self.ports: dict[Port, int] = {}  # who has each
        self._with: dict[tuple[str, str], dict[str, int]] = {}  # a label's source and key -> value -> who has it
        for workload, labels in identity.labelled(snapshot):
            if workload.host_network is not on_host:
                continue
            self.namespaces.add(workload.namespace)
            if labels not in bits:
                bits[labels] = 1 << len(bits)
                self._take(selectors.values_of(labels), bits[labels])
            for port in workload.ports:
                which = (port.name, port.protocol)
                self.ports[which] = self.ports.get(which, 0) | bits[labels]
        self.all = (1 << len(bits)) - 1
        self._any = dict[tuple[str, str], int]()

    def _take(self, labels: dict[tuple[str, str], set[str]], bit: int) -> None:
        for key, values in labels.items():
            found = self._with.setdefault(key, {})
            for value in values:
                found[value] = found.get(value, 0) | bit

    def select(self, selector: model.Selector) -> int:
        """Return the pods that fulfil every condition."""
        out = self.all
        for asked in selector.requirements:
            found = self._having(asked)
            out &= ~found if asked.operator in _NEGATIVE else found
        return out

    def _having(self, asked: model.Requirement) -> int:
        """Return who has a label, or one of the values that are asked for."""
        key = (asked.source, asked.key)
        of_key = self._with.get(key, {})
        if asked.operator in _NAMED:
            return _together(of_key[value] for value in asked.values if value in of_key)
        if key not in self._any:
            self._any[key] = _together(of_key.values())
        return self._any[key]

    def meant(self, peers: Iterable[model.Peer] | None) -> int:
        """Return whom peers mean that refer to nothing; None is anybody. A range, a name or a node is no pod."""
        if peers is None:
            return self.all
        return _together(map(self._meant, peers))

    def _meant(self, peer: model.Peer) -> int:
        if isinstance(peer, model.Selector):
            return self.select(peer)
        return self.all if peer in _EVERY_POD else 0


def _together(several: Iterable[int]) -> int:
    return functools.reduce(operator.or_, several, 0)
