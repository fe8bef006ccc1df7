"""What the agent is told of a connection's requests: once each, secrets left out, all lengths bounded."""

import dataclasses
import doctest
import json

import pytest

from control.flow import told
from control.flow.told import Alike, Seen
from l7proxy.edge import telling
from l7proxy.edge.facts import Facts
from l7proxy.edge.telling import Notes, Witness
from l7proxy.exchange import Exchange, Fields
from l7proxy.http1 import head
from l7proxy.policy.book import Side
from loader import abi

TRACE = b"4bf92f3577b34da6a3ce929d0e0e4736"
_BLANK = abi.ProxyFacts.unpack(bytes(abi.ProxyFacts.SIZE))
KERNEL = dataclasses.replace(
    _BLANK,
    source=256,
    target=257,
    side=(  # by abi.Direction
        dataclasses.replace(_BLANK.side[0], endpoint=2, rule_id=7, verdict=abi.Verdict.PROXY),
        dataclasses.replace(_BLANK.side[1], endpoint=1, rule_id=5, verdict=abi.Verdict.ALLOW),
    ),
)
INGRESS = Side(9, int(abi.Direction.INGRESS), 256, 6, 80)
EGRESS = Side(8, int(abi.Direction.EGRESS), 257, 6, 80)
FACTS = Facts("10.0.0.1", 40000, "10.0.0.2", 80, KERNEL, (INGRESS,))


def request(*lines: str, path: str = "/x?a=1") -> head.Request:
    return head.request("\r\n".join([f"GET {path} HTTP/1.1", "host: api", *lines, "", ""]).encode())


def heard(*exchanges: Exchange, facts: Facts = FACTS, headers: frozenset[bytes] = frozenset()) -> told.Batch:
    notes = Notes(lambda: None, lambda: None)
    notes.headers = headers
    witness = Witness(notes, facts, lambda _: int(abi.Direction.EGRESS))
    for exchange in exchanges:
        witness.over(exchange)
    return told.read(json.loads(json.dumps(notes.take().content(0))))


def test_like_requests_are_one_kind() -> None:
    asked = request()
    found = heard(*(Exchange("HTTP/1.1", asked, 200, True, 5, 5 + n) for n in range(3)))
    assert found.kinds == [
        Alike("10.0.0.1", "10.0.0.2", 80, 1, 256, 2, 257, 5, 7, 0, True, "HTTP/1.1", "GET", 200, -1, "", "")
    ]
    assert list(found.seen()) == [Seen(5 + n, n, 40000, "http://api/x?a=1") for n in range(3)]


def test_where_both_ends_are_asked_the_one_that_refuses_is_told() -> None:
    both = FACTS._replace(sides=(EGRESS, INGRESS))
    denied, allowed = (Exchange("HTTP/1.1", request(), 403, which, 5, 6) for which in (False, True))
    assert [kind.asked_at for kind in heard(denied, allowed, facts=both).kinds] == [
        abi.Direction.EGRESS,
        abi.Direction.INGRESS,
    ]
    assert heard(denied).kinds[0].asked_at == abi.Direction.INGRESS


def test_only_named_headers_are_told_and_no_secret() -> None:
    asked = request("x-request-id: 7", "authorization: Bearer hush", "x-other: z", "x-long: " + "y" * 999)
    names = frozenset((b"x-request-id", b"authorization", b"x-long", b"absent"))
    found = heard(Exchange("HTTP/1.1", asked, 200, True, 5, 6), headers=names)
    wanted = [["x-request-id", "7"], ["authorization", "HUBBLE_REDACTED"], ["x-long", "y" * told.MOST_VALUE]]
    assert found.headers == [wanted]
    assert heard(Exchange("HTTP/1.1", asked, 200, True, 5, 6)).headers == [None]


def test_what_is_long_is_cut_to_what_the_agent_takes() -> None:
    asked = request(*(f"x-a: {n}" for n in range(40)), path="/" + "x" * 5000)
    unread = Exchange("HTTP/1.1", None, 400, False, 5, 5, "why" * 999, None, (b"x" * 600, b"y"))
    found = heard(Exchange("HTTP/1.1", asked, 200, True, 5, 6), unread, headers=frozenset((b"x-a",)))
    assert [len(url) for url in found.url] == [told.MOST_URL, 0]
    assert len(found.headers[0] or ()) == told.MOST_HEADERS
    assert found.kinds[1].method == "" and len(found.kinds[1].why) == len(found.kinds[1].told) == told.MOST_TEXT


def test_a_full_batch_is_due_at_once() -> None:
    calls: list[str] = []
    notes = Notes(lambda: calls.append("due"), lambda: calls.append("full"))
    witness = Witness(notes, FACTS, lambda _: 0)
    for _ in range(told.BATCH):
        witness.over(Exchange("HTTP/1.1", request(), 200, True, 5, 6))
    assert calls == ["due", "full"]
    assert len(notes.take()) == told.BATCH and len(notes.batch) == 0


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b"00-%b-00f067aa0ba902b7-01" % TRACE, TRACE.decode()),
        (b"cc-%b-00f067aa0ba902b7-01-what-comes" % TRACE, TRACE.decode()),
        (b"ff-%b-00f067aa0ba902b7-01" % TRACE, ""),
        (b"00-%b-00f067aa0ba902b7-01" % (b"0" * 32), ""),
        (b"00-%b-00f067aa0ba902b7-01" % TRACE.upper(), ""),
        (b"00-%b-00f067aa0ba902b7-0" % TRACE, ""),
        (b"00-%b-00f067aa0ba902b7-01x" % TRACE, ""),
        (b"00-%b-00f067aa0ba902b-701" % TRACE, ""),
        (b"0-0%b-00f067aa0ba902b7-01" % TRACE, ""),
        (b'00-"bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', ""),
        (b"", ""),
    ],
)
def test_trace_ids(value: bytes, wanted: str) -> None:
    fields: Fields = ((b"host", b"x"), (b"traceparent", value))
    assert telling.trace_id(fields) == wanted


def test_examples() -> None:
    assert doctest.testmod(telling).failed == 0
