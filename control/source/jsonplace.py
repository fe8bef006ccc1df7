"""Where in a JSON value something is that is refused: a second look, once it is known that there is something."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

MAX_SEARCHED = 2 << 20  # characters of a text: to look for a place takes longer than to read


class _Pairs(list[tuple[str, Any]]):
    """A mapping as it is written."""


class _Constant:
    """A word such as NaN."""


def of_wrong(text: str, begin: int, most_deep: int, most_items: int) -> str:
    """Return the path below the value at `begin` (".spec.a[3]") of the first that has a key twice, is nested deeper or
    has more items than these, or is no number; nothing where it cannot be told.
    """
    if len(text) - begin > MAX_SEARCHED:
        return ""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs, parse_constant=lambda _: _Constant(), parse_int=len)
    try:
        value, _ = decoder.raw_decode(text, begin)
    except (ValueError, RecursionError):
        return ""
    todo = [_Place(value)]
    while todo:
        place = todo.pop()
        value = place.value
        if isinstance(value, _Constant):
            return place.path
        if not isinstance(value, list):
            continue
        names = [key for key, _ in value] if isinstance(value, _Pairs) else []
        if len(set(names)) < len(names) or len(value) > most_items or place.depth > most_deep:
            return place.path
        todo += reversed([*_children(place)])
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """A value, and how it is reached: its path is written out once only, for keys may be long and places many."""

    value: Any
    depth: int = 1
    step: str | int = ""
    above: "_Place | None" = None

    @property
    def path(self) -> str:
        place, steps = self, []
        while place.above is not None:
            steps.append(f".{place.step}" if isinstance(place.step, str) else f"[{place.step}]")
            place = place.above
        return "".join(reversed(steps))


def _children(place: _Place) -> Iterator[_Place]:
    pairs = place.value if isinstance(place.value, _Pairs) else enumerate(place.value)
    return (_Place(value, place.depth + 1, step, place) for step, value in pairs)
