"""Whether all texts that one expression matches another one matches, too: both automata are walked side by side."""

from control.policy import regex
from control.policy.automaton import START, SYMBOLS, Automaton

# States that may be looked at, each with each step: a tenth of a second. An expression that needs more is not compared.
MAX_WORK = 200_000
_MAX_STATES = 1_000  # of both


def is_within(narrow: str, wide: str) -> tuple[bool, int]:
    """Tell whether wide is known to match whatever narrow matches, and how much work that was; False also where it
    would be too much.

    >>> is_within("/api/v1/.*", "/api/.*")[0], is_within("/api/.*", "/api/v1/.*")[0]
    (True, False)
    """
    one, other = regex.compile(narrow), regex.compile(wide)
    states = one.size + other.size
    if states > _MAX_STATES:
        return False, 0
    symbols = _kinds(one, other)
    work = SYMBOLS * states
    met = {(START, START)}
    left = [(START, START)]
    while left:
        here, there = left.pop()
        if one.accepts(here) and not other.accepts(there):
            return False, work
        work += states * len(symbols)
        if work > MAX_WORK:
            return False, work
        for symbol in symbols:
            following = one.step(here, symbol), other.step(there, symbol)
            if following[0][0] and following not in met:
                met.add(following)
                left.append(following)
    return True, work


def _kinds(one: Automaton, other: Automaton) -> tuple[int, ...]:
    """Return a character of each kind that the two tell apart."""
    return tuple({(one.kind(symbol), other.kind(symbol)): symbol for symbol in range(SYMBOLS)}.values())
