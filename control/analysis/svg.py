"""A picture of who may talk to whom, as SVG: namespaces are boxes, workloads nodes, the outside stands above.

An arrow begins at the lower edge of who may call and ends at the upper edge of who may be called. Wires that are one
net join: each of its senders may open the ports to each of its receivers.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from html import escape

from control.analysis import arrange, bundle, outside, route
from control.analysis.arrange import Grid
from control.analysis.bundle import Bundle, Item, Net, Node
from control.analysis.connectivity import Connectivity
from control.analysis.route import Pin, Point, Route, Routes

_NODE_W, _NODE_H = 164, 44
_TRACK = 15  # between wires
_PAD, _HEADER = 14, 26  # inside a box: at its sides and below, above
_GAP = 16  # between boxes
_MARGIN = 24
_HEAD = 12  # room for an arrow's head
_COLOURS = (
    "#2563eb",
    "#c2410c",
    "#15803d",
    "#9333ea",
    "#be123c",
    "#0e7490",
    "#a16207",
    "#4f46e5",
    "#4d7c0f",
    "#a21caf",
)
_STYLE = """
text{font-family:"Inter","Helvetica Neue","DejaVu Sans",Arial,sans-serif;fill:#1e293b}
.title{font-size:12px;font-weight:600;text-anchor:middle}.line{font-size:10px;fill:#64748b;text-anchor:middle}
.box{fill:#f1f5f9;stroke:#cbd5e1}.ns{font-size:12px;font-weight:700;fill:#475569}.among{font-size:10px;fill:#64748b}
.node{fill:#fff;stroke:#64748b;stroke-width:1.2}.more{fill:#fff;stroke:#94a3b8}.alone{stroke-dasharray:3 3;stroke:#94a3b8}
.outside{fill:#fefce8;stroke:#ca8a04;stroke-width:1.2}.wire{fill:none;stroke-width:2;stroke-linejoin:round}
.ports{font-size:10px;font-weight:600;text-anchor:middle;paint-order:stroke;stroke:#fff;stroke-width:4px;stroke-linejoin:round}
.hint{font-size:10px;fill:#64748b}
"""


@dataclasses.dataclass(frozen=True)
class _Scale:
    """Coordinates: left edges of columns, upper edges of rows, first tracks of both kinds of channels."""

    columns: tuple[float, ...]
    rows: tuple[float, ...]
    column_tracks: tuple[float, ...]
    row_tracks: tuple[float, ...]
    width: float
    height: float


def picture(found: Connectivity) -> str:
    """Return the picture of all connections."""
    shown = bundle.bundle(found)
    grid = arrange.arrange(shown)
    routes = route.route(shown, grid)
    scale = _scale(grid, routes)
    body = [*_boxes(shown, grid, scale), *_wires(shown, routes, grid, scale), *_nodes(shown, grid, scale)]
    return "\n".join([*_head(scale, shown), *body, "</svg>", ""])


def _scale(grid: Grid, routes: Routes) -> _Scale:
    boxes = [area for name, area in grid.boxes.items() if name]
    begin_x, end_x = {a.column for a in boxes}, {a.column + a.columns for a in boxes}
    begin_y, end_y = {a.row for a in boxes}, {a.row + a.rows for a in boxes}
    columns, column_tracks, x = [], [], float(_MARGIN)
    for channel, count in enumerate(routes.column_tracks):
        x += _PAD if channel in end_x else 0
        column_tracks.append(x + _GAP / 2 + _TRACK / 2)
        x += _GAP + count * _TRACK
        x += _PAD if channel in begin_x else 0
        columns.append(x)
        x += _NODE_W if channel < grid.columns else 0
    rows, row_tracks, y = [], [], float(_MARGIN)
    for channel, count in enumerate(routes.row_tracks):
        y += _PAD if channel in end_y else 0
        row_tracks.append(y + _HEAD + _TRACK / 2)
        y += 2 * _HEAD + count * _TRACK
        y += _HEADER if channel in begin_y else 0
        rows.append(y)
        y += _NODE_H if channel < grid.rows else 0
    return _Scale(tuple(columns), tuple(rows), tuple(column_tracks), tuple(row_tracks), x + _MARGIN, y + _MARGIN + 14)


def _head(scale: _Scale, shown: Bundle) -> Iterator[str]:
    size = f"{scale.width:.0f} {scale.height:.0f}"
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{scale.width:.0f}" '
    yield f'height="{scale.height:.0f}" role="img"><title>Who may talk to whom</title><style>{_STYLE}</style><defs>'
    for index, colour in enumerate(_COLOURS):
        yield (
            f'<marker id="h{index}" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="9" markerHeight="9" '
            f'markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.8L10 5L0 9.2z" fill="{colour}"/></marker>'
        )
    yield "</defs>"
    yield f'<rect width="{scale.width:.0f}" height="{scale.height:.0f}" fill="#fff"/>'
    hint = (
        "An arrow leads from who may open connections to whom they may be opened; lines that join hold for all of them."
    )
    if shown.is_by_namespace:
        hint = (
            f"More than {bundle.MAX_NODES} workloads: an arrow says what some workload of a namespace may open. {hint}"
        )
    yield f'<text class="hint" x="{_MARGIN}" y="{scale.height - 12:.0f}">{hint}</text>'


def _edges(item: Item, grid: Grid, scale: _Scale) -> tuple[float, float, float, float]:
    """Return left, upper, right and lower edge of what an item is."""
    area = route.area_of(item, grid)
    left, upper = scale.columns[area.column], scale.rows[area.row]
    right = scale.columns[area.column + area.columns - 1] + _NODE_W
    lower = scale.rows[area.row + area.rows - 1] + _NODE_H
    if item.node < 0:
        return left - _PAD, upper - _HEADER, right + _PAD, lower + _PAD
    return left, upper, right, lower


def _boxes(shown: Bundle, grid: Grid, scale: _Scale) -> Iterator[str]:
    for name in filter(None, grid.boxes):
        left, upper, right, lower = _edges(Item(-1, name), grid, scale)
        yield f'<rect class="box" x="{left:.1f}" y="{upper:.1f}" width="{right - left:.1f}" height="{lower - upper:.1f}" rx="10"/>'
        room = int((right - left - 24) / 7)
        yield f'<text class="ns" x="{left + 12:.1f}" y="{upper + 17:.1f}">{_cut(name, room)}</text>'
        if name in shown.among and (left_over := room - len(name) - 6) > 4:
            words = _cut(f"each other: {shown.among[name]}", left_over)
            yield f'<text class="among" text-anchor="end" x="{right - 12:.1f}" y="{upper + 17:.1f}">{words}</text>'


def _cut(text: str, room: int) -> str:
    """Return text fit for SVG, with no more characters than there is room for."""
    return escape(text if len(text) <= room else text[: max(room - 1, 1)] + "…")


def _nodes(shown: Bundle, grid: Grid, scale: _Scale) -> Iterator[str]:
    wired = {item.node for net in shown.nets for item in (*net.senders, *net.receivers)}
    boxed = {item.box for net in shown.nets for item in (*net.senders, *net.receivers)} | shown.among.keys()
    for number, node in enumerate(shown.nodes):
        left, upper, _, _ = _edges(Item(number), grid, scale)
        is_alone = number not in wired and node.box not in boxed and not node.among
        kind = "outside" if node.box is None else "node alone" if is_alone else "node"
        if node.box is not None and node.ends[1:]:
            yield f'<rect class="more" x="{left + 4}" y="{upper + 4:.1f}" width="{_NODE_W}" height="{_NODE_H}" rx="6"/>'
        radius = _NODE_H / 2 if node.box is None else 6
        yield (
            f'<g><title>{escape(chr(10).join(map(str, node.ends[:40])))}</title><rect class="{kind}" x="{left:.1f}" '
            f'y="{upper:.1f}" width="{_NODE_W}" height="{_NODE_H}" rx="{radius:g}"/>'
        )
        title, *lines = _texts(node, shown.is_by_namespace)
        middle = left + _NODE_W / 2
        first = upper + _NODE_H / 2 + 4 - 6.5 * len(lines)
        yield f'<text class="title" x="{middle:.1f}" y="{first:.1f}">{_cut(title, 21)}</text>'
        for index, line in enumerate(lines, 1):
            yield f'<text class="line" x="{middle:.1f}" y="{first + 13 * index:.1f}">{_cut(line, 27)}</text>'
        yield "</g>"


def _texts(node: Node, is_namespace: bool) -> list[str]:
    """Return the two lines of a node; the second may be left out."""
    end = node.ends[0]
    if node.box is None:
        named, _, lacking = outside.words(end.cidrs).partition(" except ")
        if lacking:
            return [named, f"except {lacking}"]
        first, *others = named.split(", ")
        return [first, *([", ".join(others)] if others else [])]
    if is_namespace:
        title, line = end.namespace, f"{len(node.ends)} workloads" if node.ends[1:] else f"{end.kind} {end.name}"
    elif node.ends[1:]:
        kinds = {each.kind for each in node.ends}
        title = f"{end.name} … {node.ends[-1].name}"
        line = f"{len(node.ends)} {f'{end.kind}s' if len(kinds) == 1 else 'workloads'}"
    else:
        title, line = end.name, end.kind if end.kind != "Pod" else ""
    if node.among:
        line += f", each other: {node.among}"
    return [title, *filter(None, [line])]


def _wires(shown: Bundle, routes: Routes, grid: Grid, scale: _Scale) -> Iterator[str]:
    labels = []
    for index, each in enumerate(routes.routes):
        colour = index % len(_COLOURS)
        yield f'<g class="wire" stroke="{_COLOURS[colour]}"><title>{escape(_words(each.net, shown))}</title>'
        for pin, way in zip(each.pins[1:], each.ways, strict=True):
            points = _points(each, each.pins[0], pin, way, grid, scale)
            end = f' marker-end="url(#h{colour})"' if pin.head else ""
            yield f'<path d="{_path(points)}"{end}/>'
        for pin in each.pins:
            if pin.item in each.net.senders and not pin.head:
                x, y = round(_pin_x(pin, scale)), round(_pin_y(pin, grid, scale))
                yield f'<circle cx="{x}" cy="{y}" r="2.5" fill="{_COLOURS[colour]}" stroke="none"/>'
        if each.pins[0].head:  # the first pin's own head: a wire is drawn towards it once more
            points = _points(each, each.pins[0], each.pins[1], each.ways[0], grid, scale)[:2]
            yield f'<path d="{_path(points[::-1])}" marker-end="url(#h{colour})"/>'
        yield "</g>"
        labels.append(_label(each, grid, scale, _COLOURS[colour]))
    yield from labels


def _words(net: Net, shown: Bundle) -> str:
    def name(item: Item) -> str:
        return f"namespace {item.box}" if item.node < 0 else ", ".join(map(str, shown.nodes[item.node].ends[:8]))

    arrow = "↔" if net.is_mutual else "→"
    return f"{'; '.join(map(name, net.senders))} {arrow} {'; '.join(map(name, net.receivers))}: {net.ports}"


def _pin_x(pin: Pin, scale: _Scale) -> float:
    return scale.columns[pin.point[1] // 2] + (pin.slot + 1) * _NODE_W / (pin.slots + 1)


def _pin_y(pin: Pin, grid: Grid, scale: _Scale) -> float:
    _, upper, _, lower = _edges(pin.item, grid, scale)
    return upper if pin.below else lower


def _row_y(each: Route, point: Point, scale: _Scale) -> float:
    run = next(run for run in each.rows if run.channel == point[0] and run.first <= point[1] <= run.last)
    return scale.row_tracks[run.channel] + run.track * _TRACK


def _column_x(each: Route, first: Point, second: Point, scale: _Scale) -> float:
    rows = sorted((first[0], second[0]))
    run = next(r for r in each.columns if r.channel == first[1] // 2 and r.first <= rows[0] and rows[1] <= r.last)
    return scale.column_tracks[run.channel] + run.track * _TRACK


def _points(
    each: Route, start: Pin, end: Pin, way: tuple[Point, ...], grid: Grid, scale: _Scale
) -> list[tuple[int, int]]:
    """Return the corners of the wire from one pin to another."""
    x = _pin_x(start, scale)
    points = [(x, _pin_y(start, grid, scale)), (x, _row_y(each, way[0], scale))]
    for before, after in itertools.pairwise(way):
        if before[0] != after[0]:  # up or down a channel between columns
            x = _column_x(each, before, after, scale)
            points.append((x, points[-1][1]))
            is_last = after == way[-1] or way[way.index(after) + 1][0] == after[0]
            if is_last:
                points.append((x, _row_y(each, after, scale)))
    x = _pin_x(end, scale)
    points += [(x, points[-1][1]), (x, _pin_y(end, grid, scale))]
    whole = [(round(x), round(y)) for x, y in points]  # or the edges of what is drawn twice would be darker
    return [point for index, point in enumerate(whole) if index == 0 or point != whole[index - 1]]


def _path(points: list[tuple[int, int]]) -> str:
    """Return a line with round corners."""
    out = f"M{points[0][0]} {points[0][1]}"
    for (ax, ay), (bx, by), (cx, cy) in zip(points, points[1:], points[2:], strict=False):
        before, after = abs(ax - bx) + abs(ay - by), abs(cx - bx) + abs(cy - by)
        radius = min(6, before / 2, after / 2)
        if not radius:
            continue
        sx, sy = bx + (ax - bx) / before * radius, by + (ay - by) / before * radius
        ex, ey = bx + (cx - bx) / after * radius, by + (cy - by) / after * radius
        out += f"L{sx:g} {sy:g}Q{bx} {by} {ex:g} {ey:g}"
    return out + f"L{points[-1][0]} {points[-1][1]}"


def _label(each: Route, grid: Grid, scale: _Scale, colour: str) -> str:
    """Return the ports, on the longest level stretch of a net, or beside its first upright one."""
    text = str(each.net.ports)
    level: list[tuple[float, float, float]] = []
    for pin, way in zip(each.pins[1:], each.ways, strict=True):
        points = _points(each, each.pins[0], pin, way, grid, scale)
        level += [(abs(ax - bx), (ax + bx) / 2, ay) for (ax, ay), (bx, by) in itertools.pairwise(points) if ay == by]
    length, x, y = max(level, default=(0.0, 0.0, 0.0))
    if length < 12:
        upright = _points(each, each.pins[0], each.pins[-1], each.ways[-1], grid, scale)
        if len({place for place, _ in upright}) == 1:  # straight down: above the head
            x, y = upright[0][0], (upright[0][1] + upright[-1][1] - _HEAD / 2) / 2
    room = max(int(length / 6), 14)
    return f'<text class="ports" x="{x:.1f}" y="{y + 3.5:.1f}" style="fill:{colour}">{_cut(text, room)}</text>'
