"""Writes the lines of like events from one form: the same bytes as record.line, at a tenth of its cost.

A node may see tens of thousands of connections a second, and most of their records differ only in time, id, source
port, cookie and counts. So a record of a kind is made in full and its varying values are cut out; the next are put into
the holes. A unit test holds both ways to the same bytes.
"""

import json
import operator
import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from control.flow import record, summary
from loader import abi, events

Json = record.Json
# time, cookie, addresses, sport, dport to ifindex, five amounts, and flags that no record shows
_SLOT = struct.Struct(f"={events.HEADER}xQQ32sH46sQQQQQQ")
_SECOND = 1_000_000_000
_MOST = 4096
_HOLE = re.compile(r'"\\u0000#(\w+)\\u0000"|\\u0000(\w+)\\u0000')
# What holes are filled with, in the order of the text; the second is for events that say how much and how long.
_ALWAYS = ("time", "uuid", "sport", "cookie", "time")
_MEASURED = ("time", "uuid", "sport", "cookie", "counts", "tx", "rx", "txr", "rxr", "duration", "time")
_MAY_LACK, _TEXTS = {"sport", "cookie", "txr", "rxr"}, {"time", "uuid", "counts"}
_Kind = tuple[bytes, bytes, bool, bool, bool, bool]  # what is the same in like events, and which of the rest is zero

assert _SLOT.size == events.SLOT, "FlowEvent has changed: its varying fields are at other places now"


def _hole(name: str) -> str:
    return f"\0{name}\0"


class Form(NamedTuple):
    """The text of a kind of record, for the % operator, which copies the text between two holes in one go.

    It takes the values of `_MEASURED` or of `_ALWAYS`, or those that `pick` picks out of them.
    """

    text: bytes
    measured: bool
    pick: Callable[[tuple[object, ...]], tuple[object, ...]] | None


def form(response: Json, like: abi.FlowEvent) -> Form | None:
    """Return the form of an event's record, or None for a kind that the kernel does not report: it is made in full.

    Such a kind has amounts but is not measured. Its records do not all tell the same.
    """
    measured = like.type in (abi.EventType.PERIODIC, abi.EventType.CLOSE)
    inner = dict(response["flow"])
    out = {**response, "flow": inner, "time": _hole("time")}
    inner["time"], inner["uuid"] = _hole("time"), _hole("uuid")
    if "socket_cookie" in inner:
        inner["socket_cookie"] = _hole("cookie")
    if measured:
        inner["Summary"] = summary.start(like) + _hole("counts")
    for name, l4 in inner.get("l4", {}).items():
        if "source_port" in l4:
            inner["l4"] = {name: {**l4, "source_port": _hole("#sport")}}
    ours = dict(record.extension(inner))
    for key, name in (
        ("bytes_sent", "tx"), ("bytes_received", "rx"), ("short_cut_bytes_sent", "txr"),
        ("short_cut_bytes_received", "rxr"), ("duration_ns", "duration"),
    ):  # fmt: skip
        if key in ours:
            ours[key] = _hole(name)
    inner["extensions"] = {**inner["extensions"], "value": {"sockmesh": ours}}
    text = json.dumps(out, separators=(",", ":")) + "\n"
    holes = [number or name for number, name in _HOLE.findall(text)]
    given = _MEASURED if measured else _ALWAYS
    if holes != [name for name in given if name in holes or name not in _MAY_LACK]:
        return None
    pick = None if len(holes) == len(given) else operator.itemgetter(*map(given.index, holes))
    text = _HOLE.sub(lambda hole: "%b" if hole[2] in _TEXTS else "%d", text.replace("%", "%%"))
    return Form(text.encode("ascii"), measured, pick)


class Forms:
    """The forms of one set of names; `make` returns the full record of an event."""

    def __init__(self, make: Callable[[abi.FlowEvent], Json]) -> None:
        self._make = make
        self._forms: dict[_Kind, Form] = {}
        self._met: set[_Kind] = set()

    def lines(self, slots: bytes, offset_ns: int, uuids: Iterator[bytes]) -> list[bytes]:
        """Return the line of each event of a batch, as EventReader reads it."""
        lines = []
        second, began = b"", -_SECOND  # of the event before: the text, and the monotonic time of its beginning
        for slot in _SLOT.iter_unpack(slots):
            time, cookie, addresses, sport, rest, tx, rx, txr, rxr, duration, _ = slot
            plain = not (txr or rxr)
            kind = (addresses, rest, not cookie, not sport, plain, plain and not (tx or rx or duration))
            if (known := self._forms.get(kind)) is None:
                lines.append(self._in_full(kind, abi.FlowEvent.unpack(_SLOT.pack(*slot)[events.HEADER :])))
                continue
            if not 0 <= time - began < _SECOND:
                seconds = (time + offset_ns) // _SECOND
                second, began = record.second(seconds).encode(), seconds * _SECOND - offset_ns
            stamp = b"%b.%09dZ" % (second, time - began)
            text, measured, pick = known
            values: tuple[object, ...]
            if measured:
                counts = summary.counts(tx, rx, duration).encode()
                values = stamp, next(uuids), sport, cookie, counts, tx, rx, txr, rxr, duration, stamp
            else:
                values = stamp, next(uuids), sport, cookie, stamp
            lines.append(text % (pick(values) if pick else values))
        return lines

    def _in_full(self, kind: _Kind, event: abi.FlowEvent) -> bytes:
        """Return the line, and make a form at the second meeting: most strangers from outside are met once."""
        response = self._make(event)
        if kind in self._met:
            if len(self._forms) >= _MOST:
                self._forms.clear()
            if made := form(response, event):
                self._forms[kind] = made
        else:
            if len(self._met) >= _MOST:
                self._met.clear()
            self._met.add(kind)
        return record.line(response)
