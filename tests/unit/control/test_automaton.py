"""The automaton agrees with Python's expressions, in a time that only grows with the text."""

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.policy import regex

# What stands alone or is repeated: as RE2 has it, and what means the same in Python.
_SAME = ("a", "b", "-", ".", "[ab]", "[^a]", "[^-B]", r"\d", r"\w", r"\W", "[A-a]", r"\n", r"[\W_]", "()", "(|a)")
_ITEMS = {
    **{each: each for each in _SAME},
    r"\s": r"[\t\n\f\r ]",
    r"[\S-]": r"[^\t\n\f\r ]",
    "[[:alpha:]_]": "[A-Za-z_]",
    "[^[:upper:][:blank:]]": r"[^A-Z \t]",
    r"\Qa*\E": r"a\*",
    r"\x42\x{2d}": "B-",
}
_GAPS = {"^": "^", r"\A": r"\A", r"\z": r"\Z", r"\b": r"\b", r"\B": r"(?!\b)"}
_REPEATS = ("*", "+", "?", "{2}", "{0,2}", "{1,3}", "{2,}", "{0}", "*?", "{1,2}?")
_OPENINGS = ("(", "(?:", "(?i:", "(?s:")

Pair = tuple[str, str]


def _joined(pairs: list[Pair], between: str) -> Pair:
    return between.join(ours for ours, _ in pairs), between.join(python for _, python in pairs)


def _larger(smaller: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
    def grouped(opening: str, inner: Pair, repeat: str) -> Pair:
        return f"{opening}{inner[0]}){repeat}", f"{opening}{inner[1]}){repeat}"

    several = st.lists(smaller, min_size=1, max_size=4)
    return (
        several.map(lambda pairs: _joined(pairs, ""))
        | several.map(lambda pairs: _joined(pairs, "|"))
        | st.builds(grouped, st.sampled_from(_OPENINGS), smaller, st.sampled_from(("", *_REPEATS)))
    )


@st.composite
def _expressions(draw: st.DrawFn) -> Pair:
    flags = draw(st.sampled_from(("", "", "(?i)", "(?s)", "(?m)", "(?ims)")))
    gaps = {**_GAPS, "$": "$" if "m" in flags else r"\Z"}
    leaves = st.sampled_from([*_ITEMS.items(), *gaps.items()])
    return _joined([(flags, flags), draw(st.recursive(leaves, _larger, max_leaves=8))], "")


_TEXTS = st.text(st.sampled_from("aabbAB-_0 \n\vé"), max_size=6)


@settings(max_examples=400, deadline=None)
@given(_expressions(), st.lists(_TEXTS, min_size=1, max_size=8))
def test_it_agrees_with_python(pair: Pair, texts: list[str]) -> None:
    found, oracle = regex.compile(pair[0]), re.compile(pair[1], re.ASCII)
    assert [found.fullmatch(text) for text in texts] == [bool(oracle.fullmatch(text)) for text in texts]


_DICE = random.Random(7)
_MIXED = "".join(_DICE.choice("ab") for _ in range(10_000))


@pytest.mark.parametrize(
    ("expression", "text", "matches"),
    [
        ("/(a+)+b", "/" + "a" * 28, False),
        ("(a+)+b", "a" * 10_000, False),
        ("(a+)+b", "a" * 10_000 + "b", True),
        ("(a|a)*b", "a" * 10_000, False),
        ("(.*)*x", "a" * 10_000, False),
        ("(((a*)*)*)*b", "a" * 10_000, False),
        ("((a{0,10}){0,10}){0,10}", "a" * 10_000, False),
        ("(((a{1,10}){1,10}){1,10})*", "a" * 10_000, True),
        (r"(a|\b|a?)*(a+\B)+", "a" * 10_000, False),
        ("(.*a.{0,99}b)*", _MIXED + "a", False),
        (".*a.{900}", _MIXED[:-901] + "a" + "b" * 900, True),  # as many sets of states as there are characters
        (".*b.{900}", _MIXED[:-901] + "a" + "b" * 900, False),
        (".{0,1000}.{0,1000}.{0,1000}", _MIXED, False),
    ],
)
def test_ten_thousand_characters_take_less_than_a_second(expression: str, text: str, matches: bool) -> None:
    before = time.process_time()
    assert regex.compile(expression).fullmatch(text) is matches
    assert time.process_time() - before < 1


def test_what_it_remembers_is_bounded() -> None:
    found = regex.compile(".*a.{900}")
    for _ in range(3):
        found.fullmatch(_MIXED)
    assert 0 < len(found._moves) <= found._most < len(_MIXED)
