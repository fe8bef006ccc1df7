"""Regular expressions of HTTP rules, in the syntax of RE2 and Go: no back-references, nothing that looks around.

An expression is read here character by character into a tree, from which `automaton` makes what matches: what it means
does not depend on Python's expressions, and no text takes long. It is for ASCII only, as methods, paths and hosts are.
"""

import dataclasses
import functools
import re

from control.policy.automaton import SYMBOLS, Assertion, Automaton, Chars, Choice, Empty, Node, Repeat, Sequence

MAX_LENGTH = 1024
MAX_REPEAT = 1000  # as RE2 has it, also of repetitions within each other
MAX_DEPTH = 50
MAX_STATES = 4_000  # with more, a text of some thousand characters could take many seconds

_REPEAT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_GROUP = re.compile(r"\((?:\?(?::|P?<([A-Za-z_][A-Za-z0-9_]*)>|([ims]+):)|(?!\?))")
_FLAGS = re.compile(r"\(\?([ims]+)\)")
_HEX = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\})")
_SIMPLE = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_REFUSED = {
    "(?=": "lookahead is", "(?!": "lookahead is", "(?<=": "lookbehind is", "(?<!": "lookbehind is",
    "(?>": "atomic groups are", "(?(": "conditionals are", "(?P=": "back-references are",
}  # fmt: skip
_ANY = (1 << SYMBOLS) - 1


def _set(text: str) -> int:
    """Return the characters of text as a set; "a-z" in it are all from a to z.

    >>> _set("0-2a") == _set("210a")
    True
    """
    out = 0
    for single, low, high in re.findall(r"(?s)(.)(?!-.)|(.)-(.)", text):
        out |= 1 << ord(single) if single else (2 << ord(high)) - (1 << ord(low))
    return out


_CLASSES = {
    "alnum": _set("0-9A-Za-z"), "alpha": _set("A-Za-z"), "ascii": _set("\x00-\x7f"), "blank": _set("\t "),
    "cntrl": _set("\x00-\x1f\x7f"), "digit": _set("0-9"), "graph": _set("!-~"), "lower": _set("a-z"),
    "print": _set(" -~"), "punct": _set("!-/:-@[-`{-~"), "space": _set("\t-\r "), "upper": _set("A-Z"),
    "word": _set("0-9A-Za-z_"), "xdigit": _set("0-9A-Fa-f"),
}  # fmt: skip
_PERL = {"d": _CLASSES["digit"], "w": _CLASSES["word"], "s": _set("\t\n\f\r ")}  # no \v in \s, unlike in Python
_PERL |= {letter.upper(): _ANY ^ members for letter, members in _PERL.items()}


