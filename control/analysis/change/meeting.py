"""Which of many places meet another one, or include it, asked for many of these: each part of a place is compared once.

Places are numbered, and sets of them are whole numbers with a bit for each, made when they are asked for: one for each
part of each place would need memory by the square.
"""

import functools
import operator
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from control import model
from control.analysis.change import written
from control.analysis.change.written import Place
from control.policy import apart, covering
from loader import abi

Said = TypeVar("Said", bound=Hashable)

_EVERYBODY = model.PortSpec(abi.Proto.ANY)
MAX_COMPARED = 25_000_000  # parts of places, each with each: 5,000 selectors all of which change, half a minute
MAX_FOUND = 1_000_000  # of what is said, by all places that are asked about: some 100 MB to print
_KEPT = 64 << 20  # bytes of answers that one index keeps, but 64 answers at least
TOO_MUCH = (
    "what old and new rules say comes to more than can be compared rule by rule "
    "(compare fewer policies at once, or write fewer or wider rules)"
)


def _subjects_meet(one: model.Selector, other: model.Selector) -> bool:
    return not apart.selectors(one, other)


def _peers_meet(one: model.Peer | None, other: model.Peer | None) -> bool:
    """Tell whether somebody may be meant by both; True also where that is not plain to see."""
    if isinstance(one, model.Selector) and isinstance(other, model.Selector):
        return not apart.selectors(one, other)
    return not any(
        written.is_of_pods(each) and written.is_of_no_pods(also) for each, also in ((one, other), (other, one))
    )


def _ports_meet(one: model.PortSpec | None, other: model.PortSpec | None) -> bool:
    a, b = one or _EVERYBODY, other or _EVERYBODY
    same = a.proto == b.proto or abi.Proto.ANY in (a.proto, b.proto)
    return same and max(a.first, b.first) <= min(a.last, b.last)


def _ports_include(one: model.PortSpec | None, other: model.PortSpec | None) -> bool:
    return one is None or (other is not None and covering.ports(one, other))


def _is_any_or_same(one: model.Peer | None, other: model.Peer | None) -> bool:
    return one is None or one == other or (isinstance(one, model.NamePeer) and covering.peers(one, other))


# For each part of a place, in order: whether that of one of the places fits that of the place that is asked about.
Fits = Sequence[Callable[[Any, Any], bool]]
# That both may be about one packet.
MEETS: Fits = (operator.eq, _subjects_meet, operator.eq, _peers_meet, _ports_meet)
# That the one is about all that the other is about; False also where that is not plain to see.
INCLUDES: Fits = (operator.eq, covering.selectors, operator.eq, covering.peers, _ports_include)
# The same, where peers are the same word or any, or names.
INCLUDES_BY_PEER: Fits = (operator.eq, covering.selectors, operator.eq, _is_any_or_same, _ports_include)


class Index(Generic[Said]):
    """Places, and what is said of each. Built once, then only asked."""

    def __init__(self, places: Mapping[Place, Said], fits: Fits) -> None:
        self._fits = fits
        self._said = list(places.values())
        self._of_said = _numbers(self._said)
        self._parts = [_numbers(parts) for parts in zip(*places, strict=True)]
        self._fitting = functools.lru_cache(max(64, _KEPT // (len(places) // 8 + 32)))(self._fitting_of)
        self._compared = self._found = 0

    def has(self, place: Place) -> bool:
        """Tell whether any of the places fits; raises model.TooMuch."""
        return bool(self._of(place))

    def said(self, place: Place) -> Iterator[Said]:
        """Yield what is said of those that fit, in their order and each once; raises model.TooMuch."""
        left = self._of(place)
        while left:
            said = self._said[(left & -left).bit_length() - 1]
            left &= ~_set(self._of_said[said])
            self._found += 1
            if self._found > MAX_FOUND:
                raise model.TooMuch(TOO_MUCH)
            yield said

    def _of(self, place: Place) -> int:
        out = -1 if self._said else 0
        for number, _ in enumerate(self._parts):
            out &= self._fitting(number, place[number])
            if not out:
                break
        return out

    def _fitting_of(self, number: int, part: Hashable) -> int:
        self._compared += len(self._parts[number])
        if self._compared > MAX_COMPARED:
            raise model.TooMuch(TOO_MUCH)
        fits = self._fits[number]
        return _set([at for other, those in self._parts[number].items() if fits(other, part) for at in those])


def of(places: Iterable[Place], fits: Fits) -> Index[None]:
    """Return an index of places of which nothing is said."""
    return Index(dict.fromkeys(places), fits)


def _numbers(values: Iterable[Said]) -> dict[Said, list[int]]:
    """Return for each value the numbers at which it is."""
    at: dict[Said, list[int]] = {}
    for number, value in enumerate(values):
        at.setdefault(value, []).append(number)
    return at


def _set(numbers: Sequence[int]) -> int:
    bits = bytearray(max(numbers, default=0) // 8 + 1)
    for number in numbers:
        bits[number // 8] |= 1 << number % 8
    return int.from_bytes(bits, "little")
