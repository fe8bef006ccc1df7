"""Trace contexts of both formats: read strictly, and written on so that the next one is our span's child."""

import doctest
from typing import Any

import pytest
from hypothesis import given as each
from hypothesis import strategies as st

from l7proxy import tracing
from l7proxy.exchange import Fields, Span
from l7proxy.tracing import NOTHING, Context, Tracer

TRACE, PARENT, OURS = b"4bf92f3577b34da6a3ce929d0e0e4736", b"00f067aa0ba902b7", b"1111111111111111"
SHORT = TRACE[16:]
PADDED = SHORT.rjust(32, b"0")
ZERO = b"0" * 32
Said = dict[bytes, bytes]


def w3c(text: bytes) -> Said:
    return {b"traceparent": text}


def multi(**values: bytes) -> Said:
    return {b"x-b3-" + name.encode(): value for name, value in values.items()}


READ: list[tuple[Said, Context]] = [
    (w3c(b"00-%b-%b-01" % (TRACE, PARENT)), Context(TRACE, PARENT, True)),
    (w3c(b"00-%b-%b-00" % (TRACE, PARENT)), Context(TRACE, PARENT, False)),
    (w3c(b"00-%b-%b-03" % (TRACE, PARENT)), Context(TRACE, PARENT, True)),
    (w3c(b"00-%b-%b-02" % (TRACE, PARENT)), Context(TRACE, PARENT, False)),
    (w3c(b"cc-%b-%b-01" % (TRACE, PARENT)), Context(TRACE, PARENT, True)),
    (w3c(b"cc-%b-%b-01-what-comes" % (TRACE, PARENT)), Context(TRACE, PARENT, True)),
    ({b"b3": b"%b-%b-1" % (TRACE, PARENT)}, Context(TRACE, PARENT, True)),
    ({b"b3": b"%b-%b-d" % (TRACE, PARENT)}, Context(TRACE, PARENT, True)),
    ({b"b3": b"%b-%b-0" % (TRACE, PARENT)}, Context(TRACE, PARENT, False)),
    ({b"b3": b"%b-%b" % (TRACE, PARENT)}, Context(TRACE, PARENT, None)),
    ({b"b3": b"%b-%b-1-05e3ac9a4f6e3b90" % (SHORT, PARENT)}, Context(PADDED, PARENT, True)),
    ({b"b3": b"0"}, Context(sampled=False)),
    ({b"b3": b"1"}, Context(sampled=True)),
    ({b"b3": b"d"}, Context(sampled=True)),
    (multi(traceid=TRACE, spanid=PARENT, sampled=b"1"), Context(TRACE, PARENT, True)),
    (multi(traceid=SHORT, spanid=PARENT, sampled=b"true"), Context(PADDED, PARENT, True)),
    (multi(traceid=TRACE, spanid=PARENT, sampled=b"0"), Context(TRACE, PARENT, False)),
    (multi(traceid=TRACE, spanid=PARENT, flags=b"1"), Context(TRACE, PARENT, True)),
    (multi(traceid=TRACE, spanid=PARENT), Context(TRACE, PARENT, None)),
    (multi(sampled=b"0"), Context(sampled=False)),
    # W3C's counts where it can be read, then the single header.
    (w3c(b"00-%b-%b-00" % (TRACE, PARENT)) | {b"b3": b"1"}, Context(TRACE, PARENT, False)),
    (w3c(b"broken") | {b"b3": b"%b-%b-1" % (TRACE, PARENT)}, Context(TRACE, PARENT, True)),
    ({b"b3": b"0"} | multi(traceid=TRACE, spanid=PARENT, sampled=b"1"), Context(sampled=False)),
]


@pytest.mark.parametrize(("said", "wanted"), READ)
def test_read(said: Said, wanted: Context) -> None:
    assert tracing.read(said) == wanted


