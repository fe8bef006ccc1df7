"""What the node proxy's workers tell the agent of requests: batches, in which what many have in common is said once.

A worker looks at what strangers send, so the agent takes nothing on trust: `read` holds every value to its type, its
range and its length. A batch stands for itself: whichever worker it comes from, and whoever of the two starts anew.

    batch = Gathered()                    # in a worker
    batch.add(alike, ended, latency, client_port, url, trace_id, headers)
    read(json.loads(json.dumps(batch.content(lost=0))))       # in the agent
"""

import functools
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from control.flow import record
from loader import abi
from loader.record import pack_addr

# Requests. Who reads or writes a batch holds a core meanwhile, and some request waits for it: of few, not for long.
# With all lengths at their most, its frame is well within proxy_feed.MOST_UP.
BATCH = 32
MOST_URL, MOST_TEXT, MOST_METHOD, MOST_VALUE = 2048, 512, 64, 256  # characters
MOST_HEADERS = 16  # names that may go on record
NO_GRPC_STATUS = -1
ROOT_SPAN, SPAN = 48, 64  # digits: of its trace, its own, and its parent's if it has one
_LEAST = {"grpc_status": NO_GRPC_STATUS, "server_port": 1}
_MOST = {"grpc_status": 999, "server_port": 65535, "status": 999, "asked_at": max(abi.Direction)}
_HEX = re.compile("[0-9a-f]+")
Headers = list[list[str]]  # [name, value]


class Alike(NamedTuple):
    """What requests have in common. Those of many connections do: only the client's port is another."""

    client: str
    server: str
    server_port: int
    source_endpoint: int
    source_identity: int
    target_endpoint: int
    target_identity: int
    egress_rule: int
    ingress_rule: int
    asked_at: int  # abi.Direction of the end whose policy was asked last, or of the one that refused
    allowed: bool
    protocol: str  # "HTTP/1.1"
    method: str  # "" and no URL: it could not be read
    status: int  # 0: it was never answered
    grpc_status: int  # NO_GRPC_STATUS
    why: str  # the proxy itself ended it, or answered in the server's place
    told: str  # names of headers that were not as a rule says, with commas between


class Seen(NamedTuple):
    """What is another in each request. `trace_id`: of its parent span, "" for none; `ended`: CLOCK_MONOTONIC."""

    ended: int
    latency: int
    client_port: int
    url: str
    trace_id: str = ""
    headers: Headers | None = None


class Batch(NamedTuple):
    """Requests: what `kinds` of them there are, of which kind each is, and the columns of Seen."""

    lost: int  # requests that nothing is told of, for lack of room
    kinds: list[Alike]
    kind: list[int]
    ended: list[int]
    latency: list[int]
    client_port: list[int]
    url: list[str]
    trace_id: list[str]
    headers: list[Headers | None]
    spans: Sequence[tuple[int, str]] = ()  # of requests that are traced: which request that is, and digits

    @property
    def columns(self) -> tuple[list[Any], ...]:
        """Return `kind`, and the columns of Seen."""
        return self[2:-1]

    def seen(self) -> Iterator[Seen]:
        return map(Seen, *self.columns[1:])


class Gathered:
    """A batch in the making. `alike`: the values of an Alike, or tuples that make them when they are put together."""

    __slots__ = ("_kinds", "_rows", "_spans")

    def __init__(self) -> None:
        self._kinds: dict[tuple[Any, ...], int] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._spans: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, ends: tuple[Any, ...], rest: tuple[Any, ...], *seen: Any) -> int:
        """Take one more, of which `ends` and `rest` make an Alike; return how many there are now."""
        kinds = self._kinds
        self._rows.append((kinds.setdefault((ends, rest), len(kinds)), *seen))
        return len(self._rows)

    def trace(self, digits: str) -> None:
        """Say that the request that comes next is a span."""
        self._spans.append((len(self._rows), digits))

    def content(self, lost: int) -> list[Any]:
        """Return it as JSON's types."""
        columns = zip(*self._rows, strict=True) if self._rows else [()] * 7
        return [lost, [ends + rest for ends, rest in self._kinds], *columns, self._spans]


