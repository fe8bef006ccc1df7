"""DNS names held against patterns: as an expression for the whole name would have it, however many stars there are."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import model
from control.policy import dnsnames

names = st.text("ab.", max_size=9)
patterns = st.tuples(st.sampled_from(["", "**."]), st.text("ab.**", min_size=1, max_size=7)).map("".join)


def expected(pattern: str, name: str) -> bool:
    pattern, name = (text.removesuffix(".") for text in (pattern, name))
    if pattern in ("*", "**"):
        return re.fullmatch(r"(\w+(\.|$))*", name) is not None
    rest = re.sub(r"\*+", "*", pattern.removeprefix("**."))
    body = "".join(r"\w*" if c == "*" else re.escape(c) for c in rest)
    return re.fullmatch((r"(\w+\.)+" if pattern.startswith("**.") else "") + body, name) is not None


@given(patterns, names)
def test_a_pattern_means_what_its_expression_means(pattern: str, name: str) -> None:
    assert dnsnames.matches(model.NamePeer(pattern=pattern), name) is expected(pattern, name)


@pytest.mark.parametrize("stars", [4, 127])  # an expression takes seconds for the first and forever for the other
def test_many_stars_take_no_time(stars: int) -> None:
    peer, start = model.NamePeer(pattern="*a" * stars + "b"), time.process_time()
    assert not dnsnames.matches(peer, "a" * dnsnames.MAX_NAME)
    assert dnsnames.matches(peer, "a" * (dnsnames.MAX_NAME - 1) + "b")
    assert time.process_time() - start < 1


@pytest.mark.parametrize("name", ["a b.c", "a\n", "a/b", "é", "a" * 256, "a." * 200])
@pytest.mark.parametrize("pattern", ["*", "**", "a*", "*.*", "**.*"])
def test_what_is_no_name_on_the_network_is_nobodys(pattern: str, name: str) -> None:
    assert not dnsnames.matches(model.NamePeer(pattern=pattern), name)
