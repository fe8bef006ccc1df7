"""The wires of a picture: where the tracks of nets are on the paper, and what is drawn along them."""

import dataclasses
import itertools
from collections.abc import Iterator
from html import escape

from control.analysis.picture import route
from control.analysis.picture.arrange import Grid
from control.analysis.picture.bundle import Bundle, Item, Net
from control.analysis.picture.route import Pin, Point, Route, Routes
from control.analysis.write import marked

NODE_W, NODE_H = 164, 44
PAD, HEADER = 14, 26  # inside a box: at its sides and below, above
COLOURS = ("#2563eb", "#c2410c", "#15803d", "#9333ea", "#be123c", "#0e7490", "#a16207", "#4f46e5", "#4d7c0f", "#a21caf")
MARGIN = 24
_TRACK = 15  # between wires
_GAP = 16  # between boxes
_HEAD = 12  # room for an arrow's head
_ROUND = 6

Corner = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Scale:
    """Coordinates: left edges of columns, upper edges of rows, first tracks of both kinds of channels."""

    columns: tuple[float, ...]
    rows: tuple[float, ...]
    column_tracks: tuple[float, ...]
    row_tracks: tuple[float, ...]
    width: int
    height: int


def scale_of(grid: Grid, routes: Routes) -> Scale:
    """Return where everything is: channels are as wide as their tracks and the edges of boxes in them need."""
    boxes = [area for name, area in grid.boxes.items() if name]
    columns, column_tracks, x = [], [], float(MARGIN)
    for channel, count in enumerate(routes.column_tracks):
        x += PAD if any(channel == area.column + area.columns for area in boxes) else 0
        column_tracks.append(x + _GAP / 2 + _TRACK / 2)
        x += _GAP + count * _TRACK
        x += PAD if any(channel == area.column for area in boxes) else 0
        columns.append(x)
        x += NODE_W if channel < grid.columns else 0
    rows, row_tracks, y = [], [], float(MARGIN)
    for channel, count in enumerate(routes.row_tracks):
        y += PAD if any(channel == area.row + area.rows for area in boxes) else 0
        row_tracks.append(y + _HEAD + _TRACK / 2)
        y += 2 * _HEAD + count * _TRACK
        y += HEADER if any(channel == area.row for area in boxes) else 0
        rows.append(y)
        y += NODE_H if channel < grid.rows else 0
    width, height = round(x + MARGIN), round(y + MARGIN)
    return Scale(tuple(columns), tuple(rows), tuple(column_tracks), tuple(row_tracks), width, height)


def edges(item: Item, grid: Grid, scale: Scale) -> tuple[int, int, int, int]:
    """Return left, upper, right and lower edge of an item."""
    area = route.area_of(item, grid)
    left, upper = round(scale.columns[area.column]), round(scale.rows[area.row])
    right = round(scale.columns[area.column + area.columns - 1]) + NODE_W
    lower = round(scale.rows[area.row + area.rows - 1]) + NODE_H
    return (left - PAD, upper - HEADER, right + PAD, lower + PAD) if item.node < 0 else (left, upper, right, lower)


def cut(text: str, room: int) -> str:
    """Return text fit for SVG, with no more characters than there is room for."""
    return escape(text if len(text) <= room else text[: max(room - 1, 1)] + "…")


def cut_name(text: str, room: int) -> str:
    """Return a name fit for SVG: names that begin alike often end differently, so what is cut out is the middle."""
    tail = max(room - 1, 1) // 2
    return escape(text if len(text) <= room or room < 8 else f"{text[: room - 1 - tail]}…{text[-tail:]}")


def wires(shown: Bundle, routes: Routes, grid: Grid, scale: Scale) -> Iterator[str]:
    """Yield all wires, and their labels over them."""
    labels: list[str] = []
    for index, each in enumerate(routes.routes):
        colour = index % len(COLOURS)
        head = f' marker-end="url(#head{colour})"'
        dashed = " proxied" if each.net.ports.proxied else ""
        yield f'<g class="wire{dashed}" stroke="{COLOURS[colour]}"><title>{escape(_words(each.net, shown))}</title>'
        drawn = [_corners(each, pin, way, grid, scale) for pin, way in zip(each.pins[1:], each.ways, strict=True)]
        for pin, corners in zip(each.pins[1:], drawn, strict=True):
            yield f'<path d="{_path(corners)}"{head if pin.head else ""}/>'
        if each.pins[0].head:  # every wire begins there, so its head is drawn once more, backwards
            (x, y), (_, other) = drawn[0][:2]
            yield f'<path d="M{x} {(y + other) // 2}L{x} {y}"{head}/>'
        for pin in each.pins:
            if not pin.head:
                x, y = _end_of(pin, grid, scale)
                yield f'<circle cx="{x}" cy="{y}" r="2.5" fill="{COLOURS[colour]}" stroke="none"/>'
        yield "</g>"
        labels += _label(str(each.net.ports), drawn, COLOURS[colour])
    yield from labels