BROKEN_W3C = [
    b"", b"00", b"-", b"00-%b-%b" % (TRACE, PARENT), b"00-%b-%b-" % (TRACE, PARENT), b"00-%b-%b-1" % (TRACE, PARENT),
    b"00-%b-%b-01x" % (TRACE, PARENT), b"00-%b-%b-01-more" % (TRACE, PARENT), b"00-%b-%b-01 " % (TRACE, PARENT),
    b" 00-%b-%b-01" % (TRACE, PARENT), b"ff-%b-%b-01" % (TRACE, PARENT), b"00-%b-%b-01" % (ZERO, PARENT),
    b"00-%b-%b-01" % (TRACE, ZERO[:16]), b"00-%b-%b-01" % (TRACE.upper(), PARENT), b"00-%b-%b-0g" % (TRACE, PARENT),
    b"00-%b-%b-01" % (TRACE[:-1], PARENT), b"00-%b-%b-01" % (TRACE + b"0", PARENT), b"0-%b0-%b-01" % (TRACE, PARENT),
    b"00_%b_%b_01" % (TRACE, PARENT), b"00-%b-%b-01,00-%b-%b-01" % (TRACE, PARENT, TRACE, PARENT), b"\xff" * 55,
    b"00-%b-%b-01\x00" % (TRACE, PARENT), b"0" * 60_000, b"cc-%b-%b-01more" % (TRACE, PARENT),
]  # fmt: skip
BROKEN_B3 = [
    b"", b"2", b"11", b"D", b"-", b"%b" % TRACE, b"%b-" % TRACE, b"%b-%b-" % (TRACE, PARENT),
    b"%b-%b-2" % (TRACE, PARENT), b"%b-%b-1-" % (TRACE, PARENT), b"%b-%b-1-05e3" % (TRACE, PARENT),
    b"%b-%b-1" % (ZERO, PARENT), b"%b-%b-1" % (TRACE, ZERO[:16]), b"%b-%b-1" % (TRACE[1:], PARENT),
    b"%b-%b-1" % (TRACE.upper(), PARENT), b"%b-%b-1-%b-1" % (TRACE, PARENT, PARENT),
    b"%b-%b-true" % (TRACE, PARENT), b"true", b"\xff", b"0" * 60_000,
]  # fmt: skip


@pytest.mark.parametrize("value", BROKEN_W3C)
def test_a_broken_traceparent_is_none(value: bytes) -> None:
    assert tracing.read(w3c(value)) == NOTHING


@pytest.mark.parametrize("value", BROKEN_B3)
def test_a_broken_b3_is_none(value: bytes) -> None:
    assert tracing.read({b"b3": value}) == NOTHING


@pytest.mark.parametrize(
    "said",
    [
        multi(traceid=TRACE), multi(spanid=PARENT), multi(traceid=TRACE, sampled=b"1"), multi(flags=b"0"),
        multi(sampled=b"2"),
        multi(traceid=ZERO, spanid=PARENT, sampled=b"1"), multi(traceid=TRACE[1:], spanid=PARENT, sampled=b"1"),
        multi(traceid=TRACE, spanid=b"x" * 16, sampled=b"1"), multi(parentspanid=PARENT),
    ],
)  # fmt: skip
def test_broken_b3_headers_are_none(said: Said) -> None:
    assert tracing.read(said) == NOTHING


def test_what_is_there_twice_is_not_there() -> None:
    fields: Fields = ((b"b3", b"1"), (b"traceparent", b"x"), (b"host", b"a"), (b"b3", b"0"))
    assert tracing.given(fields) == {b"traceparent": b"x"}


CHILD, FIRST = Span(TRACE, OURS, PARENT), Span(TRACE, OURS, b"")


@pytest.mark.parametrize(
    ("said", "span", "wanted"),
    [
        (w3c(b"00-%b-%b-01" % (TRACE, PARENT)), CHILD, w3c(b"00-%b-%b-01" % (TRACE, OURS))),
        (w3c(b"00-%b-%b-03" % (TRACE, PARENT)), CHILD, w3c(b"00-%b-%b-03" % (TRACE, OURS))),
        (w3c(b"cc-%b-%b-ff-more" % (TRACE, PARENT)), CHILD, w3c(b"00-%b-%b-01" % (TRACE, OURS))),
        ({b"b3": b"%b-%b-1" % (TRACE, PARENT)}, CHILD, {b"b3": b"%b-%b-1-%b" % (TRACE, OURS, PARENT)}),
        ({b"b3": b"%b-%b-d-%b" % (TRACE, PARENT, OURS)}, CHILD, {b"b3": b"%b-%b-d-%b" % (TRACE, OURS, PARENT)}),
        ({b"b3": b"%b-%b" % (TRACE, PARENT)}, CHILD, {b"b3": b"%b-%b-1-%b" % (TRACE, OURS, PARENT)}),
        ({b"b3": b"%b-%b-%b" % (TRACE, PARENT, OURS)}, CHILD, {b"b3": b"%b-%b-1-%b" % (TRACE, OURS, PARENT)}),
        ({b"b3": b"1"}, FIRST, {b"b3": b"%b-%b-1" % (TRACE, OURS)}),
        ({b"b3": b"d"}, FIRST, {b"b3": b"%b-%b-d" % (TRACE, OURS)}),
        (multi(traceid=TRACE, spanid=PARENT, sampled=b"1"), CHILD, multi(spanid=OURS, parentspanid=PARENT)),
        (multi(traceid=TRACE, spanid=PARENT, flags=b"1"), CHILD, multi(spanid=OURS, parentspanid=PARENT)),
        (multi(traceid=TRACE, spanid=PARENT), CHILD, multi(spanid=OURS, parentspanid=PARENT, sampled=b"1")),
        (multi(sampled=b"1"), FIRST, multi(traceid=TRACE, spanid=OURS)),
        # Both formats of one trace go on together; one that names another trace stays.
        (
            w3c(b"00-%b-%b-01" % (TRACE, PARENT)) | {b"b3": b"%b-%b-1" % (TRACE, PARENT)}, CHILD,
            w3c(b"00-%b-%b-01" % (TRACE, OURS)) | {b"b3": b"%b-%b-1-%b" % (TRACE, OURS, PARENT)},
        ),
        (
            w3c(b"00-%b-%b-01" % (TRACE, PARENT)) | {b"b3": b"%b-%b-1" % (SHORT, PARENT)}, CHILD,
            w3c(b"00-%b-%b-01" % (TRACE, OURS)),
        ),
        (w3c(b"broken") | {b"b3": b"1"}, FIRST, {b"b3": b"%b-%b-1" % (TRACE, OURS)}),
        # Where nobody has named it, a traceparent does.
        ({}, FIRST, {b"traceparent": b"00-%b-%b-01" % (TRACE, OURS), b"tracestate": None}),
        (w3c(b"broken"), FIRST, {b"traceparent": b"00-%b-%b-01" % (TRACE, OURS), b"tracestate": None}),
    ],
)  # fmt: skip
def test_onward(said: Said, span: Span, wanted: dict[bytes, bytes | None]) -> None:
    assert tracing.onward(said, span) == wanted