@functools.lru_cache(maxsize=1024)
def compile(text: str) -> Automaton:
    """Return the automaton for `fullmatch`; raises ValueError, which says what is wrong.

    >>> compile("/v[[:digit:]]+/.*").fullmatch("/v1/users")
    True
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"is {len(text)} characters long (at most {MAX_LENGTH})")
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must be of printable ASCII (what is sent is percent-encoded)")
    tree = _Reader(text).read()
    if tree.size > MAX_STATES:
        raise ValueError(f"needs {tree.size} states (at most {MAX_STATES}; what is repeated counts each time)")
    return Automaton(tree)


@dataclasses.dataclass
class _Group:
    """A group that is open, or the whole."""

    flags: str
    count: int = 1  # how often what is in it is repeated at most
    choices: list[Node] = dataclasses.field(default_factory=list)  # the finished ones
    items: list[Node] = dataclasses.field(default_factory=list)

    def end_choice(self) -> None:
        self.choices.append(self.items[0] if len(self.items) == 1 else Sequence(tuple(self.items) or (Empty(),)))
        self.items = []

    def end(self) -> Node:
        self.end_choice()
        return self.choices[0] if len(self.choices) == 1 else Choice(tuple(self.choices))


class _Reader:
    """One pass over an expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        flags = _FLAGS.match(text)
        self.at = flags.end() if flags else 0
        self.groups = [_Group(flags[1] if flags else "")]
        self.names: set[str] = set()
        self.last = 1  # how often what stands before is repeated at most
        self.repeatable = False  # whether something stands before that can be repeated

    def read(self) -> Node:
        while self.at < len(self.text):
            self._next()
        if len(self.groups) > 1:
            raise ValueError('is no regular expression: ")" is missing')
        return self.groups[0].end()

    def _next(self) -> None:
        char = self.text[self.at]
        if char in "*+?" or (char == "{" and _REPEAT.match(self.text, self.at)):
            self._repeat()
            return
        self.repeatable, self.last = char not in "(|^$", 1
        if char in "([\\":
            {"(": self._open, "[": self._class, "\\": self._escape}[char]()
            return
        self.at += 1
        group = self.groups[-1]
        match char:
            case ")":
                self._close()
            case "|":
                group.end_choice()
            case "^":
                group.items.append(Assertion("^" if "m" in group.flags else "A"))
            case "$":
                group.items.append(Assertion("$" if "m" in group.flags else "z"))
            case ".":
                group.items.append(Chars(_ANY if "s" in group.flags else _ANY ^ 1 << ord("\n")))
            case _:
                self._add(1 << ord(char))

    def _add(self, members: int, negated: bool = False) -> None:
        if "i" in self.groups[-1].flags:
            members |= (members & _CLASSES["upper"]) << 32 | (members & _CLASSES["lower"]) >> 32
        self.groups[-1].items.append(Chars(_ANY ^ members if negated else members))

    def _repeat(self) -> None:
        counted = _REPEAT.match(self.text, self.at)
        if not self.repeatable:
            raise ValueError("is no regular expression: nothing to repeat, or repeated twice")
        group = self.groups[-1]
        low, high = {"*": (0, None), "+": (1, None), "?": (0, 1), "{": (0, 0)}[self.text[self.at]]
        if counted:
            low = int(counted[1])
            high = low if counted[2] is None else int(counted[3]) if counted[3] else None
            self.last *= max(low, high or 1, 1)
            if self.last > MAX_REPEAT:
                raise ValueError(f"repeats more than {MAX_REPEAT} times")
            if high is not None and high < low:
                raise ValueError("is no regular expression: min repeat greater than max repeat")
            group.count = max(group.count, self.last)
        end = counted.end() if counted else self.at + 1
        if self.text[end : end + 1] == "+":
            raise ValueError("possessive quantifiers are not allowed")
        if self.text[end : end + 1] == "?":
            end += 1  # as few as possible: of the whole text, it is the same
        group.items[-1] = Empty() if high == 0 else Repeat(group.items[-1], low, high)
        self.at, self.repeatable = end, False

    def _open(self) -> None:
        rest = self.text[self.at : self.at + 4]
        for start, name in _REFUSED.items():
            if rest.startswith(start):
                raise ValueError(f"{name} not allowed")
        opening = _GROUP.match(self.text, self.at)
        if opening is None:
            raise ValueError(f"{rest} is not allowed (groups are (...), (?:...), (?i:...), (?P<name>...))")
        if opening[1] in self.names:
            raise ValueError(f"is no regular expression: two groups are named {opening[1]}")
        if opening[1]:
            self.names.add(opening[1])
        self.groups.append(_Group(self.groups[-1].flags + (opening[2] or "")))
        if len(self.groups) > MAX_DEPTH + 1:
            raise ValueError(f"is nested too deeply (at most {MAX_DEPTH})")
        self.at = opening.end()

    def _close(self) -> None:
        if len(self.groups) == 1:
            raise ValueError('is no regular expression: "(" is missing')
        group = self.groups.pop()
        self.last = group.count
        self.groups[-1].count = max(self.groups[-1].count, self.last)
        self.groups[-1].items.append(group.end())

    def _escape(self) -> None:
        rest = self.text[self.at + 1 :]
        if rest[:1] == "Q":
            literal, end, _ = rest[1:].partition("\\E")
            self.at += 2 + len(literal) + len(end)
            self.repeatable = bool(literal)
            for char in literal:
                self._add(1 << ord(char))
        elif rest[:1] in _PERL:
            self.at += 2
            self.groups[-1].items.append(Chars(_PERL[rest[0]]))
        elif rest[:1] and rest[0] in "bBAz":
            self.at += 2
            self.repeatable = False
            self.groups[-1].items.append(Assertion(rest[0]))
        else:
            self._add(1 << ord(self._character()))

    def _character(self) -> str:
        """Read an escape that stands for one character."""
        rest = self.text[self.at + 1 :]
        if found := _HEX.match(rest):
            self.at += 1 + found.end()
            code = int(found[1] or found[2], 16)
            if code > 127:
                raise ValueError("must be of ASCII (what is sent is percent-encoded)")
            return chr(code)
        if rest[:1].isdigit():
            raise ValueError("back-references are not allowed")
        if rest[:1] in _SIMPLE:
            self.at += 2
            return _SIMPLE[rest[0]]
        if not rest or rest[0].isalnum():
            raise ValueError(f"\\{rest[:1]} is not allowed")
        self.at += 2
        return rest[0]

    def _class(self) -> None:
        self.at += 1
        negated = self.text.startswith("^", self.at)
        self.at += negated
        members, first = 0, True
        while first or not self.text.startswith("]", self.at):
            if self.at >= len(self.text):
                raise ValueError('is no regular expression: "]" is missing')
            members |= self._member()
            first = False
        self.at += 1
        self._add(members, negated)

    def _member(self) -> int:
        """Read one character, range or named class within brackets."""
        if self.text.startswith("[:", self.at):
            name, end, _ = self.text[self.at + 2 :].partition(":]")
            if not end or name not in _CLASSES:
                raise ValueError(f"[:{name[:20]}:] is unknown ({', '.join(_CLASSES)})")
            self.at += len(name) + 4
            return _CLASSES[name]
        if self.text[self.at] == "\\" and self.text[self.at + 1 : self.at + 2] in _PERL:
            self.at += 2
            return _PERL[self.text[self.at - 1]]
        low = self._one()
        if self.text[self.at : self.at + 1] != "-" or self.text[self.at + 1 : self.at + 2] in ("]", ""):
            return 1 << ord(low)
        self.at += 1
        if self.text.startswith("[:", self.at) or re.match(r"\\[dDwWsS]", self.text[self.at :]):
            raise ValueError("a range cannot end at a class")
        high = self._one()
        if high < low:
            raise ValueError("a range ends before it begins")
        return (2 << ord(high)) - (1 << ord(low))

    def _one(self) -> str:
        if self.text[self.at] == "\\":
            return self._character()
        self.at += 1
        return self.text[self.at - 1]
