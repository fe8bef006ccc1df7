"""One question to the flow log: which flows, how many, from when to when. The same on both ends of the admin socket."""

import calendar
import dataclasses
import functools
import heapq
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from control.flow import filter as flow_filter

Json = dict[str, Any]

_FOR_EVER = 1 << 63  # nanoseconds
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h|d)")
_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?(?:([Zz])|([+-])(\d\d):?(\d\d))?"
)


class NotAFlow(ValueError):
    """A line is not JSON, or not a flow record."""


class NotJson(NotAFlow):
    """A line is not JSON: the half of one, say, that a writer left when its machine lost power."""


@functools.lru_cache(maxsize=256)
def _minute_ns(day: str, minute: str) -> int:
    return calendar.timegm(time.strptime(f"{day} {minute}", "%Y-%m-%d %H:%M")) * 10**9


def parse_time(text: str) -> int:
    """Return nanoseconds since 1970 of an RFC 3339 time, or of a date or time without a zone, taken as UTC.

    >>> parse_time("1970-01-01T00:00:01.5Z"), parse_time("1970-01-02"), parse_time("1970-01-01T01:00+01:00")
    (1500000000, 86400000000000, 0)
    """
    found = _RFC3339.fullmatch(text)
    if not found:
        raise ValueError(f'"{text}" is not a time (2026-11-20T20:00:00Z, 2026-11-20 or, counted back from now, 5m)')
    day, minute, second, fraction, _, sign, zone_hours, zone_minutes = found.groups()
    try:
        ns = _minute_ns(day, minute or "00:00") + int(second or 0) * 10**9 + int((fraction or "0").ljust(9, "0"))
    except ValueError:
        raise ValueError(f'"{text}" is not a time: there is no such day or hour') from None
    if sign:
        zone = (int(zone_hours) * 60 + int(zone_minutes)) * _UNITS["m"]
        ns += -zone if sign == "+" else zone
    return ns


def parse_moment(text: str, now_ns: int) -> int:
    """Return the moment that --since and --until name: a time, "now", or how long ago ("5m", "1h30m", "2.5s").

    >>> parse_moment("1m30s", 100_000_000_000)
    10000000000
    """
    if text == "now":
        return now_ns
    span = parse_span(text)
    ns = parse_time(text) if span is None else now_ns - span
    if ns < 0:
        raise ValueError(f'"{text}" is before 1970-01-01, the earliest time that can be given')
    return ns


def parse_span(text: str) -> int | None:
    """Return the nanoseconds of a span ("5m", "1h30m", "2.5s"), or None for what is none."""
    spans = _SPAN.findall(text)
    if not spans or "".join(number + unit for number, unit in spans) != text:
        return None
    try:
        return sum(round(float(number) * _UNITS[unit]) for number, unit in spans)
    except OverflowError:  # a float has no room for it
        return _FOR_EVER


@dataclasses.dataclass(frozen=True)
class Query:
    """None means no bound. `first` (as they were written) and `last` (by their times) count flows that pass the terms;
    at most one of them is given."""

    terms: tuple[flow_filter.Term, ...] = ()
    last: int | None = None
    first: int | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    follow: bool = False

    def params(self) -> Json:
        """Return the params of the admin socket's `observe`."""
        out: Json = {
            key: value
            for key in ("last", "first", "since_ns", "until_ns", "follow")
            if (value := getattr(self, key)) is not None
        }
        if self.terms:
            out["filters"] = [
                {"flag": term.flag, "value": term.value} | ({"not": True} if term.negated else {})
                for term in self.terms
            ]
        return out

    @classmethod
    def from_params(cls, params: Mapping[str, Any]) -> "Query":
        """Return the query that `params` asks for; raises FilterInvalid for what it cannot be."""
        unknown = set(params) - {"last", "first", "since_ns", "until_ns", "follow", "filters"}
        if unknown:
            raise flow_filter.FilterInvalid(f"observe: unknown parameter {sorted(unknown)[0]!r}")
        numbers: dict[str, int | None] = {}
        for key in ("last", "first", "since_ns", "until_ns"):
            value = params.get(key)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise flow_filter.FilterInvalid(f"observe: {key} is not a whole number from 0 on")
            numbers[key] = value
        try:
            terms = tuple(
                flow_filter.Term(str(raw["flag"]), str(raw["value"]), bool(raw.get("not", False)))
                for raw in params.get("filters") or ()
            )
        except (TypeError, KeyError, AttributeError):
            raise flow_filter.FilterInvalid("observe: filters is not a list of {flag, value, not}") from None
        return cls(terms=terms, follow=params.get("follow") is True, **numbers)


