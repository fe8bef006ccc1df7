"""Whether requests that were let through are let through with other headers now, because another rule mends them, or
none does, or the order of two rules is another one: the first that matches counts. Pure.

Two snapshots differ for a request where two rules that do not mend alike match it, and each may be the first to do so
in its own. Where a rule before one of them is proved to match whatever that one does, it is not the first.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from control import model
from control.analysis.change import meeting
from control.analysis.change.expressions import Compared
from control.analysis.change.written import Item, Order, Place, Written
from control.policy import ports

_MENDING = (model.Mismatch.ADD, model.Mismatch.DELETE, model.Mismatch.REPLACE)
_MOST_AROUND = 64  # rules that one is held against, for one that comes first; what is beyond is not proved
MOST_PAIRS = 1_000_000  # of rules that do not mend alike: what is beyond counts as other headers
_KEPT = 64  # answers: the requests of one place follow each other
_NAMED = -1  # a port by its name, which may have any number

Mends = tuple[tuple[str, str, str, str], ...]


def mends(request: object) -> Mends:
    """Return what a rule does to headers, in one form where that is the same: LOG does nothing, nor is there anything
    to do without a value, and the order counts for one header only.
    """
    if not isinstance(request, model.HttpRule):
        return ()
    found = (each for each in request.headers if each.mismatch in _MENDING and (each.value or each.secret))
    done = ((h.name.lower(), h.mismatch.value, "" if h.secret else h.value or "", h.secret) for h in found)
    return tuple(sorted(done, key=lambda each: each[0]))


class _Rule(NamedTuple):
    """A rule for HTTP requests at a place. `order`: of its snapshot; `elsewhere`: of the other one, if it is there."""

    place: Place
    request: model.HttpRule
    mends: Mends
    order: Order
    elsewhere: Order | None


class Mending:
    """What two snapshots do to headers. Built once, then only asked."""

    def __init__(self, before: Written, after: Written) -> None:
        are_any = any(mends(item.request) for each in (before, after) for item, _ in each.order)
        was, now = (_orders(each) if are_any else {} for each in (before, after))
        self._before = _Rules(was, now, before.unbound if are_any else ())
        self._after = _Rules(now, was, after.unbound if are_any else ())
        self.may_differ = are_any and (
            [*map(_but_numbers, was.items())] != [*map(_but_numbers, now.items())]
            or before.unbound.keys() != after.unbound.keys()
        )
        no_longer = (place for place in before.unbound if are_any and not self._after.frees(place))
        self._no_longer_free = meeting.of(no_longer, meeting.MEETS)
        self._compared = Compared()
        self._pairs = 0

    def differs(self, item: Item, was_free: bool) -> bool:
        """Tell whether a rule of new may leave headers otherwise than old did, which had a rule that mends otherwise
        there, or looked at no requests (`was_free`, where nothing else of old says so).
        """
        new = self._after.rules.get(item)
        if new is None or self._after.frees(item.place):
            return False
        if new.mends and (was_free or self._no_longer_free.has(item.place)):
            return self._may_be_first(self._after, new, new)
        return any(self._differ(old, new) for old in self._before.beside(item.place) if old.mends != new.mends)

    def _differ(self, old: _Rule, new: _Rule) -> bool:
        self._pairs += 1
        if self._pairs > MOST_PAIRS:
            return True
        if _are_in_order(old, new) or not self._compared.may_meet(old.request, new.request):
            return False
        return self._may_be_first(self._before, old, new) and self._may_be_first(self._after, new, old)

    def _may_be_first(self, among: "_Rules", rule: _Rule, other: _Rule) -> bool:
        """Tell whether a rule may be the first to match a request that it matches together with another one."""
        for both in (rule,) if rule is other else (rule, other):
            for earlier in itertools.islice(among.around(both.place), _MOST_AROUND):
                if _is_before(earlier, rule) and self._compared.covers(earlier.request, both.request):
                    return False
        return True


def _are_in_order(old: _Rule, new: _Rule) -> bool:
    """Tell whether both are in both snapshots, and in the same order wherever they meet."""
    if old.elsewhere is None or new.elsewhere is None:
        return False
    was, now = (old.order, new.elsewhere), (old.elsewhere, new.order)
    if [each.for_anybody for each in was] != [each.for_anybody for each in now]:
        return False
    return (was[0] < was[1]) == (now[0] < now[1]) or not _share_an_entry(old.place, new.place)


def _is_before(one: _Rule, other: _Rule) -> bool:
    """Tell whether a rule comes before another one of its snapshot wherever both are asked."""
    entries = _entries(one.place, other.place)
    if one.order < other.order:
        return all(length >= bits for length, bits in entries)
    return all(length > bits for length, bits in entries)


class _Rules:
    """The rules for HTTP requests of one snapshot, in the order in which they count, each with that in another one."""

    def __init__(self, orders: dict[Item, Order], elsewhere: dict[Item, Order], free: Iterable[Place]) -> None:
        self.rules = {
            item: _Rule(item.place, item.request, mends(item.request), order, elsewhere.get(item))
            for item, order in orders.items()
            if isinstance(item.request, model.HttpRule)
        }
        at: dict[Place, list[_Rule]] = {}
        for rule in self.rules.values():
            at.setdefault(rule.place, []).append(rule)
        lists = list(at.values())
        places = {place: number for number, place in enumerate(at)}
        self._free = meeting.of(free, meeting.INCLUDES)
        self._meeting, self._around = (meeting.Index(places, fits) for fits in (meeting.MEETS, meeting.INCLUDES))
        self._lists = lists
        self.beside = functools.lru_cache(_KEPT)(self._beside)

    def frees(self, place: Place) -> bool:
        """Tell whether all requests pass as they are, whatever rules say of some."""
        return self._free.has(place)

    def _beside(self, place: Place) -> list[_Rule]:
        """Return the rules that may count where a place is."""
        lists = (self._lists[number] for number in self._meeting.said(place))
        return [rule for each in lists if not self.frees(each[0].place) for rule in each]

    def around(self, place: Place) -> Iterator[_Rule]:
        """Yield the rules that count wherever a place is."""
        for number in self._around.said(place):
            yield from self._lists[number]


def _orders(said: Written) -> dict[Item, Order]:
    """Return the rules for HTTP requests in the order in which they count."""
    first: dict[Item, Order] = {}
    for item, order in said.order:
        first.setdefault(item, order)
    return dict(sorted(first.items(), key=lambda each: each[1]))


def _but_numbers(rule: tuple[Item, Order]) -> tuple[Item, bool]:
    return rule[0], rule[1].for_anybody


def _share_an_entry(one: Place, other: Place) -> bool:
    """Tell whether some ports of both are looked up together, so that the order of the rules counts."""
    return any(length == bits for length, bits in _entries(one, other))


def _entries(one: Place, other: Place) -> Iterator[tuple[int, int]]:
    """Yield the lengths of the prefixes of two places that have a port of both: the longer one comes first."""
    for (first, length), (port, bits) in itertools.product(_prefixes(one), _prefixes(other)):
        rest = 16 - min(length, bits)
        if _NAMED in (first, port) or first >> rest == port >> rest:
            yield length, bits


def _prefixes(place: Place) -> list[tuple[int, int]]:
    if place.port is None:
        return [(0, 0)]
    return [(_NAMED, 16)] if place.port.name else list(ports.split(place.port.first, place.port.last))
