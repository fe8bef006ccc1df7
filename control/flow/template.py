"""Writes the lines of like events from one form: the same bytes as record.line, at a fifth of its cost.

A node may see tens of thousands of connections a second, and most of their records differ only in time, id, source
port, cookie and counts. So a record of a kind is made in full once and its varying values are cut out; the next are
put together from the pieces. A unit test holds both ways to the same bytes.
"""

import json
import operator
import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from control.flow import record, summary
from loader import abi

Json = record.Json
_VARYING = struct.Struct("=QQ32xH38xQQQQQ8x")  # time, cookie, sport, tx, rx, tx redirected, rx redirected, duration
_FIXED = slice(16, 48), slice(50, 88)
_MOST = 4096
_HOLE = re.compile(r'"\\u0000(\w+?)(#?)"')
_MEASURED = (int(abi.EventType.PERIODIC), int(abi.EventType.CLOSE))

assert _VARYING.size == abi.FlowEvent.SIZE, "FlowEvent has changed: its varying fields are at other places now"


_NAMES = ("time", "uuid", "cookie", "sport", "tx", "rx", "txr", "rxr", "duration", "summary")  # as `line` gives them


def _hole(name: str, number: bool = False) -> str:
    return f"\0{name}{'#' if number else ''}"


class Form(NamedTuple):
    """The text of a kind of record for the % operator, and which of `_NAMES`' values it takes, in order."""

    text: str
    values: Callable[[tuple[object, ...]], tuple[object, ...]]
    start: str  # of the summary of a measured event


def form(response: Json, like: abi.FlowEvent) -> Form:
    """Return the form of an event's record."""
    inner = dict(response["flow"])
    out = {**response, "flow": inner, "time": _hole("time")}
    inner["time"], inner["uuid"] = _hole("time"), _hole("uuid")
    if "socket_cookie" in inner:
        inner["socket_cookie"] = _hole("cookie")
    measured = like.type in _MEASURED
    if measured:
        inner["Summary"] = _hole("summary")
    for name, l4 in inner.get("l4", {}).items():
        if "source_port" in l4:
            inner["l4"] = {name: {**l4, "source_port": _hole("sport", number=True)}}
    ours = dict(record.extension(inner))
    for key, name in (
        ("bytes_sent", "tx"), ("bytes_received", "rx"), ("short_cut_bytes_sent", "txr"),
        ("short_cut_bytes_received", "rxr"), ("duration_ns", "duration"),
    ):  # fmt: skip
        if key in ours:
            ours[key] = _hole(name)
    inner["extensions"] = {**inner["extensions"], "value": {"sockmesh": ours}}
    text = json.dumps(out, separators=(",", ":")) + "\n"
    names = [hole[1] for hole in _HOLE.finditer(text)]
    text = _HOLE.sub(lambda hole: "%s" if hole[2] else '"%s"', text.replace("%", "%%"))
    start = summary.start(like) if measured else ""
    return Form(text, operator.itemgetter(*map(_NAMES.index, names)), start)


class Forms:
    """The forms of one set of names; `make` returns the full record of an event."""

    def __init__(self, make: Callable[[abi.FlowEvent], Json]) -> None:
        self._make = make
        self._forms: dict[tuple[bytes, int], Form] = {}
        self._met: set[tuple[bytes, int]] = set()

    def line(self, raw: bytes, offset_ns: int, uuid: Callable[[], str]) -> bytes:
        """Return the line of an event as the ring buffer holds it."""
        time, cookie, sport, tx, rx, txr, rxr, duration = _VARYING.unpack(raw)
        absent = (not cookie) | (not sport) << 1 | (not (tx or rx)) << 2 | (not (txr or rxr)) << 3 | (not duration) << 4
        key = (raw[16:48] + raw[50:88], absent)
        found = self._forms.get(key)
        if found is None:
            event = abi.FlowEvent.unpack(raw)
            response = self._make(event)
            self._learn(key, event, response)
            return record.line(response)
        text, values, start = found
        all_values = (
            record.timestamp(time + offset_ns), uuid(), cookie, sport, tx, rx, txr, rxr, duration,
            start and start + summary.counts(tx, rx, duration),
        )  # fmt: skip
        return (text % values(all_values)).encode("ascii")

    def _learn(self, key: tuple[bytes, int], event: abi.FlowEvent, response: Json) -> None:
        """Make a form at the second meeting: most strangers from outside are met once."""
        if key not in self._met:
            if len(self._met) >= _MOST:
                self._met.clear()
            self._met.add(key)
            return
        if len(self._forms) >= _MOST:
            self._forms.clear()
        self._forms[key] = form(response, event)
