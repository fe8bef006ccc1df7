"""Whether all texts, or any, that one expression matches another one matches, too: both automata are walked side by
side, as far as that is soon done.
"""

import re
from collections.abc import Iterator

from control.policy import regex
from control.policy.automaton import START, SYMBOLS, Automaton

# States that may be looked at, each with each step: a tenth of a second. An expression that needs more is not compared.
MAX_WORK = 200_000
_TABLE = 32  # steps that take as long, state by state, as to make a table of followers
_LITERAL = re.compile(r"[-/_~!@%&=:;,'\"<> 0-9A-Za-z]*")  # expressions that match themselves alone

_Known = tuple[bool | None, int]  # None: it would be too much; and the work that it was


def is_within(narrow: str, wide: str) -> tuple[bool, int]:
    """Tell whether wide is known to match whatever narrow matches, and how much work that was; False also where it
    would be too much.

    >>> is_within("/api/v1/.*", "/api/.*")[0], is_within("/api/.*", "/api/v1/.*")[0]
    (True, False)
    """
    if _LITERAL.fullmatch(narrow):
        found, work = _matches(wide, narrow)
        return found is True, work
    work = 0
    for both, work in _walk(narrow, wide):
        if both is None or both == (True, False):
            return False, work
    return True, work


def may_meet(one: str, other: str) -> tuple[bool, int]:
    """Tell whether a text may match both, and how much work that was; True also where it would be too much.

    >>> may_meet("/a/.*", ".*/b")[0], may_meet("/a/.*", "/b/.*")[0]
    (True, False)
    """
    for text, expression in ((one, other), (other, one)):
        if _LITERAL.fullmatch(text):
            found, work = _matches(expression, text)
            return found is not False, work
    work = 0
    for both, work in _walk(one, other):
        if both is None or both == (True, True):
            return True, work
    return False, work


def _matches(expression: str, text: str) -> _Known:
    automaton = regex.compile(expression)
    work = automaton.size + _making(automaton)
    state = START
    for char in text:
        if work > MAX_WORK:
            return None, automaton.size
        state = automaton.step(state, ord(char))
        work += automaton.size
        if not state[0]:
            return False, work
    return automaton.accepts(state), work


def _walk(one: str, other: str) -> Iterator[tuple[tuple[bool, bool] | None, int]]:
    """Yield whether each of two expressions matches where a text leads that the first may go on to match, wherever one
    does, and the work up to there; None at last where it is too much.
    """
    first, second = regex.compile(one), regex.compile(other)
    states = first.size + second.size
    work = SYMBOLS * states + _making(first) + _making(second)
    if work > MAX_WORK:
        yield None, states  # they were read, and no more
        return
    symbols = _kinds(first, second)
    met = {(START, START)}
    left = [(START, START)]
    while left:
        here, there = left.pop()
        yield (first.accepts(here), second.accepts(there)), work
        work += states * len(symbols)
        if work > MAX_WORK:
            yield None, work
            return
        for symbol in symbols:
            following = first.step(here, symbol), second.step(there, symbol)
            if following[0][0] and following not in met:
                met.add(following)
                left.append(following)


def _making(automaton: Automaton) -> int:
    """Return how much work it is at most to make the tables of an automaton."""
    return _TABLE * automaton.tables * automaton.size


def _kinds(one: Automaton, other: Automaton) -> tuple[int, ...]:
    """Return a character of each kind that the two tell apart."""
    return tuple({(one.kind(symbol), other.kind(symbol)): symbol for symbol in range(SYMBOLS)}.values())