def size(content: Any) -> int:
    """Return how many requests a batch is of that cannot be read, as far as anybody can tell; at least 1."""
    try:
        return min(max(len(content[2]), 1), BATCH)
    except (TypeError, LookupError):
        return 1


def read(content: Any) -> Batch:
    """Raises TypeError, ValueError for what no worker says."""
    lost, kinds, *columns, spans = content
    if len(columns) != 7 or len(set(map(len, columns))) != 1 or not len(kinds) <= len(columns[0]) <= BATCH:
        raise ValueError(f"a batch of {len(kinds)} kinds has columns of {[len(column) for column in columns]}")
    kind, ended, latency, port, url, trace, headers = columns
    for numbers in [lost], kind, ended, latency, port:
        if not set(map(type, numbers)) <= {int}:
            raise TypeError(f"{numbers[:3]} ...: not all are numbers")
    for texts in url, trace:
        if not set(map(type, texts)) <= {str}:
            raise TypeError(f"{texts[:3]} ...: not all are texts")
    _within("lost", lost, lost, 1 << 62)
    if kind:
        _within("kind", min(kind), max(kind), len(kinds) - 1)
        _within("ended", min(ended), max(ended), 1 << 62)
        _within("latency", min(latency), max(latency), 1 << 62)
        _within("client_port", min(port) - 1, max(port), 65535)
        _within("url", 0, max(map(len, url)), MOST_URL)
        digits = "".join(trace)
        if not set(map(len, trace)) <= {0, 32} or (digits and not (digits.isascii() and digits.isalnum())):
            raise ValueError("a trace id that is not 32 digits")
        for each in headers:
            if each is not None:
                _check_headers(each)
    found = [_alike(tuple(each)) for each in kinds]
    return Batch(lost, found, kind, ended, latency, port, url, trace, headers, _spans(spans, len(kind)))


def _spans(given: Any, requests: int) -> list[tuple[int, str]]:
    out = [(number, digits) for number, digits in given]
    if len(out) > requests:
        raise ValueError(f"{len(out)} spans of {requests} requests")
    for number, digits in out:
        if type(number) is not int or type(digits) is not str:
            raise TypeError("a span that is no number of a request, and digits")
        if not 0 <= number < requests or len(digits) not in (ROOT_SPAN, SPAN) or not _HEX.fullmatch(digits):
            raise ValueError(f"a span of request {number} of {requests}, or not of {ROOT_SPAN} or {SPAN} digits")
    return out


def _within(name: str, least: int, most: int, bound: int) -> None:
    if least < 0 or most > bound:
        raise ValueError(f"{name} from {least} to {most}: 0 to {bound}")


@functools.lru_cache(maxsize=4096)
def _alike(given: tuple[Any, ...]) -> Alike:
    out = Alike(*given)
    for (name, wanted), value in zip(Alike.__annotations__.items(), out, strict=True):
        if type(value) is not wanted:
            raise TypeError(f"{name} {str(value)[:64]}: not {wanted.__name__}")
        if isinstance(value, str) and len(value) > MOST_TEXT:
            raise ValueError(f"{name} of {len(value)} characters: at most {MOST_TEXT}")
        if isinstance(value, int) and not _LEAST.get(name, 0) <= value <= _MOST.get(name, (1 << 32) - 1):
            raise ValueError(f"{name} {value}: there is no such")
    for address in out.client, out.server:
        pack_addr(address)  # raises ValueError
    return out


def _check_headers(given: Sequence[Any]) -> None:
    if not 0 < len(given) <= MOST_HEADERS:
        raise ValueError(f"{len(given)} headers: 1 to {MOST_HEADERS}")
    for name, value in given:
        if type(name) is not str or type(value) is not str or len(name) > MOST_VALUE or len(value) > MOST_VALUE:
            raise ValueError("a header that is no name and value, or a long one")


def as_json(headers: Headers) -> list[record.Json]:
    """Return headers as Hubble has them."""
    return [{"key": name, "value": value} for name, value in headers]
