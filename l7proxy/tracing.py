"""The trace that a request is part of: W3C Trace Context and B3, read, and written on where the proxy makes a span.

What callers say of it goes on as it came, unless there is a span of ours: then whoever comes next has that one as its
parent, in each format in which the trace was named. What is broken or there twice counts as not there.

    tracer = Tracer()
    tracer.ratio = 0.01                       # None: off
    span, changes = tracer.begin(fields)      # or None
"""

import random
import re
from collections.abc import Mapping
from typing import NamedTuple

from l7proxy.exchange import Fields, Span

Changes = Mapping[bytes, bytes | None]  # lower-case name to the value that it is to have; None: it is to go

_W3C = re.compile(rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_TRACE = re.compile(rb"(?!0+\Z)(?:[0-9a-f]{32}|[0-9a-f]{16})")
_SPAN = re.compile(rb"(?!0+\Z)[0-9a-f]{16}")
_B3 = re.compile(rb"([0-9a-f]+)-([0-9a-f]{16})(?:-([01d]))?(?:-([0-9a-f]{16}))?")
_TRACEPARENT, _TRACESTATE, _SINGLE = b"traceparent", b"tracestate", b"b3"
_TRACE_ID, _SPAN_ID, _PARENT_ID = b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid"
_SAMPLED, _FLAGS = b"x-b3-sampled", b"x-b3-flags"
_NAMES = frozenset((_TRACEPARENT, _SINGLE, _TRACE_ID, _SPAN_ID, _PARENT_ID, _SAMPLED, _FLAGS))
_STATES = {b"0": False, b"false": False, b"1": True, b"true": True, b"d": True}


class Context(NamedTuple):
    """What a request says. `trace`: 32 digits, b"" for none yet; `sampled` None: it leaves that to others."""

    trace: bytes = b""
    parent: bytes = b""
    sampled: bool | None = None


NOTHING = Context()


def given(fields: Fields) -> dict[bytes, bytes]:
    """Return the headers that are about traces; not those that are there twice."""
    found = [field for field in fields if field[0] in _NAMES]
    out = dict(found)
    if len(out) < len(found):
        names = [name for name, _ in found]
        out = {name: value for name, value in out.items() if names.count(name) == 1}
    return out


def read(said: Mapping[bytes, bytes]) -> Context:
    """Return what headers say: W3C's if it can be read, else B3's.

    >>> read({b"b3": b"a3ce929d0e0e4736-00f067aa0ba902b7-1"})
    Context(trace=b'0000000000000000a3ce929d0e0e4736', parent=b'00f067aa0ba902b7', sampled=True)
    """
    return _w3c(said) or _single(said) or _multi(said) or NOTHING


def _w3c(said: Mapping[bytes, bytes]) -> Context | None:
    value = said.get(_TRACEPARENT)
    if value is None or (match := _W3C.fullmatch(value)) is None or (match[1] == b"00" and match[5]):
        return None
    return Context(match[2], match[3], bool(int(match[4], 16) & 1))


def _single(said: Mapping[bytes, bytes]) -> Context | None:
    value = said.get(_SINGLE)
    if value is None:
        return None
    if len(value) == 1 and value in _STATES:
        return Context(sampled=_STATES[value])
    match = _B3.fullmatch(value)
    if match is None or not _TRACE.fullmatch(match[1]) or not _SPAN.fullmatch(match[2]):
        return None
    return Context(match[1].rjust(32, b"0"), match[2], _STATES.get(match[3]))


def _multi(said: Mapping[bytes, bytes]) -> Context | None:
    sampled = True if said.get(_FLAGS) == b"1" else _STATES.get(said.get(_SAMPLED, b""))
    trace, span = said.get(_TRACE_ID), said.get(_SPAN_ID)
    if trace is None and span is None:
        return None if sampled is None else Context(sampled=sampled)
    if trace is None or span is None or not _TRACE.fullmatch(trace) or not _SPAN.fullmatch(span):
        return None
    return Context(trace.rjust(32, b"0"), span, sampled)


def onward(said: Mapping[bytes, bytes], span: Span) -> Changes:
    """Return what becomes of a request's headers, so that whoever comes next is a child of `span`.

    Formats that name another trace stay as they are; where none names this one, W3C does from here on.
    """
    out: dict[bytes, bytes | None] = {}
    first = not span.parent
    if (found := _w3c(said)) and found.trace == span.trace:
        value = said[_TRACEPARENT]
        flags = value[53:55] if value.startswith(b"00") else b"01"  # of a later version, those that we know
        out[_TRACEPARENT] = b"00-%b-%b-%b" % (span.trace, span.id, flags)
    if (found := _single(said)) and found.trace == (b"" if first else span.trace):
        trace, *rest = said[_SINGLE].split(b"-")
        if first and found.sampled:
            out[_SINGLE] = b"%b-%b-%b" % (span.trace, span.id, trace)
        elif not first:
            out[_SINGLE] = b"%b-%b-%b-%b" % (trace, span.id, rest[1] if _says_state(rest) else b"1", rest[0])
    if (found := _multi(said)) and found.trace == (b"" if first else span.trace):
        if first and found.sampled:
            out |= {_TRACE_ID: span.trace, _SPAN_ID: span.id}
        elif not first:
            out |= {_SPAN_ID: span.id, _PARENT_ID: said[_SPAN_ID]}
            if found.sampled is None:
                out[_SAMPLED] = b"1"
    if not out:  # W3C Trace Context, 2: what another trace's tracestate says is nothing to this one
        out = {_TRACEPARENT: b"00-%b-%b-01" % (span.trace, span.id), _TRACESTATE: None}
    return out


def _says_state(rest: list[bytes]) -> bool:
    return len(rest) > 1 and len(rest[1]) == 1


def applied(fields: Fields, changes: Changes) -> Fields:
    """Return the fields with these values, each once; what was not there comes last."""
    left, out = dict(changes), []
    for field in fields:
        if field[0] not in changes:
            out.append(field)
        elif (value := left.pop(field[0], None)) is not None:
            out.append((field[0], value))
    return (*out, *((name, value) for name, value in left.items() if value is not None))


def _number(digits: int) -> bytes:
    """Return a number that nobody else has, and that is not 0."""
    return b"%0*x" % (digits, random.getrandbits(4 * digits) or 1)


class Tracer:
    """Says which requests get a span. `ratio`: of those whose caller has not said whether; None: there are no spans."""

    __slots__ = ("ratio",)

    def __init__(self) -> None:
        self.ratio: float | None = None

    def begin(self, fields: Fields) -> tuple[Span, Changes] | None:
        """Return a request's span, and what becomes of its headers; None if it gets none."""
        said = given(fields)
        found = read(said) if said else NOTHING
        sampled = found.sampled
        if sampled is None:
            sampled = bool(self.ratio) and random.random() < (self.ratio or 0.0)
        if not sampled:
            return None
        span = Span(found.trace or _number(32), _number(16), found.parent)
        return span, onward(said, span)
