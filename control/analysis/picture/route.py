"""The ways of nets through a grid: along the channels between its rows and columns, each on a track of its own.

Channel i of the rows lies above row i, the last one below the last row; channels of columns likewise. A way is a walk
over the places where channels meet and the places above and below a cell. Nets share channels, never tracks: two wires
lie on each other only where they are one net.
"""

import dataclasses
import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping

from control.analysis.picture.arrange import Area, Grid
from control.analysis.picture.bundle import Bundle, Item, Net

# (row channel, place along it): an even place is where column channel place/2 meets, an odd one is a column's middle.
Point = tuple[int, int]
Step = tuple[Point, Point]

_ALONG, _ACROSS = 1.0, 1.4  # half a column, a row
_THROUGH = 4.0  # a box that is neither end's
_CROWD = 0.12  # for each net that is there already
_TURN = 0.5


@dataclasses.dataclass(frozen=True)
class Pin:
    """Where a net meets an item: from the channel above the item (`below` True: it lies below the channel) or below.

    `slot` of `slots` side by side over the column's width.
    """

    item: Item
    point: Point
    below: bool
    head: bool
    slot: int = 0
    slots: int = 1


@dataclasses.dataclass(frozen=True)
class Run:
    """A stretch of a net in one channel, and its track there. `first` and `last` are places along the channel."""

    channel: int
    first: float
    last: float
    track: int = 0


@dataclasses.dataclass(frozen=True)
class Route:
    """One net's wires: from the first pin to each other one, and the runs that they share."""

    net: Net
    pins: tuple[Pin, ...]
    ways: tuple[tuple[Point, ...], ...]  # of each pin but the first
    rows: tuple[Run, ...]
    columns: tuple[Run, ...]


@dataclasses.dataclass(frozen=True)
class Routes:
    """All nets' wires, and how many tracks each channel needs."""

    routes: tuple[Route, ...]
    row_tracks: tuple[int, ...]
    column_tracks: tuple[int, ...]


def route(bundle: Bundle, grid: Grid) -> Routes:
    """Return the wires of all nets."""
    crowd: dict[Step, int] = {}
    found: list[tuple[Net, list[Pin], list[tuple[Point, ...]]]] = []
    for net in sorted(bundle.nets, key=lambda net: _spread(net, bundle, grid)):  # short ones first: they go straight
        starts = [_pins(item, False, net, bundle, grid) for item in net.senders]
        ends = [_pins(item, True, net, bundle, grid) for item in net.receivers]
        pins, ways = _connect([*starts, *ends] if net.senders != net.receivers else ends, net, bundle, grid, crowd)
        found.append((net, pins, ways))
    placed = _slots(found)
    rows = [_runs(pins, ways, 0) for (_, _, ways), pins in zip(found, placed, strict=True)]
    columns = [_runs(pins, ways, 1) for (_, _, ways), pins in zip(found, placed, strict=True)]
    tracked_rows, row_tracks = _tracks(rows, grid.rows + 1)
    tracked_columns, column_tracks = _tracks(columns, grid.columns + 1)
    routes = tuple(
        Route(net, tuple(pins), tuple(ways), tuple(tracked_rows[i]), tuple(tracked_columns[i]))
        for i, ((net, _, ways), pins) in enumerate(zip(found, placed, strict=True))
    )
    return Routes(routes, row_tracks, column_tracks)


def area_of(item: Item, grid: Grid) -> Area:
    return grid.boxes[item.box] if item.node < 0 else grid.cells[item.node]


def _spread(net: Net, bundle: Bundle, grid: Grid) -> tuple[int, int]:
    areas = [area_of(item, grid) for item in {*net.senders, *net.receivers}]
    rows, columns = [a.row for a in areas], [a.column for a in areas]
    return max(rows) - min(rows) + max(columns) - min(columns), len(areas)


def _pins(item: Item, is_receiver: bool, net: Net, bundle: Bundle, grid: Grid) -> list[Pin]:
    """Return the pins to choose from: senders are left below, receivers are entered above, the outside has its only
    side below."""
    area = area_of(item, grid)
    is_outside = item.node >= 0 and bundle.nodes[item.node].box is None
    below = is_receiver and not is_outside
    channel = area.row if below else area.row + area.rows
    head = is_receiver or net.is_mutual
    return [
        Pin(item, (channel, 2 * column + 1), below, head) for column in range(area.column, area.column + area.columns)
    ]


