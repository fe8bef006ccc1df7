"""Sets of ports, each with its protocol: TCP, UDP and SCTP, ports 1 to 65535; and of protocols without ports, ICMP with
its types, where these are asked for.

All protocols lie on one line, a stretch of 65536 for each, so that a set is its spans on that line and every operation
is one walk. Port 0, which no connection goes to, is never in a set: it keeps the stretches apart. Equal sets are one
object, and what was worked out once is remembered, since thousands of pairs share a handful of sets.
"""

import functools
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, NamedTuple

from control import model
from control.analysis.spans import Spans, common, merged, without
from loader import abi

PROTOCOLS = (abi.Proto.TCP, abi.Proto.UDP, abi.Proto.SCTP)
_MOST_SHOWN = 100  # ranges of a protocol, to people
TYPED = (abi.Proto.ICMP, abi.Proto.ICMPV6)  # type 0 is at place 1 of their stretch
_WITHOUT = (*TYPED, *(each for each in abi.Proto if each not in (*PROTOCOLS, *TYPED, abi.Proto.ANY)))
LAST_PORT = 65535
_LAST_TYPE = 255
_STRETCH = 1 << 16
_LINE = (*PROTOCOLS, *_WITHOUT)
_REMEMBERED = 1 << 16


class PortSet:
    """An immutable set of (protocol, port).

    >>> web = of_specs([model.PortSpec(abi.Proto.TCP, 80, 80), model.PortSpec(abi.Proto.TCP, 8000, 8010)])
    >>> str(web), str(web - web), str(ALL - web | web)
    ('TCP 80, 8000-8010', 'nothing', 'all')
    """

    __slots__ = ("__weakref__", "spans")
    spans: Spans
    _known: ClassVar["weakref.WeakValueDictionary[Spans, PortSet]"] = weakref.WeakValueDictionary()

    def __new__(cls, of: Spans = ()) -> "PortSet":
        """Return the one set of these spans, which must be sorted and apart from each other."""
        found = cls._known.get(of)
        if found is None:
            found = super().__new__(cls)
            object.__setattr__(found, "spans", of)
            cls._known[of] = found
        return found

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a PortSet cannot be changed: {name}")

    def __reduce__(self) -> tuple[type["PortSet"], tuple[Spans]]:
        return PortSet, (self.spans,)

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __contains__(self, item: tuple[int, int]) -> bool:
        proto, port = item
        if proto not in PROTOCOLS:
            return False
        place = PROTOCOLS.index(abi.Proto(proto)) * _STRETCH + port
        return any(first <= place <= last for first, last in self.spans)

    def __or__(self, other: "PortSet") -> "PortSet":
        return self if self is other or not other else _union(self, other)

    def __and__(self, other: "PortSet") -> "PortSet":
        within = self is other or (other is ALL and self.spans[-1:] <= ALL.spans[-1:])
        return self if within else _intersection(self, other)

    def __sub__(self, other: "PortSet") -> "PortSet":
        return _difference(self, other) if other else self

    def __repr__(self) -> str:
        return f"<PortSet {self}>"

    def __str__(self) -> str:
        if self is ALL:
            return "all"
        if self is EVERYTHING:
            return "everything"
        without = self & PORTLESS is PORTLESS
        each = [_words(proto, ranges) for proto, ranges in (self - PORTLESS if without else self).by_protocol()]
        return "; ".join([*each, "all without ports"] if without else each) or "nothing"

    def by_protocol(self) -> Iterator[tuple[abi.Proto, list[tuple[int, int]]]]:
        """Yield each protocol that has something here, with its ranges of ports, or of ICMP types, in order."""
        for index, proto in enumerate(_LINE):
            base = index * _STRETCH
            zero = base + (proto in _WITHOUT)
            inside = [(a - zero, b - zero) for a, b in self.spans if base < a < base + _STRETCH]
            if inside:
                yield proto, inside


def _words(proto: abi.Proto, ranges: list[tuple[int, int]]) -> str:
    if ranges in ([(1, LAST_PORT)], [(0, _LAST_TYPE)]):
        return proto.name
    kind = "type " if proto in TYPED else ""
    shown = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ranges[:_MOST_SHOWN])
    more = f" and {len(ranges) - _MOST_SHOWN} more" if ranges[_MOST_SHOWN:] else ""
    return f"{proto.name} {kind}{shown}{more}"


NONE = PortSet()
ALL = PortSet(tuple((i * _STRETCH + 1, i * _STRETCH + LAST_PORT) for i in range(len(PROTOCOLS))))
PORTLESS = PortSet(tuple((i * _STRETCH + 1, i * _STRETCH + 1 + _LAST_TYPE) for i in range(len(PROTOCOLS), len(_LINE))))
EVERYTHING = PortSet(ALL.spans + PORTLESS.spans)


def of_specs(specs: Iterable[model.PortSpec] | None) -> PortSet:
    """Return the ports that a rule names by number; None means any. ICMP types are no ports."""
    if specs is None:
        return ALL
    found = []
    for spec in specs:
        for index, proto in enumerate(PROTOCOLS):
            first, last = max(spec.first, 1), min(spec.last, LAST_PORT)
            if spec.proto in (proto, abi.Proto.ANY) and first <= last and not spec.name:
                found.append((index * _STRETCH + first, index * _STRETCH + last))
    return PortSet(merged(found))


def of_all_protocols(specs: Iterable[model.PortSpec] | None) -> PortSet:
    """Return the ports and the protocols without ports that a rule names, ICMP with its types; None means any."""
    if specs is None:
        return EVERYTHING
    specs = list(specs)
    found = []
    for spec in specs:
        if spec.proto in _WITHOUT:
            first, last = (spec.first, min(spec.last, _LAST_TYPE)) if spec.proto in TYPED else (0, _LAST_TYPE)
            zero = _LINE.index(spec.proto) * _STRETCH + 1
            found.append((zero + first, zero + last))
    return of_specs(specs) | PortSet(merged(found))


class View(NamedTuple):
    """What there is, and how much of it a rule names."""

    whole: PortSet
    of: Callable[[Iterable[model.PortSpec] | None], PortSet]


ONLY_PORTS, ALL_PROTOCOLS = View(ALL, of_specs), View(EVERYTHING, of_all_protocols)


def union(sets: Iterable[PortSet]) -> PortSet:
    """Return what is in any of the sets: in one walk, however many they are, where they are in order."""
    return PortSet(merged(span for each in sets for span in each.spans))


@functools.lru_cache(_REMEMBERED)
def _union(one: PortSet, other: PortSet) -> PortSet:
    return PortSet(merged(one.spans + other.spans))


@functools.lru_cache(_REMEMBERED)
def _intersection(one: PortSet, other: PortSet) -> PortSet:
    return PortSet(common(one.spans, other.spans))


@functools.lru_cache(_REMEMBERED)
def _difference(one: PortSet, other: PortSet) -> PortSet:
    return PortSet(without(one.spans, other.spans))
