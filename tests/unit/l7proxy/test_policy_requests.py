"""HTTP rules compiled for the proxy say what the language's own reading of them says, and mend what they should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.cli.policy import ends
from control.model import HeaderMatch, HttpRule, L7Rules, Mismatch
from control.policy import request
from l7proxy.http1 import head
from l7proxy.http2 import hpack
from l7proxy.http2 import request as http2
from l7proxy.policy.requests import Change, Fields, Rules, mended

_PATTERNS = st.sampled_from(["", "GET", "GET|HEAD", "/a", "/a/.*", "/.*", "a.*", "[ab]+"])
_TEXTS = st.sampled_from(["", "GET", "HEAD", "/a", "/a/b", "/", "a", "ab", "b"])
_NAMES = st.sampled_from(["X-A", "x-a", "X-B"])
_VALUES = st.sampled_from(["", "1", "2"])
_HEADERS = st.builds(
    HeaderMatch, _NAMES, st.none() | _VALUES, st.sampled_from(list(Mismatch)), st.sampled_from(["", "", "ns/secret"])
)
_RULES = st.builds(HttpRule, _PATTERNS, _PATTERNS, _PATTERNS, st.lists(_HEADERS, max_size=2).map(tuple))
_L7 = st.lists(st.builds(L7Rules, st.none() | st.lists(_RULES, max_size=3).map(tuple)), max_size=3)


@given(_L7, _TEXTS, _TEXTS, _TEXTS, st.lists(st.tuples(_NAMES.map(str.lower), _VALUES), max_size=3))
def test_as_the_language_reads_them(
    rules: list[L7Rules], method: str, path: str, host: str, headers: list[tuple[str, str]]
) -> None:
    compiled = Rules(rules)
    fields = tuple((name.encode(), value.encode()) for name, value in headers)
    wanted = request.http_allowed(rules, request.Request(method, path, host, tuple(headers)))
    for _ in range(2):  # also when it is known already
        assert compiled.decide(method, path, host.lower(), fields).allowed == wanted


@pytest.mark.parametrize("host", ["shop", "Shop", "SHOP:80", "other"])
@pytest.mark.parametrize("pattern", ["shop", "Shop", "(?i)SHOP", "shop:80", "[a-z]+", "[A-Z]+.*", ""])
def test_a_host_has_no_case_on_the_wire_nor_offline(pattern: str, host: str) -> None:
    rules = [L7Rules(http=(HttpRule(host=pattern),))]
    compiled = Rules(rules)
    block = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", host.encode())]
    asked = (
        head.request(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()),
        http2.read(hpack.encode(block)),
    )
    offline = [ends.http("GET", "/", host, ()), ends.http("GET", "/", "", (f"Host: {host}",))]
    served = {compiled.decide(each.method, each.path, each.host, each.fields).allowed for each in asked}
    assert {request.http_allowed(rules, each) for each in offline if each} == served


@pytest.mark.parametrize("value", ["shop", "other", None])
@pytest.mark.parametrize("beside", [(), ((b"host", b"shop"),)], ids=["", "and as a header"])
def test_the_header_host_is_there_however_a_version_says_it(
    value: str | None, beside: tuple[tuple[bytes, bytes], ...]
) -> None:
    compiled = Rules([L7Rules(http=(HttpRule(headers=(HeaderMatch("Host", value),)),))])
    block = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"shop"), *beside]
    for asked in (head.request(b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"), http2.read(hpack.encode(block))):
        assert asked is not None
        allowed = compiled.decide(asked.method, asked.path, asked.host, asked.fields).allowed
        assert allowed == (value in ("shop", None))


@pytest.mark.parametrize("value", ["1", "2", "1,2", "1, 2", "2,1", None])
@pytest.mark.parametrize("lines", [(), ("x-a: 1",), ("X-A: 1", "x-a: 2"), ("x-a: 1,2",), ("x-a: 1", "x-b: 2")])
def test_a_header_that_is_given_twice_is_one_value_on_the_wire_and_offline(
    lines: tuple[str, ...], value: str | None
) -> None:
    rules = [L7Rules(http=(HttpRule(headers=(HeaderMatch("X-A", value),)),))]
    seen = head.request("\r\n".join(("GET / HTTP/1.1", "Host: a", *lines, "", "")).encode())
    offline = ends.http("GET", "/", "a", lines)
    assert offline is not None
    served = Rules(rules).decide(seen.method, seen.path, seen.host, seen.fields).allowed
    assert request.http_allowed(rules, offline) == served


def _rules(*headers: HeaderMatch) -> Rules:
    return Rules([L7Rules(http=(HttpRule(headers=headers),))], {"shop/token": "s3cret"})


@pytest.mark.parametrize(
    ("mismatch", "before", "after"),
    [
        (Mismatch.ADD, ((b"x-a", b"2"),), ((b"x-a", b"2"), (b"x-a", b"1"))),
        (Mismatch.ADD, (), ((b"x-a", b"1"),)),
        (Mismatch.REPLACE, ((b"x-a", b"1"), (b"x-a", b"2")), ((b"x-a", b"1"),)),
        (Mismatch.ADD, ((b"x-a", b"1"),), ((b"x-a", b"1"),)),
        (Mismatch.REPLACE, ((b"x-a", b"2"), (b"x-b", b"2")), ((b"x-b", b"2"), (b"x-a", b"1"))),
        (Mismatch.DELETE, ((b"x-a", b"2"), (b"x-b", b"2")), ((b"x-b", b"2"),)),
        (Mismatch.DELETE, ((b"x-a", b"1"),), ((b"x-a", b"1"),)),
        (Mismatch.LOG, ((b"x-a", b"2"),), ((b"x-a", b"2"),)),
    ],
)
def test_mends_what_a_rule_says(mismatch: Mismatch, before: Fields, after: Fields) -> None:
    found = _rules(HeaderMatch("X-A", "1", mismatch)).decide("GET", "/", "", before)
    assert found.allowed
    assert mended(before, found.changes) == after
    assert found.told == ((b"x-a",) if before != after or mismatch is Mismatch.LOG else ())


def test_of_two_headers_of_one_name_neither_is_taken_for_the_one() -> None:
    wanted = _rules(HeaderMatch("x-a", "1"))
    assert wanted.decide("GET", "/", "", ((b"x-a", b"1"),)).allowed
    assert not wanted.decide("GET", "/", "", ((b"x-a", b"1"), (b"x-a", b"2"))).allowed


def test_a_secret_is_held_against_the_header_and_added() -> None:
    assert _rules(HeaderMatch("x-t", None, secret="shop/token")).decide("GET", "/", "", ((b"x-t", b"s3cret"),)).allowed
    assert not _rules(HeaderMatch("x-t", None, secret="shop/token")).decide("GET", "/", "", ((b"x-t", b"?"),)).allowed
    assert not _rules(HeaderMatch("x-t", None, secret="shop/none")).decide("GET", "/", "", ((b"x-t", b"?"),)).allowed
    added = _rules(HeaderMatch("x-t", None, Mismatch.ADD, "shop/token")).decide("GET", "/", "", ())
    assert added.changes == (Change(Mismatch.ADD, b"x-t", b"s3cret"),)


def test_what_is_remembered_is_bounded() -> None:
    rules = Rules([L7Rules(http=(HttpRule(path="/[0-9]+"),))])
    assert all(rules.decide("GET", f"/{number}", "", ()).allowed for number in range(10_000))
    assert all(rules.decide("GET", f"/{number}" + "0" * 2000, "", ()).allowed for number in range(10))
    assert len(rules._known) <= 4096
    assert not [key for key in rules._known if len(key[1]) > 1024]
