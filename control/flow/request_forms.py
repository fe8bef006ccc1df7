"""Writes the lines of like requests from one form: the same bytes as record.line of requests.flow, much sooner.

See template.py, which does it for the kernel's events. Here the texts in the holes are a client's, so they are escaped;
what a request says may be long or strange, but never ends the string that it stands in.
"""

import json
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from control.flow import directory, record, requests
from control.flow.told import Alike, Batch, Seen, as_json

_SECOND = 1_000_000_000
_MOST = 2048
_HOLE = re.compile(r'"\\u0000#(\w+)\\u0000"|\\u0000(\w+)\\u0000')
_HOLES = requests.Varying(*(f"\0#{name}\0" if name in ("port", "headers") else f"\0{name}\0"
                            for name in requests.Varying._fields))  # fmt: skip
_NUMBERS = {"port", "latency", "ms"}
_escaped = json.encoder.encode_basestring_ascii
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
Pick = Callable[[tuple[Any, ...]], tuple[Any, ...]]


class Form(NamedTuple):
    """The text of a kind of record, for the % operator, and what picks its values out of a Varying's."""

    text: bytes
    pick: Pick


def form(started: record.Json, alike: Alike, traced: bool, with_headers: bool) -> Form | None:
    """Return the form of like requests, or None where their own words look like holes: those are made in full."""
    holes = _HOLES._replace(trace_id=_HOLES.trace_id if traced else "", headers=_HOLES.headers if with_headers else "")
    text = _encode(requests.finish(started, alike, holes)) + "\n"
    found = [number or name for number, name in _HOLE.findall(text)]
    wanted = ["time", "uuid", "port", "latency", "url", *["headers"] * with_headers, *["trace_id"] * traced]
    wanted += ["ms"] * started["flow"]["is_reply"] + ["url", "time"]
    if sorted(found) != sorted(wanted):
        return None
    text = _HOLE.sub(lambda hole: "%d" if (hole[1] or hole[2]) in _NUMBERS else "%b", text.replace("%", "%%"))
    return Form(text.encode("ascii"), operator.itemgetter(*map(requests.Varying._fields.index, found)))


class _Kind:
    """Like requests: the record that their own begin with, and its forms: plain, traced, with headers, with both."""

    __slots__ = ("alike", "forms", "is_met", "started")

    def __init__(self, alike: Alike, started: record.Json) -> None:
        self.alike, self.started, self.is_met = alike, started, [False] * 4
        self.forms: list[Form | None] = [None] * 4


class Forms:
    """The forms of one set of names."""

    def __init__(self, known: directory.Directory) -> None:
        self._known = known
        self._kinds: dict[Alike, _Kind] = {}

    def lines(self, batch: Batch, offset_ns: int, uuids: Iterator[bytes]) -> list[bytes]:
        """Return the line of each request of a batch."""
        kinds = [self._kind(alike) for alike in batch.kinds]
        lines = []
        second, began = b"", -_SECOND  # of the request before: the text, and the monotonic time of its beginning
        for seen in zip(*batch.columns, strict=True):
            which, ended, latency, port, url, trace_id, headers = seen
            variant = (1 if trace_id else 0) + (2 if headers else 0)
            if (known := kinds[which].forms[variant]) is None and (known := self._met(kinds[which], variant)) is None:
                kind, uuid = kinds[which], next(uuids).decode()
                one = requests.varying(Seen(*seen[1:]), offset_ns, uuid)
                lines.append(record.line(requests.finish(kind.started, kind.alike, one)))
                continue
            if not 0 <= ended - began < _SECOND:
                seconds = (ended + offset_ns) // _SECOND
                second, began = record.second(seconds).encode(), seconds * _SECOND - offset_ns
            text, pick = known
            values = (
                b"%b.%09dZ" % (second, ended - began), next(uuids), port, latency, latency // 1_000_000,
                _escaped(url)[1:-1].encode(), trace_id.encode() if trace_id else b"",
                _encode(as_json(headers)).encode() if headers else b"",
            )  # fmt: skip
            lines.append(text % pick(values))
        return lines

    def _kind(self, alike: Alike) -> _Kind:
        found = self._kinds.get(alike)
        if found is None:
            if len(self._kinds) >= _MOST:
                self._kinds.clear()
            found = self._kinds[alike] = _Kind(alike, requests.start(alike, self._known))
        return found

    def _met(self, kind: _Kind, variant: int) -> Form | None:
        """Make a form at the second meeting: what a client makes up is met once."""
        if kind.is_met[variant]:
            kind.forms[variant] = form(kind.started, kind.alike, bool(variant & 1), bool(variant & 2))
        kind.is_met[variant] = True
        return kind.forms[variant]