class Matcher:
    """Says of each line whether a query wants it. Records of lost events pass every filter but the times."""

    def __init__(self, query: Query) -> None:
        self._query = query
        self._holds = flow_filter.predicate(query.terms)
        self.passes_all = not query.terms and query.since_ns is None and query.until_ns is None

    def wants(self, response: Mapping[str, Any]) -> bool:
        query = self._query
        flow = response.get("flow")
        if flow is not None and not isinstance(flow, dict):
            raise NotAFlow("not a flow record: its flow is not an object")
        try:
            if query.since_ns is not None or query.until_ns is not None:
                when = parse_time(str(response.get("time") or (flow or {}).get("time")))
                if query.since_ns is not None and when < query.since_ns:
                    return False
                if query.until_ns is not None and when > query.until_ns:
                    return False
            if flow is not None and "node_name" not in flow and "node_name" in response:
                flow = {**flow, "node_name": response["node_name"]}  # some writers name the node outside only
            return self._holds(flow) if flow is not None else "lost_events" in response
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise NotAFlow(f"not a flow record: {error}") from None


def parse_line(line: bytes | str) -> Json:
    """Return one record; raises NotAFlow. A bare flow, as older tools write it, is put into its envelope."""
    try:
        response = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotJson(f"not JSON: {error}") from None
    if not isinstance(response, dict):
        raise NotAFlow("not a flow record: a JSON object is expected")
    if "flow" not in response and "verdict" in response:
        envelope = {key: response[key] for key in ("node_name", "time") if key in response}
        return {"flow": response} | envelope
    return response


def select(responses: Iterable[Json], query: Query) -> Iterator[Json]:
    """Yield what a query wants of a finite run of records, in their order; the last ones in that of their times."""
    matcher = Matcher(query)
    wanted = (response for response in responses if matcher.wants(response))
    if query.first is not None:
        count = 0
        for response in wanted:
            if count >= query.first:
                return
            count += "flow" in response
            yield response
    elif query.last is not None:
        yield from _tail(wanted, query.last)
    else:
        yield from wanted


def _tail(responses: Iterable[Json], last: int) -> Iterable[Json]:
    """Return the flows of the latest times, in their order, with the records of lost events between and after them;
    nothing at all for none.

    By time, for some records are written late: the last lines of a file need not be what happened last.
    """
    if last == 0:
        return ()
    kept: list[tuple[int, int, Json]] = []  # a heap, by time and then by place
    flows = when = 0
    for place, response in enumerate(responses):
        when = _time(response, when)
        heapq.heappush(kept, (when, place, response))
        flows += "flow" in response
        if flows > last:
            while "flow" not in heapq.heappop(kept)[2]:
                pass
            flows -= 1
            while kept and "flow" not in kept[0][2]:
                heapq.heappop(kept)  # lost before the first flow that is shown
    return [response for _, _, response in sorted(kept, key=lambda each: each[:2])]


def _time(response: Json, before: int) -> int:
    """Return when a record says that it was; of one that does not say, it is where it stands."""
    try:
        return parse_time(str(response.get("time") or (response.get("flow") or {}).get("time")))
    except ValueError:
        return before
