"""Which expressions are known to match no more than others."""

import random
import re
import time

import pytest

from control.policy import inclusion

PARTS = ("a", "b", "/", ".", "a*", "(a|b)", "[ab]+", ".*", "b?", "(ab)*", r"\b", "^", "$")
TEXTS = ("", "a", "b", "/", "ab", "ba", "a/b", "aab", "abab", "/a", "b/", "a/", "\n", "é", "a\nb")


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("/api/v1/.*", "/api/.*"),
        ("/api/v[12]", "/api/v[0-9]+"),
        ("GET", "GET|HEAD"),
        ("GET|HEAD", "HEAD|GET"),
        ("/a{2,3}", "/a+"),
        ("/(a|b)*", "/[ab]*"),
        (r"/a\b.*", "/a.*"),
    ],
)
def test_what_is_within(narrow: str, wide: str) -> None:
    assert inclusion.is_within(narrow, wide)[0]
    back = inclusion.is_within(wide, narrow)[0]
    assert back == (narrow in ("GET|HEAD", "/(a|b)*"))


@pytest.mark.parametrize("seed", range(300))
def test_nothing_is_within_what_matches_less(seed: int) -> None:
    """By Python's own expressions, for which all of these mean the same."""
    given = random.Random(seed)
    one, other = ("".join(given.choices(PARTS, k=given.randint(1, 4))) for _ in range(2))
    if inclusion.is_within(one, other)[0]:
        assert [text for text in TEXTS if re.fullmatch(one, text) and not re.fullmatch(other, text)] == []
    assert inclusion.is_within(one, one)[0]


@pytest.mark.parametrize("seed", range(300))
def test_what_is_known_not_to_meet_has_no_text_in_common(seed: int) -> None:
    given = random.Random(seed)
    one, other = ("".join(given.choices(PARTS, k=given.randint(1, 4))) for _ in range(2))
    if not inclusion.may_meet(one, other)[0]:
        assert [text for text in TEXTS if re.fullmatch(one, text) and re.fullmatch(other, text)] == []
    assert inclusion.may_meet(one, other)[0] == inclusion.may_meet(other, one)[0]


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ("/a/.*", ".*/b", True), ("/a/.*", "/b/.*", False), ("GET|PUT", "PUT|HEAD", True), ("GET|PUT", "POST", False),
        ("/a", "/a", True), ("/a", "/ab", False), ("/[ab]", "/[bc]", True), ("/[ab]", "/[cd]", False),
    ],
)  # fmt: skip
def test_what_may_meet(one: str, other: str, meet: bool) -> None:
    assert inclusion.may_meet(one, other)[0] == inclusion.may_meet(other, one)[0] == meet


GAPS = r"((\ba?|\Bb?|^c?|$d?)*){60}"


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        (".*a.{300}", ".*a.{299}."),
        ("(a{100}|b{99})*c", "[ab]{0,800}c"),
        ("a{900}", "a{800}.*"),
        (GAPS, f"{GAPS}x?"),  # which have a table for each kind of gap
        ("/a" * 500, GAPS * 2),
    ],
)
def test_what_takes_long_is_not_compared(narrow: str, wide: str) -> None:
    began = time.monotonic()
    found, work = inclusion.is_within(narrow, wide)
    assert not found and 0 < work < 2 * inclusion.MAX_WORK
    met, more = inclusion.may_meet(narrow, wide)
    assert met and 0 < more < 2 * inclusion.MAX_WORK
    assert time.monotonic() - began < 2
