"""Regular expressions of HTTP rules, in the syntax of RE2 and Go: no back-references, nothing that looks around.

An expression is read here character by character and written anew for Python, so that nothing gets through whose
meaning differs there. It is for ASCII only, as methods, paths and hosts are.
"""

import functools
import re

MAX_LENGTH = 1024
MAX_REPEAT = 1000  # as RE2 has it, also of repetitions within each other
MAX_DEPTH = 50

_REPEAT = re.compile(r"\{([0-9]+)(,([0-9]*))?\}")
_GROUP = re.compile(r"\((\?(:|P?<[A-Za-z_][A-Za-z0-9_]*>|[ims]+:))?")
_FLAGS = re.compile(r"\(\?[ims]+\)")
_HEX = re.compile(r"x(?:([0-9A-Fa-f]{2})|\{([0-9A-Fa-f]{1,6})\})")
_CLASSES = {
    "alnum": "0-9A-Za-z", "alpha": "A-Za-z", "ascii": r"\x00-\x7f", "blank": r"\t\ ", "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9", "graph": "!-~", "lower": "a-z", "print": r"\ -~", "punct": r"!-/:-@\[-`{-~", "space": r"\t-\r\ ",
    "upper": "A-Z", "word": "0-9A-Za-z_", "xdigit": "0-9A-Fa-f",
}  # fmt: skip
_SIMPLE = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_LOOKS = {"(?=": "lookahead", "(?!": "lookahead", "(?<=": "lookbehind", "(?<!": "lookbehind"}


@functools.lru_cache(maxsize=4096)
def compile(text: str) -> re.Pattern[str]:
    """Return the pattern for `fullmatch`; raises ValueError, which says what is wrong.

    >>> bool(compile("/v[[:digit:]]+/.*").fullmatch("/v1/users"))
    True
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"is {len(text)} characters long (at most {MAX_LENGTH})")
    if not (text.isascii() and text.isprintable()):
        raise ValueError("must be of printable ASCII (what is sent is percent-encoded)")
    try:
        return re.compile(_Reader(text).read(), re.ASCII)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error.msg}") from None


class _Reader:
    """One pass over an expression."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.counts = [1]  # how often what is in each open group is repeated at most
        self.last = 1  # the same of what stands before
        self.repeatable = False  # whether something stands before that can be repeated

    def read(self) -> str:
        out = []
        if flags := _FLAGS.match(self.text):
            out.append(flags[0])
            self.at = flags.end()
        while self.at < len(self.text):
            out.append(self._next())
        if len(self.counts) > 1:
            raise ValueError('is no regular expression: ")" is missing')
        return "".join(out)

    def _next(self) -> str:
        char = self.text[self.at]
        if char in "*+?" or (char == "{" and _REPEAT.match(self.text, self.at)):
            return self._repeat()
        self.repeatable, self.last = char not in "(|^", 1
        match char:
            case "(":
                return self._group()
            case "[":
                return self._class()
            case "\\":
                return self._escape()
            case ")":
                if len(self.counts) == 1:
                    raise ValueError('is no regular expression: "(" is missing')
                self.last = self.counts.pop()
                self.counts[-1] = max(self.counts[-1], self.last)
            case "{" | "}" | "]":
                char = "\\" + char  # "{,5}" would be a repetition for Python
        self.at += 1
        return char

    def _repeat(self) -> str:
        counted = _REPEAT.match(self.text, self.at)
        if not self.repeatable:
            raise ValueError("is no regular expression: nothing to repeat, or repeated twice")
        if counted:
            self.last *= max(int(n) for n in (counted[1], counted[3], "1") if n)
            if self.last > MAX_REPEAT:
                raise ValueError(f"repeats more than {MAX_REPEAT} times")
            self.counts[-1] = max(self.counts[-1], self.last)
        end = counted.end() if counted else self.at + 1
        if self.text[end : end + 1] == "+":
            raise ValueError("possessive quantifiers are not allowed")
        if self.text[end : end + 1] == "?":
            end += 1
        out = self.text[self.at : end]
        self.at, self.repeatable = end, False
        return out

    def _group(self) -> str:
        rest = self.text[self.at : self.at + 4]
        for start, name in _LOOKS.items():
            if rest.startswith(start):
                raise ValueError(f"{name} is not allowed")
        if rest.startswith("(?>"):
            raise ValueError("atomic groups are not allowed")
        if rest.startswith("(?("):
            raise ValueError("conditionals are not allowed")
        if rest.startswith("(?P="):
            raise ValueError("back-references are not allowed")
        opening = _GROUP.match(self.text, self.at)
        if opening is None or (rest.startswith("(?") and opening[1] is None):
            raise ValueError(f"{rest} is not allowed (groups are (...), (?:...), (?i:...), (?P<name>...))")
        self.counts.append(1)
        if len(self.counts) > MAX_DEPTH + 1:
            raise ValueError(f"is nested too deeply (at most {MAX_DEPTH})")
        self.at = opening.end()
        return opening[0].replace("(?<", "(?P<")

    def _escape(self) -> str:
        rest = self.text[self.at + 1 :]
        if rest[:1] == "Q":
            literal, _, _ = rest[1:].partition("\\E")
            self.at += 2 + len(literal) + (2 if "\\E" in rest[1:] else 0)
            self.repeatable = bool(literal)
            return re.escape(literal)
        if rest[:1] and rest[0] in "dDwWsSbBA":
            self.at += 2
            return "\\" + rest[0]
        if rest[:1] == "z":
            self.at += 2
            return r"\Z"
        return re.escape(self._character())

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

    def _class(self) -> str:
        self.at += 1
        out = ["["]
        if self.text.startswith("^", self.at):
            out.append("^")
            self.at += 1
        first = True
        while first or not self.text.startswith("]", self.at):
            if self.at >= len(self.text):
                raise ValueError('is no regular expression: "]" is missing')
            out.append(self._member())
            first = False
        self.at += 1
        return "".join(out) + "]"

    def _member(self) -> str:
        """Read one character, range or named class within brackets."""
        if self.text.startswith("[:", self.at):
            name, end, _ = self.text[self.at + 2 :].partition(":]")
            if not end or name not in _CLASSES:
                raise ValueError(f"[:{name[:20]}:] is unknown ({', '.join(_CLASSES)})")
            self.at += len(name) + 4
            return _CLASSES[name]
        if self.text[self.at] == "\\" and self.text[self.at + 1 : self.at + 2] in tuple("dDwWsS"):
            self.at += 2
            return self.text[self.at - 2 : self.at]
        low = self._one()
        if self.text[self.at : self.at + 1] != "-" or self.text[self.at + 1 : self.at + 2] in ("]", ""):
            return re.escape(low)
        self.at += 1
        if self.text.startswith("[:", self.at) or re.match(r"\\[dDwWsS]", self.text[self.at :]):
            raise ValueError("a range cannot end at a class")
        high = self._one()
        if high < low:
            raise ValueError("a range ends before it begins")
        return f"{re.escape(low)}-{re.escape(high)}"

    def _one(self) -> str:
        if self.text[self.at] == "\\":
            return self._character()
        self.at += 1
        return self.text[self.at - 1]
