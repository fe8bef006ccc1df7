"""Playbooks: what becomes of a traced request's head in either version, and that nothing else of it changes."""

import doctest
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.model import HeaderMatch, HttpRule, L7Rules, Mismatch
from l7proxy import tracing
from l7proxy.exchange import Exchange
from l7proxy.http import Session
from l7proxy.http1 import head
from l7proxy.http2 import frames, hpack
from l7proxy.http2.frames import PREFACE
from l7proxy.policy.book import Policy

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{PARENT}-01"
RULES = Policy(
    [(L7Rules(http=(HttpRule(path="/mended", headers=(HeaderMatch("X-Role", "a", Mismatch.REPLACE),)),
                    HttpRule(path="/open"))),)]
)  # fmt: skip
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
ACK = frames.frame(frames.SETTINGS, frames.ACK, 0, b"")


class Stage:
    """One client and its server. `ratio`: of the tracer's, None: off."""

    def __init__(self, ratio: float | None = 0.0) -> None:
        self.tracer = tracing.Tracer()
        self.tracer.ratio = ratio
        self.told: list[Exchange] = []
        self.session = Session(RULES.decide, self.told.append, self.tracer)

    def asks(self, data: bytes) -> bytes:
        self.session.from_client(data)
        return self._taken()

    def answers(self, data: bytes) -> bytes:
        self.session.from_server(data)
        return self._taken()

    def _taken(self) -> bytes:
        out = b"".join(self.session.to_server)
        self.session.to_server.clear()
        self.session.to_client.clear()
        return out

    @property
    def span(self) -> str:
        (told,) = self.told
        assert told.span is not None
        assert (told.span.trace.decode(), told.span.parent.decode()) == (TRACE, PARENT)
        return told.span.id.decode()


# Names in any case, blanks of every kind, order and repetition: all of it is to stay.
LINES = "Host:a\r\nTraceParent: \t{}\t\r\nX-A:  1 \r\nx-a:2\r\nX-LAST:\r\n\r\n"


def first(path: str, value: str, lines: str = LINES) -> bytes:
    return f"GET {path} HTTP/1.1\r\n{lines.format(value)}".encode()


def test_of_an_http1_head_one_value_changes() -> None:
    stage = Stage()
    went = stage.asks(first("/open", SAMPLED))
    stage.answers(OK)
    mine = first("/open", f"00-{TRACE}-{stage.span}-01").replace(b" \t00", b" 00").replace(b"-01\t\r\n", b"-01\r\n")
    assert went == mine


@pytest.mark.parametrize("ratio", [None, 0.0])
@pytest.mark.parametrize("value", [SAMPLED.replace("-01", "-00"), "broken", ""])
def test_an_http1_head_without_a_span_goes_on_as_it_came(ratio: float | None, value: str) -> None:
    stage = Stage(ratio)
    assert stage.asks(first("/open", value)) == first("/open", value)
    stage.answers(OK)
    assert stage.told[0].span is None


def test_nothing_is_traced_while_it_is_off_and_open_connections_hear_of_it() -> None:
    stage = Stage(None)
    assert stage.asks(first("/open", SAMPLED)) == first("/open", SAMPLED)
    stage.answers(OK)
    stage.tracer.ratio = 0.0
    assert stage.asks(first("/open", SAMPLED)) != first("/open", SAMPLED)
    stage.answers(OK)
    assert [told.span is None for told in stage.told] == [True, False]


def test_of_two_proxies_in_a_row_the_second_ones_span_is_a_child_of_the_firsts() -> None:
    near, far = Stage(), Stage()
    went = far.asks(near.asks(first("/open", SAMPLED)))
    near.answers(OK), far.answers(OK)
    (outer,), (inner,) = near.told, far.told
    assert outer.span and inner.span and outer.span.id.decode() == near.span
    assert (inner.span.trace, inner.span.parent) == (outer.span.trace, outer.span.id)
    assert dict(head.request(went).fields)[b"traceparent"].split(b"-")[2] == inner.span.id


_NAMES = st.sampled_from(["traceparent", "TraceParent", "tracestate", "b3", "X-B3-SpanId", "x-a", "Content-Length"])
_VALUES = st.sampled_from([SAMPLED, "1", "", f"{TRACE}-{PARENT}-1"]) | st.from_regex(
    r"[!-~]([ -~]{0,9}[!-~])?", fullmatch=True
)
_BLANKS = st.sampled_from(["", " ", " \t "])
_CHANGED = st.dictionaries(
    st.sampled_from([b"traceparent", b"tracestate", b"b3", b"x-b3-spanid"]), st.none() | st.just(b"new"), max_size=4
)


