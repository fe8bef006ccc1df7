"""Whether any of many selectors meets another one, or covers it, where it is held against few of them only: pure.

A change of thousands of policies asks so of each of theirs: each with each would be work by the square.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from control import model
from control.analysis.change import meeting
from control.policy import apart

_Label = tuple[str, str]


class _Alike(NamedTuple):
    """Selectors that name values of the same labels, and which of them name each value."""

    those: list[model.Selector]
    naming: dict[tuple[_Label, str], list[model.Selector]]


class Meeting:
    """Selectors that may select whom another one does. Built once, then only asked."""

    def __init__(self, given: Iterable[model.Selector]) -> None:
        self._given = tuple(given)
        self._alike: dict[frozenset[_Label], _Alike] = {}
        for selector in self._given:
            named = _named(selector)
            those, naming = self._alike.setdefault(frozenset(named), _Alike([], {}))
            those.append(selector)
            for label, values in named.items():
                for value in values:
                    naming.setdefault((label, value), []).append(selector)
        self._compared = 0

    def has(self, asked: model.Selector) -> bool:
        """Tell whether any of them meets a selector, or may for all that is plain to see; raises model.TooMuch."""
        for each in self._near(asked):
            self._spend(1)
            if not apart.selectors(asked, each):
                return True
        return False

    def _near(self, asked: model.Selector) -> Iterable[model.Selector]:
        """Return all but those that one label tells to be apart, as far as they are asked for."""
        # A label of any source is a pod's own one only where pods are asked for.
        return self._by_label(_named(asked)) if apart.is_of_pods(asked) else self._given

    def _by_label(self, named: Mapping[_Label, frozenset[str]]) -> Iterator[model.Selector]:
        for labels, (those, naming) in self._alike.items():
            shared = [label for label in labels if label in named]
            self._spend(1 + sum(len(named[label]) for label in shared))
            found = ([naming.get((label, value), ()) for value in named[label]] for label in shared)
            for each in min(found, key=lambda lists: sum(map(len, lists)), default=(those,)):
                yield from each

    def _spend(self, comparisons: int) -> None:
        self._compared += comparisons
        if self._compared > meeting.MAX_COMPARED:
            raise model.TooMuch(meeting.TOO_MUCH)


def _named(selector: model.Selector) -> dict[_Label, frozenset[str]]:
    """Return the values that a selector names first of each label, as a pod has it."""
    out: dict[_Label, frozenset[str]] = {}
    for label, lists in selector.named.items():
        out.setdefault(apart.of_pod(label), lists[0])
    return out


class Covering:
    """Selectors that may ask for nothing that another one does not. Built once, then only asked."""

    def __init__(self, given: Iterable[model.Selector]) -> None:
        each = {frozenset(selector.requirements) for selector in given}
        asked = collections.Counter(requirement for one in each for requirement in one)
        self._covers_all = frozenset() in each
        # Each by the condition that the fewest have.
        self._by_rarest: dict[model.Requirement, list[frozenset[model.Requirement]]] = {}
        for one in filter(None, each):
            self._by_rarest.setdefault(min(one, key=asked.__getitem__), []).append(one)

    def has(self, asked: model.Selector) -> bool:
        """Tell whether any of them selects, plainly, whomever a selector does."""
        wanted = frozenset(asked.requirements)
        return self._covers_all or any(one <= wanted for each in wanted for one in self._by_rarest.get(each, ()))
