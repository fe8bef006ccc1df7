"""HTTP rules compiled for the proxy say what the language's own reading of them says, and mend what they should."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.model import HeaderMatch, HttpRule, L7Rules, Mismatch
from control.policy import request
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


@given(_L7, _TEXTS, _TEXTS, _TEXTS, st.dictionaries(_NAMES.map(str.lower), _VALUES))
def test_as_the_language_reads_them(
    rules: list[L7Rules], method: str, path: str, host: str, headers: dict[str, str]
) -> None:
    compiled = Rules(rules)
    fields = tuple((name.encode(), value.encode()) for name, value in headers.items())
    wanted = request.http_allowed(rules, request.Request(method, path, host, headers))
    for _ in range(2):  # also when it is known already
        assert compiled.decide(method, path, host, fields).allowed == wanted


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
