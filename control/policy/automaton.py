"""Matching in time linear in the text, whatever the expression: an automaton (Glushkov's) instead of backtracking.

Each leaf of an expression is a state, as often as it is repeated. A set of states is an integer with a bit per state:
1 for the start, one per leaf, one for the end. What follows a state depends on the gap between two characters where an
expression asks about it (`^`, `\\b`), so there is one table of followers per kind of gap, made when it is first met.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeAlias

OUTSIDE = 128  # stands for every character that is not ASCII: expressions cannot tell them apart
SYMBOLS = OUTSIDE + 1
_CACHED_BITS = 1 << 22  # of state sets, in the transitions that one automaton remembers
_CACHED_MOVES = 4096

# Kinds of characters at a gap; an end of the text is one.
_EDGE, _NEWLINE, _WORD, _OTHER = range(4)
_KINDS = tuple(
    _NEWLINE if c == "\n" else _WORD if c.isascii() and (c.isalnum() or c == "_") else _OTHER
    for c in map(chr, range(SYMBOLS))
)
_HOLDS: dict[str, Callable[[int, int], bool]] = {
    "A": lambda before, after: before == _EDGE,
    "z": lambda before, after: after == _EDGE,
    "^": lambda before, after: before in (_EDGE, _NEWLINE),
    "$": lambda before, after: after in (_EDGE, _NEWLINE),
    "b": lambda before, after: (before == _WORD) != (after == _WORD),
    "B": lambda before, after: (before == _WORD) == (after == _WORD),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Empty:
    """Nothing. It counts as a state, so that the number of states bounds the work."""

    size = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Chars:
    """One character of a set: bit n is the character of that code, bit `OUTSIDE` all that are not ASCII."""

    members: int
    size = 1


@dataclasses.dataclass(frozen=True, eq=False)
class Assertion:
    """A condition on the gap: A, z (an end of the text), ^, $ (of a line), b, B (of a word, or not)."""

    kind: str
    size = 1


@dataclasses.dataclass(frozen=True, eq=False)
class _Several:
    items: "tuple[Node, ...]"

    @functools.cached_property
    def size(self) -> int:
        return sum(item.size for item in self.items)


class Sequence(_Several):
    """One item after the other; there is at least one."""


class Choice(_Several):
    """Any of the items."""


@dataclasses.dataclass(frozen=True, eq=False)
class Repeat:
    """Item `low` to `high` times; None is any number of times. `high` is not 0."""

    item: "Node"
    low: int
    high: int | None

    @property
    def copies(self) -> int:
        return max(self.low, 1) if self.high is None else self.high

    @functools.cached_property
    def size(self) -> int:
        return self.copies * self.item.size


State: TypeAlias = tuple[int, int]  # the states that are reached, and the kind of the last character
START: State = (1, _EDGE)
Node: TypeAlias = Empty | Chars | Assertion | Sequence | Choice | Repeat


class Automaton:
    """Tells whether a whole text matches. Made when a tree is read; its tables come with the first texts."""

    def __init__(self, tree: Node) -> None:
        self.tree = tree
        self._accept = 1 << (tree.size + 1)
        self._most = max(16, min(_CACHED_MOVES, _CACHED_BITS // tree.size))
        self._followers: dict[tuple[int, int], _Followers] = {}
        self._reading: dict[int, int] = {}  # which states read a character
        self._moves: dict[tuple[int, int, int], int] = {}

    @functools.cached_property
    def _leaves(self) -> "list[Node]":
        return _leaves(self.tree)

    @functools.cached_property
    def _gaps(self) -> bool:
        return any(isinstance(leaf, Assertion) for leaf in self._leaves)

    @property
    def size(self) -> int:
        return self.tree.size

    @property
    def tables(self) -> int:
        """How many tables of followers there may come to be."""
        return len(set(_KINDS)) ** 2 if self._gaps else 1

    def fullmatch(self, text: str) -> bool:
        """Tell whether all of text matches.

        >>> Automaton(Repeat(Chars(1 << ord("a")), 2, 3)).fullmatch("aaa")
        True
        """
        reached, before = 1, _EDGE
        for char in text:
            symbol = min(ord(char), OUTSIDE)
            known = self._moves.get((reached, before, symbol))
            if known is None:
                known = self._follow(reached, before, _KINDS[symbol]) & self._readers(symbol)
                if len(self._moves) >= self._most:
                    self._moves.clear()
                self._moves[reached, before, symbol] = known
            if not known:
                return False
            reached, before = known, _KINDS[symbol] if self._gaps else _EDGE
        return bool(self._follow(reached, before, _EDGE) & self._accept)

    def step(self, state: State, symbol: int) -> State:
        """Return where a character leads to, from START on; nothing can match any more where no bit is set."""
        kind = _KINDS[symbol]
        return self._follow(*state, kind) & self._readers(symbol), kind if self._gaps else _EDGE

    def accepts(self, state: State) -> bool:
        """Tell whether what led to a state matches as a whole."""
        return bool(self._follow(*state, _EDGE) & self._accept)

    def kind(self, symbol: int) -> tuple[int, int]:
        """Return what characters have in common that the expression does not tell apart."""
        return self._readers(symbol), _KINDS[symbol] if self._gaps else _EDGE

    def _follow(self, reached: int, before: int, after: int) -> int:
        gap = (before, after) if self._gaps else (_EDGE, _EDGE)
        if gap not in self._followers:
            self._followers[gap] = _Table(*gap).read(self.tree)
        return self._followers[gap].of(reached)

    def _readers(self, symbol: int) -> int:
        if symbol not in self._reading:
            reads = (isinstance(leaf, Chars) and leaf.members >> symbol & 1 for leaf in reversed(self._leaves))
            self._reading[symbol] = int("".join("1" if each else "0" for each in reads) + "0", 2)
        return self._reading[symbol]


def _leaves(node: Node) -> list[Node]:
    match node:
        case Sequence() | Choice():
            return [leaf for item in node.items for leaf in _leaves(item)]
        case Repeat():
            return _leaves(node.item) * node.copies
    return [node]


@dataclasses.dataclass(frozen=True)
class _Followers:
    """What follows each state. Most are followed by the next one: those are moved all at once."""

    next: int
    others: tuple[tuple[int, int], ...]  # states, and what follows any of them besides

    def of(self, reached: int) -> int:
        out = (reached & self.next) << 1
        for states, followers in self.others:
            if reached & states:
                out |= followers
        return out


class _Table:
    """Works out the followers at one kind of gap."""

    def __init__(self, before: int, after: int) -> None:
        self.holding = {kind for kind, holds in _HOLDS.items() if holds(before, after)}
        self.after: dict[int, int] = {}  # followers, by state
        self.known: dict[Node, tuple[int, bool]] = {}

    def read(self, tree: Node) -> _Followers:
        self.after[0] = self._place(tree, 1, 1 << (tree.size + 1))
        shared: dict[int, list[int]] = {}
        for state, followers in self.after.items():
            shared.setdefault(followers, []).append(state)
        next_, others = 0, dict[int, int]()
        for followers, states in shared.items():
            if len(states) == 1 and followers >> (states[0] + 1) & 1:
                next_ |= 1 << states[0]
                followers ^= 1 << (states[0] + 1)
            others[followers] = others.get(followers, 0) | sum(1 << state for state in states)
        others.pop(0, None)
        return _Followers(next_, tuple((states, followers) for followers, states in others.items()))

    def _place(self, node: Node, at: int, after: int) -> int:
        """Number a node's states from `at`, say what follows them, and return where one is who comes to the node."""
        match node:
            case Empty():
                return after
            case Assertion():
                return after if node.kind in self.holding else 0
            case Chars():
                self.after[at] = after
                return 1 << at
            case Sequence():
                at += node.size
                for item in reversed(node.items):
                    at -= item.size
                    after = self._place(item, at, after)
                return after
            case Choice():
                out = 0
                for item in node.items:
                    out |= self._place(item, at, after)
                    at += item.size
                return out
            case Repeat():
                out = after
                for copy in reversed(range(node.copies)):
                    start = at + copy * node.item.size
                    if node.high is None and copy == node.copies - 1:
                        out |= self._first(node.item)[0] << start  # and round again
                    out = self._place(node.item, start, out)
                    if copy >= node.low:
                        out |= after
                return out

    def _first(self, node: Node) -> tuple[int, bool]:
        """Return the states that a node can begin with, numbered from 0, and whether it can be passed over."""
        if node not in self.known:
            self.known[node] = self._find_first(node)
        return self.known[node]

    def _find_first(self, node: Node) -> tuple[int, bool]:
        match node:
            case Empty():
                return 0, True
            case Assertion():
                return 0, node.kind in self.holding
            case Chars():
                return 1, False
            case Repeat():
                items: tuple[Node, ...] = (node.item,) * node.copies
            case _:
                items = node.items
        out, at, passed = 0, 0, []
        for item in items:
            states, empty = self._first(item)
            out |= states << at
            at += item.size
            passed.append(empty)
            if not empty and not isinstance(node, Choice):
                break
        if isinstance(node, Choice):
            return out, any(passed)
        return out, all(passed) or (isinstance(node, Repeat) and node.low == 0)
