"""What a change from one snapshot to another opens and closes, pair by pair.

Workloads are the same where kind, namespace and name are; addresses outside are told apart where either snapshot tells
them apart. Ends that were alike before and are alike after are compared once.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from control import model
from control.analysis import outside, portset, spans
from control.analysis.connectivity import Connectivity, End, Progress, analyse
from control.analysis.portset import PortSet

NEW, GONE = "new workload", "gone"
_KEPT_ROWS = 64

Alike = tuple[int | None, int | None]  # the class in the old and in the new snapshot, None where the end is in one only
_Change = tuple[PortSet, PortSet]  # opened, closed


class Change(NamedTuple):
    """What a pair may do that it could not before, and the reverse. `note` says that an end is in one snapshot only."""

    source: End
    destination: End
    opened: PortSet
    closed: PortSet
    note: str = ""


class Difference:
    """A change of what is allowed. Built once for two snapshots, then only asked."""

    def __init__(self, old: Connectivity, new: Connectivity, others: Mapping[End, Alike] | None = None) -> None:
        """`others`: further ends, with their classes."""
        self._old, self._new = old, new
        before = dict(zip(old.workloads, old.class_of, strict=False))
        after = dict(zip(new.workloads, new.class_of, strict=False))
        workloads = sorted({*before, *after}, key=lambda end: (end.namespace, end.name, end.kind))
        alike: list[Alike] = [(before.get(end), after.get(end)) for end in workloads]
        blocks = sorted((spans.merged(held), both) for both, held in _refined(old, new).items())
        alike += [both for _, both in blocks]
        alike += (others or {}).values()
        self.ends = (*workloads, *(End("IPBlock", cidrs=outside.cidrs(held)) for held, _ in blocks), *(others or ()))
        self._alike = alike
        self._members: dict[Alike, list[int]] = {}
        for end, both in enumerate(alike):
            self._members.setdefault(both, []).append(end)
        self._row = functools.lru_cache(_KEPT_ROWS)(self._row_of)

    def between(self) -> Iterator[tuple[list[int], list[int], PortSet]]:
        """Yield what is opened from any of some ends, as numbers of `ends`, to any of some: those that are alike."""
        for sender, senders in self._members.items():
            for receiver, (opened, _) in self._changed(sender):
                if opened:
                    yield senders, self._members[receiver], opened

    @property
    def opens(self) -> bool:
        """Tell whether anything is opened."""
        return any(change.opened for change in self.changes())

    def changes(self, progress: Progress | None = None) -> Iterator[Change]:
        """Yield every pair with a difference, in order of its ends."""
        for sender, source in enumerate(self.ends):
            for receiver, (opened, closed) in self._row(self._alike[sender]):
                if receiver != sender:
                    note = self._note(self._alike[sender], self._alike[receiver])
                    yield Change(source, self.ends[receiver], opened, closed, note)
            if progress is not None:
                progress(sender + 1, len(self.ends))

    def _row_of(self, sender: Alike) -> list[tuple[int, _Change]]:
        out = [(end, change) for receiver, change in self._changed(sender) for end in self._members[receiver]]
        return sorted(out, key=lambda item: item[0])

    def _changed(self, sender: Alike) -> Iterator[tuple[Alike, _Change]]:
        before = self._old.row(sender[0]) if sender[0] is not None else {}
        after = self._new.row(sender[1]) if sender[1] is not None else {}
        for receiver in self._members:
            was = before.get(receiver[0], portset.NONE) if receiver[0] is not None else portset.NONE
            now = after.get(receiver[1], portset.NONE) if receiver[1] is not None else portset.NONE
            if was is not now:
                yield receiver, (now - was, was - now)

    @staticmethod
    def _note(*pair: Alike) -> str:
        return NEW if any(old is None for old, _ in pair) else GONE if any(new is None for _, new in pair) else ""


def difference(old: model.Snapshot, new: model.Snapshot) -> Difference:
    """Return what the pairs of two snapshots differ in, by all protocols."""
    return Difference(analyse(old, portset.ALL_PROTOCOLS), analyse(new, portset.ALL_PROTOCOLS))


def _refined(old: Connectivity, new: Connectivity) -> dict[Alike, list[tuple[int, int]]]:
    """Return the addresses outside by the classes that they have in both; each snapshot has a class for all of them."""
    out: dict[Alike, list[tuple[int, int]]] = {}
    for one, other, span in spans.overlaps(old.addresses, new.addresses):
        out.setdefault((old.blocks[one], new.blocks[other]), []).append(span)
    return out