def _words(net: Net, shown: Bundle) -> str:
    def name(item: Item) -> str:
        return f"namespace {item.box}" if item.node < 0 else ", ".join(map(str, shown.nodes[item.node].ends[:8]))

    words = f"{net.ports.ports}{marked(*net.ports)}"
    arrow = "↔" if net.is_mutual else "→"
    return f"{'; '.join(map(name, net.senders))} {arrow} {'; '.join(map(name, net.receivers))}: {words}"


def _end_of(pin: Pin, grid: Grid, scale: Scale) -> Corner:
    _, upper, _, lower = edges(pin.item, grid, scale)
    x = scale.columns[pin.point[1] // 2] + (pin.slot + 1) * NODE_W / (pin.slots + 1)
    return round(x), upper if pin.below else lower


def _row_y(each: Route, point: Point, scale: Scale) -> int:
    run = next(run for run in each.rows if run.channel == point[0] and run.first <= point[1] <= run.last)
    return round(scale.row_tracks[run.channel] + run.track * _TRACK)


def _column_x(each: Route, first: Point, second: Point, scale: Scale) -> int:
    rows = sorted((first[0], second[0]))
    run = next(r for r in each.columns if r.channel == first[1] // 2 and r.first <= rows[0] and rows[1] <= r.last)
    return round(scale.column_tracks[run.channel] + run.track * _TRACK)


def _corners(each: Route, pin: Pin, way: tuple[Point, ...], grid: Grid, scale: Scale) -> list[Corner]:
    """Return the corners of the wire from a net's first pin to another one, in whole numbers: the edges of what is
    drawn twice would be darker otherwise."""
    x, y = _end_of(each.pins[0], grid, scale)
    corners = [(x, y), (x, _row_y(each, way[0], scale))]
    for index, (before, after) in enumerate(itertools.pairwise(way), 2):
        if before[0] != after[0]:  # up or down a channel between columns
            x = _column_x(each, before, after, scale)
            corners.append((x, corners[-1][1]))
            if index == len(way) or way[index][0] == after[0]:  # and out of it here
                corners.append((x, _row_y(each, after, scale)))
    x, y = _end_of(pin, grid, scale)
    corners += [(x, corners[-1][1]), (x, y)]
    return [corner for index, corner in enumerate(corners) if index == 0 or corner != corners[index - 1]]


def _path(corners: list[Corner]) -> str:
    """Return a line with round corners."""
    out = f"M{corners[0][0]} {corners[0][1]}"
    for (ax, ay), (bx, by), (cx, cy) in zip(corners, corners[1:], corners[2:], strict=False):
        before, after = abs(ax - bx) + abs(ay - by), abs(cx - bx) + abs(cy - by)
        radius = min(_ROUND, before / 2, after / 2)
        sx, sy = bx + (ax - bx) / before * radius, by + (ay - by) / before * radius
        ex, ey = bx + (cx - bx) / after * radius, by + (cy - by) / after * radius
        out += f"L{sx:g} {sy:g}Q{bx} {by} {ex:g} {ey:g}"
    return out + f"L{corners[-1][0]} {corners[-1][1]}"


def _label(text: str, drawn: list[list[Corner]], colour: str) -> Iterator[str]:
    """Yield the ports, on the longest level stretch of a net, or on a wire that has none."""
    stretches = [
        (abs(ax - bx), (ax + bx) // 2, ay)
        for corners in drawn
        for (ax, ay), (bx, by) in itertools.pairwise(corners)
        if ay == by
    ]
    length, x, y = max(stretches, default=(0, 0, 0))
    if not stretches:  # straight down: above the head
        x, y = drawn[0][0][0], (drawn[0][0][1] + drawn[0][-1][1] - _HEAD // 2) // 2
    room = max(length // 7, 14)
    width = min(len(text), room) * 6.4 + 6
    yield f'<rect class="pill" x="{x - width / 2:g}" y="{y - 6}" width="{width:g}" height="12" rx="3"/>'
    yield f'<text class="ports" x="{x}" y="{y + 3.5}" style="fill:{colour}">{cut(text, room)}</text>'