def _connect(
    choices: list[list[Pin]], net: Net, bundle: Bundle, grid: Grid, crowd: dict[Step, int]
) -> tuple[list[Pin], list[tuple[Point, ...]]]:
    """Return a pin of each choice, and the way from the first pin to each other one, as branches of one tree."""
    own = {item.box or bundle.nodes[item.node].box for item in (*net.senders, *net.receivers)}
    foreign = [area for box, area in grid.boxes.items() if box and box not in own]
    first = min(choices[0], key=lambda pin: sum(_far(pin.point, other[len(other) // 2].point) for other in choices[1:]))
    pins = [first]
    to: dict[Point, tuple[Point, ...]] = {first.point: (first.point,)}
    ways: list[tuple[Point, ...]] = []
    for choice in sorted(choices[1:], key=lambda choice: min(_far(first.point, pin.point) for pin in choice)):
        branch = _cheapest(set(to), {pin.point for pin in choice}, foreign, grid, crowd)
        pin = next(pin for pin in choice if pin.point == branch[-1])
        for index, point in enumerate(branch[1:], 1):
            to.setdefault(point, (*to[branch[index - 1]], point))
            step = _step(branch[index - 1], point)
            crowd[step] = crowd.get(step, 0) + 1
        pins.append(pin)
        ways.append(to[pin.point])
    return pins, ways


def _far(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) * _ACROSS + abs(a[1] - b[1]) * _ALONG


def _step(a: Point, b: Point) -> Step:
    return (a, b) if a < b else (b, a)


def _cheapest(
    starts: set[Point], ends: set[Point], foreign: list[Area], grid: Grid, crowd: Mapping[Step, int]
) -> list[Point]:
    """Return the cheapest way from any start to any end: short, with few turns, around boxes of others."""
    heap: list[tuple[float, Point, bool]] = [
        (0.0, start, upright) for start in sorted(starts) for upright in (False, True)
    ]
    best = {(point, upright): 0.0 for _, point, upright in heap}
    before: dict[tuple[Point, bool], tuple[Point, bool]] = {}
    while heap:
        cost, point, upright = heapq.heappop(heap)
        if cost > best[point, upright]:
            continue
        if point in ends:
            way = [point]
            state = (point, upright)
            while state in before:
                state = before[state]
                if state[0] != way[-1]:
                    way.append(state[0])
            return way[::-1]
        for other in _next(point, grid):
            turned = other[0] != point[0]
            step = _step(point, other)
            price = (_ACROSS if turned else _ALONG) + _CROWD * crowd.get(step, 0) + _TURN * (turned != upright)
            price += _THROUGH * any(_crosses(step, area) for area in foreign)
            if cost + price < best.get((other, turned), 1e9):
                best[other, turned] = cost + price
                before[other, turned] = (point, upright)
                heapq.heappush(heap, (cost + price, other, turned))
    raise AssertionError("every place of a grid can be reached")


def _next(point: Point, grid: Grid) -> Iterator[Point]:
    channel, place = point
    if place > 0:
        yield channel, place - 1
    if place < 2 * grid.columns:
        yield channel, place + 1
    if place % 2 == 0:
        if channel > 0:
            yield channel - 1, place
        if channel < grid.rows:
            yield channel + 1, place


def _crosses(step: Step, area: Area) -> bool:
    """Tell whether a step leads through the inside of a box."""
    (row, place), (other_row, other_place) = step
    if row == other_row:
        inside_row = area.row < row < area.row + area.rows
        return inside_row and 2 * area.column <= place and other_place <= 2 * (area.column + area.columns)
    inside_column = 2 * area.column < place < 2 * (area.column + area.columns)
    return inside_column and area.row <= row and other_row <= area.row + area.rows


def _slots(found: Iterable[tuple[Net, list[Pin], list[tuple[Point, ...]]]]) -> list[list[Pin]]:
    """Return the pins of each net with slots, so that no two wires of one place meet; in the order of where they go."""
    nets = list(found)
    at: dict[Point, list[tuple[float, int]]] = {}
    for number, (_, pins, _) in enumerate(nets):
        for point in {pin.point for pin in pins}:
            others = [pin.point[1] for pin in pins if pin.point != point]
            at.setdefault(point, []).append((sum(others) / len(others) if others else point[1], number))
    slots = {
        (point, number): (slot, len(each))
        for point, each in at.items()
        for slot, (_, number) in enumerate(sorted(each))
    }
    return [
        [dataclasses.replace(pin, slot=slots[pin.point, n][0], slots=slots[pin.point, n][1]) for pin in pins]
        for n, (_, pins, _) in enumerate(nets)
    ]


def _runs(pins: list[Pin], ways: list[tuple[Point, ...]], axis: int) -> list[Run]:
    """Return the stretches of one net along the channels of one axis (0: of rows), those that touch made one."""
    stretches: set[tuple[int, float, float]] = set()
    for way in ways:
        for (a, b), (c, d) in itertools.pairwise(way):
            if axis == 0 and a == c:
                stretches.add((a, min(b, d), max(b, d)))
            elif axis == 1 and b == d:
                stretches.add((b // 2, min(a, c), max(a, c)))
    if axis == 0:
        stretches.update((pin.point[0], pin.point[1] - 0.45, pin.point[1] + 0.45) for pin in pins)
    runs: list[Run] = []
    for channel, first, last in sorted(stretches):
        if runs and runs[-1].channel == channel and first <= runs[-1].last:
            runs[-1] = dataclasses.replace(runs[-1], last=max(last, runs[-1].last))
        else:
            runs.append(Run(channel, first, last))
    return runs


def _tracks(of_nets: list[list[Run]], channels: int) -> tuple[list[list[Run]], tuple[int, ...]]:
    """Return all runs with tracks, such that no two of one channel and track touch, and how many each channel needs."""
    taken: list[list[list[Run]]] = [[] for _ in range(channels)]
    out = [list(runs) for runs in of_nets]
    order = sorted(
        ((run, net, index) for net, runs in enumerate(of_nets) for index, run in enumerate(runs)),
        key=lambda item: (item[0].last - item[0].first, item[0].first, item[1]),
    )
    for run, net, index in order:
        tracks = taken[run.channel]
        free = next((t for t, each in enumerate(tracks) if all(_apart(run, other) for other in each)), len(tracks))
        tracks += [[]] if free == len(tracks) else []
        tracks[free].append(run)
        out[net][index] = dataclasses.replace(run, track=free)
    return out, tuple(map(len, taken))


def _apart(one: Run, other: Run) -> bool:
    return one.last < other.first or other.last < one.first
