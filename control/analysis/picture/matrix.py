"""Who may talk to whom as a table of squares: for more senders and receivers than arrows could be followed between."""

from collections.abc import Iterator, Sequence

from control.analysis import portset
from control.analysis.picture.bundle import Bundle
from control.analysis.picture.wires import MARGIN, cut

_CELL = 13
_LETTER = 6.2
_LONGEST = 32
_ALL, _SOME = "#1d4ed8", "#93c5fd"


def size(names: Sequence[str]) -> tuple[int, int]:
    """Return width and height."""
    side = 2 * MARGIN + _room(names) + len(names) * _CELL
    return max(side, 640), side + 36


def _room(names: Sequence[str]) -> int:
    return round(min(max(map(len, names), default=0), _LONGEST) * _LETTER) + 10


def squares(shown: Bundle, names: Sequence[str]) -> Iterator[str]:
    """Yield the table: a row for each sender, a column for each receiver, darker where all ports are open."""
    start = MARGIN + _room(names)
    side = len(names) * _CELL
    for index, name in enumerate(names):
        place = start + index * _CELL
        if index % 2 == 0:
            row, column = f"M{start} {place}h{side}v{_CELL}h{-side}z", f"M{place} {start}v{side}h{_CELL}v{-side}z"
            yield f'<path class="band" d="{row}{column}"/>'
        at = place + _CELL - 3
        yield f'<text class="from" x="{start - 6}" y="{at}">{cut(name, _LONGEST)}</text>'
        yield f'<text class="to" transform="translate({at} {start - 6}) rotate(-90)">{cut(name, _LONGEST)}</text>'
    among = {(number, number): node.among for number, node in enumerate(shown.nodes) if node.among}
    squares_ = {**shown.pairs, **among}
    for is_all, colour in ((True, _ALL), (False, _SOME)):
        inside = _CELL - 2
        path = "".join(
            f"M{start + to * _CELL + 1} {start + source * _CELL + 1}h{inside}v{inside}h{-inside}z"
            for (source, to), opened in squares_.items()
            if (opened.ports is portset.ALL) == is_all
        )
        yield f'<path fill="{colour}" d="{path}"/>'
    # What needs the proxy has a hole.
    holes = "".join(
        f"M{start + to * _CELL + 5} {start + source * _CELL + 5}h3v3h-3z"
        for (source, to), opened in squares_.items()
        if opened.proxied
    )
    if holes:
        yield f'<path fill="#fff" d="{holes}"/>'
    below = start + side + 22
    yield f'<text class="hint" x="{MARGIN}" y="{below}">Rows may open to columns:</text>'
    for x, colour, text in ((MARGIN + 150, _ALL, "all ports"), (MARGIN + 240, _SOME, "some ports")):
        yield f'<rect x="{x}" y="{below - 10}" width="11" height="11" fill="{colour}"/>'
        yield f'<text class="hint" x="{x + 17}" y="{below}">{text}</text>'
    if holes:
        text = "with a hole: needs the node proxy, in part at least"
        yield f'<text class="hint" x="{MARGIN + 340}" y="{below}">{text}</text>'
