"""Where things stand in a picture: every node in a cell of one grid, every namespace a rectangle of cells.

Senders come above those whom they call, as far as that can be; the outside is the first row.
"""

import dataclasses
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from control.analysis.picture.bundle import Bundle, Item

T = TypeVar("T", bound=Hashable)
_WIDE = 1.5  # columns for each row, about
_TALL = 1.8  # rows for each column of a box, at the most


@dataclasses.dataclass(frozen=True)
class Area:
    """Cells from (row, column), as many rows and columns."""

    row: int
    column: int
    rows: int = 1
    columns: int = 1


@dataclasses.dataclass(frozen=True)
class Grid:
    """`cells`: of each node by its place. `boxes`: of each namespace."""

    rows: int
    columns: int
    cells: tuple[Area, ...]
    boxes: Mapping[str, Area]


def arrange(bundle: Bundle) -> Grid:
    """Return a place for everything."""
    arrows = [
        (sender, receiver)
        for net in bundle.nets
        for sender in net.senders
        for receiver in net.receivers
        if sender != receiver and not (net.is_mutual and receiver < sender)
    ]
    inside = {
        box: _inside(bundle, box, arrows) for box in {node.box: 0 for node in bundle.nodes if node.box is not None}
    }
    areas = [len(rows) * max(map(len, rows)) for rows in inside.values()]
    widest = max((len(row) for rows in inside.values() for row in rows), default=1)
    outside = [number for number, node in enumerate(bundle.nodes) if node.box is None]
    columns = max(widest, round(math.sqrt(sum(areas) * _WIDE)), min(len(outside), 4), 1)
    cells: dict[int, Area] = {}
    top = -(-len(outside) // columns)
    skyline = [top] * columns
    boxes: dict[str, Area] = {}
    flows = [(_box(bundle, a), _box(bundle, b)) for a, b in arrows]
    levels = layers(inside, [(a, b) for a, b in flows if a is not None and b is not None and a != b])
    for box in sorted(inside, key=lambda box: (levels[box], -len(inside[box]))):
        rows = inside[box]
        area = _fit(skyline, len(rows), max(map(len, rows)))
        boxes[box] = area
        for y, row in enumerate(rows):
            shift = (area.columns - len(row)) // 2
            cells.update((node, Area(area.row + y, area.column + shift + x)) for x, node in enumerate(row))
    for index, node in enumerate(_over_their_peers(outside, arrows, cells, boxes)):
        line, place = divmod(index, columns)
        in_line = min(columns, len(outside) - line * columns)
        cells[node] = Area(line, (columns - in_line) // 2 + place)
    used = max((area.column + area.columns for area in (*cells.values(), *boxes.values())), default=1)
    return Grid(max(skyline), used, tuple(cells[number] for number in range(len(bundle.nodes))), boxes)


def _box(bundle: Bundle, item: Item) -> str | None:
    return item.box if item.node < 0 else bundle.nodes[item.node].box


def _inside(bundle: Bundle, box: str, arrows: Iterable[tuple[Item, Item]]) -> list[list[int]]:
    """Return the nodes of a namespace in rows."""
    members = [number for number, node in enumerate(bundle.nodes) if node.box == box]
    calls = [(a.node, b.node) for a, b in arrows if a.node in members and b.node in members]
    levels = layers(members, calls)
    width = max(2, math.ceil(math.sqrt(len(members))))
    rows: list[list[int]] = []
    for level in range(max(levels.values()) + 1):
        here = [number for number in members if levels[number] == level]
        above = {number: x for row in rows[-1:] for x, number in enumerate(row)}
        here.sort(key=lambda number: _mean([above[a] for a, b in calls if b == number and a in above], number))
        count = -(-len(here) // width)
        size = -(-len(here) // count)
        rows += [here[start : start + size] for start in range(0, len(here), size)]
    if len(rows) > _TALL * width:  # a long chain: it goes on in the next row
        ordered = [number for row in rows for number in row]
        rows = [ordered[start : start + width] for start in range(0, len(ordered), width)]
    return rows


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def layers(items: Iterable[T], arrows: Iterable[tuple[T, T]]) -> dict[T, int]:
    """Return a level for each item, below the levels of those that lead to it; of a circle, the last arrow is ignored.

    >>> layers("abc", [("a", "b"), ("b", "c"), ("c", "a")])
    {'a': 0, 'b': 1, 'c': 2}
    """
    ahead: dict[T, list[T]] = {item: [] for item in items}
    entered = dict.fromkeys(ahead, 0)
    for a, b in dict.fromkeys(arrows):
        ahead[a].append(b)
        entered[b] += 1
    levels = dict.fromkeys(ahead, 0)
    done: set[T] = set()
    on_way: set[T] = set()
    order: list[T] = []
    for start in sorted(ahead, key=lambda item: entered[item] - len(ahead[item])):  # senders first
        stack = [(start, iter(ahead[start]))] if start not in done else []
        on_way.update(item for item, _ in stack)
        while stack:
            item, following = stack[-1]
            after = next((other for other in following if other not in done and other not in on_way), None)
            if after is not None:
                on_way.add(after)
                stack.append((after, iter(ahead[after])))
            else:
                stack.pop()
                on_way.discard(item)
                done.add(item)
                order.append(item)
    rank = {item: index for index, item in enumerate(reversed(order))}
    for item in reversed(order):
        for other in ahead[item]:
            if rank[other] > rank[item]:  # else it closes a circle
                levels[other] = max(levels[other], levels[item] + 1)
    return levels


def _fit(skyline: list[int], rows: int, columns: int) -> Area:
    """Return the highest place for a rectangle, and take it."""
    tops = [max(skyline[x : x + columns]) for x in range(len(skyline) - columns + 1)]
    column = tops.index(min(tops))
    skyline[column : column + columns] = [tops[column] + rows] * columns
    return Area(tops[column], column, rows, columns)


def _over_their_peers(
    outside: list[int], arrows: list[tuple[Item, Item]], cells: Mapping[int, Area], boxes: Mapping[str, Area]
) -> list[int]:
    def column(item: Item) -> float:
        area = boxes[item.box] if item.node < 0 else cells[item.node]
        return area.column + area.columns / 2

    def wish(node: int) -> float:
        peers = [b if a.node == node else a for a, b in arrows if node in (a.node, b.node)]
        return _mean([column(peer) for peer in peers if peer.node not in outside], 0)

    return sorted(outside, key=wish)