def test_changes_are_made_once_and_in_place() -> None:
    fields: Fields = ((b"b3", b"1"), (b"a", b"b"), (b"b3", b"2"), (b"tracestate", b"x"), (b"a", b"c"))
    changed = tracing.applied(fields, {b"b3": b"n", b"tracestate": None, b"traceparent": b"t", b"absent": None})
    assert changed == ((b"b3", b"n"), (b"a", b"b"), (b"a", b"c"), (b"traceparent", b"t"))


def tracer(ratio: float | None) -> Tracer:
    out = Tracer()
    out.ratio = ratio
    return out


def test_the_caller_decides_where_it_does() -> None:
    for ratio in (0.0, 1.0):
        assert tracer(ratio).begin(((b"traceparent", b"00-%b-%b-00" % (TRACE, PARENT)),)) is None
        made = tracer(ratio).begin(((b"traceparent", b"00-%b-%b-01" % (TRACE, PARENT)),))
        assert made and (made[0].trace, made[0].parent) == (TRACE, PARENT)


@pytest.mark.parametrize("fields", [(), ((b"traceparent", b"x"),), ((b"b3", b"%b-%b" % (TRACE, PARENT)),)])
def test_the_ratio_decides_for_others(fields: Fields) -> None:
    assert tracer(0.0).begin(fields) is None
    assert tracer(1.0).begin(fields)
    half = tracer(0.5)
    assert 800 < sum(half.begin(fields) is not None for _ in range(2000)) < 1200


def test_no_two_spans_have_one_number() -> None:
    made = [found[0] for _ in range(1000) if (found := tracer(1.0).begin(()))]
    assert len({span.id for span in made}) == len({span.trace for span in made}) == 1000
    assert {(len(span.trace), len(span.id), span.parent) for span in made} == {(32, 16, b"")}


_SEEN = [value for said, _ in READ for value in said.values()]
_LIKELY: Any = st.sampled_from([b"0", b"1", b"d", TRACE, SHORT, PARENT, ZERO, *_SEEN, *BROKEN_W3C[:12]])
_NAMED: Any = st.sampled_from([*sorted(tracing._NAMES), b"tracestate", b"x"])
_FIELDS: Any = st.lists(st.tuples(_NAMED, _LIKELY | st.binary(max_size=70)), max_size=8)


@each(_FIELDS)
def test_whoever_comes_next_is_a_child_of_the_span(fields: list[tuple[bytes, bytes]]) -> None:
    before = tracing.read(tracing.given(tuple(fields)))
    made = tracer(1.0).begin(tuple(fields))
    assert (made is None) is (before.sampled is False)
    if made is None:
        return
    span, changes = made
    going = tracing.applied(tuple(fields), changes)
    assert [field for field in going if field[0] not in changes] == [f for f in fields if f[0] not in changes]
    after = tracing.read(tracing.given(going))
    assert span.parent == before.parent and span.trace == (before.trace or span.trace)
    assert after == Context(span.trace, span.id, True)


def test_examples() -> None:
    assert doctest.testmod(tracing).failed == 0
