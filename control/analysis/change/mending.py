"""Whether requests that were let through are let through with other headers now, because another rule mends them, or
none does, or the order of two rules is another one: the first that matches counts. Pure.

Two snapshots differ for a request where two rules that do not mend alike match it, and each may be the first to do so
in its own. Where a rule before one of them is proved to match whatever that one does, it is not the first.
"""

import itertools
from collections.abc import Iterator

from control import model
from control.analysis.change import meeting
from control.analysis.change.expressions import Compared
from control.analysis.change.written import Item, Order, Place, Written
from control.policy import ports

_MENDING = (model.Mismatch.ADD, model.Mismatch.DELETE, model.Mismatch.REPLACE)
_MOST_AROUND = 64  # rules that one is held against, for one that comes first; what is beyond is not proved
MOST_PAIRS = 1_000_000  # of rules that do not mend alike: what is beyond counts as other headers
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


class Mending:
    """What two snapshots do to headers. Built once, then only asked."""

    def __init__(self, before: Written, after: Written) -> None:
        are_any = any(mends(item.request) for each in (before, after) for item, _ in each.order)
        self._before, self._after = (_Rules(each if are_any else None) for each in (before, after))
        self.may_differ = are_any and self._before.said != self._after.said
        no_longer = (place for place in self._before.free if not self._after.frees(place))
        self._no_longer_free = meeting.of(no_longer, meeting.MEETS)
        self._compared = Compared()
        self._pairs = 0

    def differs(self, item: Item, was_free: bool) -> bool:
        """Tell whether a rule of new may leave headers otherwise than old did, which had a rule that mends otherwise
        there, or looked at no requests (`was_free`, where nothing else of old says so).
        """
        if item not in self._after.order or self._after.frees(item.place):
            return False
        done = mends(item.request)
        if done and (was_free or self._no_longer_free.has(item.place)):
            return self._may_be_first(self._after, item, item)
        return any(self._differ(old, item) for old in self._before.beside(item.place, done))

    def _differ(self, old: Item, new: Item) -> bool:
        self._pairs += 1
        if self._pairs > MOST_PAIRS:
            return True
        if self._are_in_order(old, new) or not self._compared.may_meet(_http(old), _http(new)):
            return False
        return self._may_be_first(self._before, old, new) and self._may_be_first(self._after, new, old)

    def _are_in_order(self, one: Item, other: Item) -> bool:
        """Tell whether both are in both snapshots, and in the same order wherever they meet."""
        if one not in self._after.order or other not in self._before.order:
            return False
        was, now = ((each.order[one], each.order[other]) for each in (self._before, self._after))
        if [each.for_anybody for each in was] != [each.for_anybody for each in now]:
            return False
        return (was[0] < was[1]) == (now[0] < now[1]) or not _share_an_entry(one.place, other.place)

    def _may_be_first(self, among: "_Rules", item: Item, other: Item) -> bool:
        """Tell whether a rule may be the first to match a request that it matches together with another one."""
        for both in dict.fromkeys((item, other)):
            for earlier in itertools.islice(among.around(both.place), _MOST_AROUND):
                if among.is_before(earlier, item) and self._compared.covers(_http(earlier), _http(both)):
                    return False
        return True


class _Rules:
    """The rules for HTTP requests of one snapshot, in the order in which they count; None: they need not be asked."""

    def __init__(self, said: Written | None) -> None:
        self.order: dict[Item, Order] = {}
        for item, order in said.order if said is not None else ():
            self.order.setdefault(item, order)
        self._at: dict[Place, list[Item]] = {}
        in_order = sorted(self.order, key=lambda each: self.order[each])
        for item in in_order:
            self._at.setdefault(item.place, []).append(item)
        self._meeting, self._around = (
            meeting.Index({place: place for place in self._at}, fits) for fits in (meeting.MEETS, meeting.INCLUDES)
        )
        self.free = tuple(said.unbound) if said is not None else ()
        self._free = meeting.of(self.free, meeting.INCLUDES)
        self.said = [(item, self.order[item].for_anybody) for item in in_order], set(self.free)

    def frees(self, place: Place) -> bool:
        """Tell whether all requests pass as they are, whatever rules say of some."""
        return self._free.has(place)

    def beside(self, place: Place, done: Mends) -> Iterator[Item]:
        """Yield the rules that may count where a place is, and do not mend so."""
        for at in self._meeting.said(place):
            if not self.frees(at):
                yield from (item for item in self._at[at] if mends(item.request) != done)

    def around(self, place: Place) -> Iterator[Item]:
        """Yield the rules that count wherever a place is."""
        for at in self._around.said(place):
            yield from self._at[at]

    def is_before(self, one: Item, other: Item) -> bool:
        """Tell whether a rule comes before another one of them wherever both are asked."""
        if not self.order[one] < self.order[other]:
            return all(length > bits for length, bits in _entries(one.place, other.place))
        return all(length >= bits for length, bits in _entries(one.place, other.place))


def _http(item: Item) -> model.HttpRule:
    assert isinstance(item.request, model.HttpRule)
    return item.request


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
