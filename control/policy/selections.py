"""Which identities a selector means, kept up to date one identity at a time.

An identity that comes or goes is held against those selectors only that ask for one of its labels, so its price does
not grow with the number of identities, nor, but for selectors without any such condition, with that of selectors.
"""

from collections.abc import Iterable, Iterator, Mapping

from control import model
from control.policy import selectors

Values = Mapping[tuple[str, str], set[str]]  # (source, key) -> values, each label also under the source "any"
_NEGATIVE = (model.Operator.NOT_IN, model.Operator.DOES_NOT_EXIST)


class Selections:
    """A table of label sets by number, and the answers to the selectors that were asked for."""

    def __init__(self) -> None:
        self.labels: dict[int, tuple[str, ...]] = {}
        self._index: dict[tuple[str, str], dict[str, set[int]]] = {}
        self._selected: dict[model.Selector, set[int]] = {}
        self._frozen: dict[model.Selector, frozenset[int]] = {}
        # A selector stands where one of its conditions is: (source, key, value), value None: any. () for none at all.
        self._asking: dict[tuple[str, str, str | None] | tuple[()], list[model.Selector]] = {}

    def add(self, number: int, labels: tuple[str, ...]) -> list[model.Selector]:
        """Take in an identity and return the selectors that mean it; one with other labels is exchanged."""
        if number in self.labels:
            self.remove(number)
        self.labels[number] = labels
        values = selectors.values_of(labels)
        for (source, key), found in values.items():
            of_key = self._index.setdefault((source, key), {})
            for value in found:
                of_key.setdefault(value, set()).add(number)
        meant = [selector for selector in self._candidates(values) if selectors.fulfils(selector, values)]
        for selector in meant:
            self._selected[selector].add(number)
            self._frozen.pop(selector, None)
        return meant

    def remove(self, number: int) -> None:
        """Forget an identity."""
        values = selectors.values_of(self.labels.pop(number))
        for (source, key), found in values.items():
            of_key = self._index[source, key]
            for value in found:
                of_key[value].discard(number)
                if not of_key[value]:
                    del of_key[value]
        for selector in self._candidates(values):
            if number in self._selected[selector]:
                self._selected[selector].discard(number)
                self._frozen.pop(selector, None)

    def select(self, selector: model.Selector) -> frozenset[int]:
        """Return the identities that fulfil every condition."""
        found = self._frozen.get(selector)
        if found is None:
            if selector not in self._selected:
                self._selected[selector] = self._find(selector)
                self._asking.setdefault(_where(selector), []).append(selector)
            found = self._frozen[selector] = frozenset(self._selected[selector])
        return found

    def forget(self, selector: model.Selector) -> None:
        """Keep the answer to a selector no longer: nobody asks for it any more."""
        if self._selected.pop(selector, None) is not None:
            self._frozen.pop(selector, None)
            self._asking[_where(selector)].remove(selector)

    def _candidates(self, values: Values) -> Iterator[model.Selector]:
        yield from self._asking.get((), ())
        for (source, key), found in values.items():
            yield from self._asking.get((source, key, None), ())
            for value in found:
                yield from self._asking.get((source, key, value), ())

    def _find(self, selector: model.Selector) -> set[int]:
        found: set[int] | None = None
        # Conditions that name what must be there come first: they make the set small.
        for requirement in sorted(selector.requirements, key=lambda r: r.operator in _NEGATIVE):
            values = self._index.get((requirement.source, requirement.key), {})
            named = requirement.operator in (model.Operator.IN, model.Operator.NOT_IN)
            wanted: Iterable[str] = requirement.values if named else values
            matching: set[int] = set().union(*(values.get(value, ()) for value in wanted))
            if requirement.operator in _NEGATIVE:
                found = (set(self.labels) if found is None else found) - matching
            else:
                found = matching if found is None else found & matching
        return set(self.labels) if found is None else found


def _where(selector: model.Selector) -> tuple[str, str, str | None] | tuple[()]:
    """Return the condition under which a selector is found again: one with one value, else one for a key, else none."""
    anyhow: tuple[str, str, str | None] | tuple[()] = ()
    for requirement in selector.requirements:
        if requirement.operator == model.Operator.IN and len(requirement.values) == 1:
            return requirement.source, requirement.key, requirement.values[0]
        if requirement.operator not in _NEGATIVE:
            anyhow = requirement.source, requirement.key, None
    return anyhow