@given(st.lists(st.tuples(_NAMES, _BLANKS, _VALUES, _BLANKS), max_size=8), _CHANGED)
def test_what_is_changed_of_a_head_is_these_fields_and_no_other(
    lines: list[tuple[str, str, str, str]], changes: dict[bytes, bytes | None]
) -> None:
    text = "".join(f"{name}:{before}{value}{after}\r\n" for name, before, value, after in lines)
    whole = f"POST /open HTTP/1.1\r\nHost: a\r\n{text}\r\n".encode()
    try:
        asked = head.request(whole)
    except head.Malformed:
        return
    went = head.changed(whole, changes)
    assert head.request(went) == asked._replace(fields=tracing.applied(asked.fields, changes))
    if not changes:
        assert went == whole


def test_a_rule_mends_and_the_trace_goes_on() -> None:
    stage = Stage()
    went = head.request(stage.asks(first("/mended", SAMPLED)))
    stage.answers(OK)
    assert dict(went.fields)[b"x-role"] == b"a"
    assert dict(went.fields)[b"traceparent"].decode() == f"00-{TRACE}-{stage.span}-01"


def test_a_body_of_http1_stays_with_its_head() -> None:
    stage = Stage()
    lines = LINES.replace("X-LAST:", "Content-Length: 5")
    went = stage.asks(first("/open", SAMPLED, lines) + b"hello" + first("/open", SAMPLED, lines))
    assert went.endswith(b"\r\n\r\nhello") and went.count(b"GET ") == 1


def test_a_refused_request_is_a_span_and_nothing_goes_on() -> None:
    stage = Stage()
    assert stage.asks(first("/shut", SAMPLED)) == b""
    assert stage.span and (stage.told[0].status, stage.told[0].allowed) == (403, False)


def test_a_traceparent_is_added_where_the_ratio_says_so() -> None:
    stage = Stage(1.0)
    plain = b"GET /open HTTP/1.1\r\nHost: a\r\nTraceState: x=1\r\n\r\n"
    went = stage.asks(plain)
    stage.answers(OK)
    span = stage.told[0].span
    assert span and span.parent == b""
    wanted = b"GET /open HTTP/1.1\r\nHost: a\r\ntraceparent: 00-%b-%b-01\r\n\r\n"
    assert went == wanted % (span.trace, span.id)


PSEUDO = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/open"), (b":authority", b"a"))


def second(value: str, path: bytes = b"/open", encode: Callable[..., bytes] = hpack.encode, stream: int = 1) -> bytes:
    pseudo = tuple((name, path if name == b":path" else old) for name, old in PSEUDO)
    return frames.headers(stream, encode((*pseudo, (b"traceparent", value.encode()), (b"x-a", b"1"))), ends=True)


def opened(ratio: float | None = 0.0) -> Stage:
    stage = Stage(ratio)
    stage.asks(PREFACE + frames.settings({}))
    stage.answers(frames.settings({}))
    stage.asks(ACK)
    stage.asks(second("none", b"/open"))  # the one after the ACK has its own way, see http2/client.py
    stage.answers(frames.headers(1, hpack.encode(((b":status", b"200"),)), ends=True))
    stage.told.clear()
    return stage


def answered(stream: int) -> bytes:
    return frames.headers(stream, hpack.encode(((b":status", b"200"),)), ends=True)


def test_of_an_http2_block_one_value_changes() -> None:
    stage = opened()
    went = stage.asks(second(SAMPLED, stream=3))
    stage.answers(answered(3))
    found = hpack.Decoder().decode(went[9:])
    assert list(found) == [*PSEUDO, (b"traceparent", f"00-{TRACE}-{stage.span}-01".encode()), (b"x-a", b"1")]


@pytest.mark.parametrize(("ratio", "value"), [(None, SAMPLED), (0.0, SAMPLED[:-1] + "0"), (0.0, "broken")])
def test_an_http2_block_without_a_span_goes_on_as_it_came(ratio: float | None, value: str) -> None:
    stage = opened(ratio)
    assert stage.asks(second(value, stream=3)) == second(value, stream=3)
    stage.answers(answered(3))
    assert stage.told[0].span is None


def test_a_refused_stream_is_a_span() -> None:
    stage = opened()
    assert stage.asks(second(SAMPLED, b"/shut", stream=3)) == b""
    assert stage.span and stage.told[0].status == 403


def test_a_stream_that_the_server_resets_is_a_span() -> None:
    stage = opened()
    stage.asks(second(SAMPLED, stream=3))
    stage.answers(frames.rst_stream(3, frames.Code.INTERNAL_ERROR))
    assert stage.span and "reset" in stage.told[0].why


def test_examples() -> None:
    assert doctest.testmod(head).failed == 0
