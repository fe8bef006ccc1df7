"""Reading a document with every mistake reported at once, each with its path.

A `Node` is a parsed value with its line. A `Field` is a node at a place in a document: its readers answer None after
reporting what is wrong, so that a parser goes on and finds the next mistake too.
"""

import dataclasses
import difflib
import ipaddress
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from control import model

MAX_PROBLEMS = 100  # of one file: enough to work on, and a garbage file stays readable

# What no name, path or word is made of: control characters, and halves of a surrogate pair, which nobody can encode.
# Line ends and tabs are fit for prose alone.
_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_UNFIT_PROSE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Doubtful(str):
    """A word without quotes that is a string here and a number to others, Kubernetes among them: 0x50 is 80 there."""


Scalar = str | int | float | bool | None
T = TypeVar("T")
_NO_KEYS: Mapping[str, str] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A value as a document gave it."""

    value: "Scalar | tuple[Node, ...] | dict[str, Node]"
    line: int = 0

    @classmethod
    def of(cls, value: Any) -> "Node":
        """Return the node of a plain value, as `json` and the Kubernetes API give them."""
        if isinstance(value, dict):
            return cls({str(k): cls.of(v) for k, v in value.items()})
        if isinstance(value, list | tuple):
            return cls(tuple(cls.of(v) for v in value))
        if value is None or isinstance(value, str | int | float | bool):
            return cls(value)
        raise ValueError(f"not a plain value: {type(value).__name__}")


class Report:
    """Collects the problems of one file."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[model.Problem] = []
        self.count = 0  # also of those beyond the bound: who asks "is it valid?" must ask here
        self.advice: list[model.Problem] = []  # what is taken all the same, but does not do what it says
        self.expressions: dict[str, int] = {}  # those of the file, with the length of all up to there

    def add(self, path: str, message: str, line: int = 0, prefix: str = "") -> None:
        """Report what is wrong at a path; `prefix` says which document of the file it belongs to."""
        self.count += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(self._problem(path, message, line, prefix))

    def advise(self, path: str, message: str, line: int = 0, prefix: str = "") -> None:
        if len(self.advice) < MAX_PROBLEMS:
            self.advice.append(self._problem(path, message, line, prefix))

    def _problem(self, path: str, message: str, line: int, prefix: str) -> model.Problem:
        return model.Problem(self.file, _legible(prefix + path), message, line, within=_legible(path))

    @property
    def is_full(self) -> bool:
        """Tell whether nobody will read what is found from now on: it only counts."""
        return len(self.problems) >= MAX_PROBLEMS


def _legible(path: str) -> str:
    """Return a path fit for a message, whatever keys are in it."""
    path = path.removesuffix(".")  # of a document as a whole
    path = path if path.isprintable() else "".join(c if c.isprintable() else "?" for c in path)
    return path if len(path) <= 240 else f"{path[:118]}...{path[-118:]}"


def quote(value: object) -> str:
    """Return value in double quotes, short and without control characters, fit for a message."""
    text = json.dumps(value if isinstance(value, str) else str(value), ensure_ascii=False)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 80 else text[:76] + '..."'


def is_fit(text: str) -> bool:
    """Tell whether text can be part of a name or a path."""
    return _UNFIT.search(text) is None


def one_of(options: Collection[str]) -> str:
    return "(" + ", ".join(options) + ")"


class Field:
    """A node at its path; `prefix` says which document of the file the path belongs to."""

    __slots__ = ("node", "path", "prefix", "report")

    def __init__(self, node: Node, path: str, report: Report, prefix: str = "") -> None:
        self.node, self.path, self.report, self.prefix = node, path, report, prefix

    @property
    def source(self) -> str:
        return f"{self.report.file}:{self.node.line}" if self.node.line else self.report.file

    def problem(self, message: str) -> None:
        self.report.add(self.path, message, self.node.line, self.prefix)

    def advise(self, message: str) -> None:
        """Report what the document's author should know although nothing is wrong with it."""
        self.report.advise(self.path, message, self.node.line, self.prefix)

    def child(self, key: str, node: Node) -> "Field":
        return Field(node, f"{self.path}.{key}" if self.path else key, self.report, self.prefix)

    def _wrong_type(self, wanted: str) -> None:
        value = self.node.value
        names = {dict: "a mapping", tuple: "a list", str: "a string", bool: "a boolean", type(None): "nothing"}
        self.problem(f"must be {wanted}, is {names.get(type(value), 'a number')}")

    def mapping(self) -> "dict[str, Field] | None":
        """Return the entries of a mapping; a key without a value counts as absent, as Kubernetes has it."""
        if not isinstance(self.node.value, dict):
            self._wrong_type("a mapping")
            return None
        return {k: self.child(k, v) for k, v in self.node.value.items() if v.value is not None}

    def fields(
        self, allowed: Collection[str], *, required: Collection[str] = (), elsewhere: Mapping[str, str] = _NO_KEYS
    ) -> "dict[str, Field]":
        """Return the known entries; reports missing keys, unknown ones, and of those that are not to be here but
        `elsewhere`, in another kind or in a later version, what that says.
        """
        entries = self.mapping()
        if entries is None:
            return {}
        for key in required:
            if key not in entries:
                self.problem(f"{key} is missing")
        assert isinstance(self.node.value, dict)
        for key, node in self.node.value.items():
            if key in allowed or (key in elsewhere and node.value is None):
                continue
            if key in elsewhere:
                self.child(key, node).problem(elsewhere[key])
            elif self.report.is_full:
                self.report.count += 1  # to look for what was meant takes long
            else:
                place = Field(
                    node, f"{self.path}.{_short(key)}" if self.path else _short(key), self.report, self.prefix
                )
                place.problem(f"unknown key{_perhaps(key, allowed)} {one_of(sorted(allowed))}")
        return {k: v for k, v in entries.items() if k in allowed}

    def items(self, most: int | None = None) -> "list[Field]":
        """Return the items of a list; reports anything else, and a list longer than `most`."""
        value = self.node.value
        if not isinstance(value, tuple):
            self._wrong_type("a list")
            return []
        if most is not None and len(value) > most:
            self.problem(f"has {len(value)} items (at most {most})")
            return []
        return [Field(node, f"{self.path}[{i}]", self.report, self.prefix) for i, node in enumerate(value)]

    def each(self) -> "Iterator[Field]":
        """Yield the items of a list, until one is wrong and nobody would read more: the document is refused then."""
        before = self.report.count
        for item in self.items():
            if self.report.is_full and self.report.count > before:
                self.report.count += 1  # for all the others
                return
            yield item

    def text(self, pattern: re.Pattern[str] | None = None, what: str = "", most: int = 4096) -> str | None:
        """Return a string that matches pattern; `what` tells people the rule."""
        value = self._string(_UNFIT, most)
        if value is not None and pattern is not None and not pattern.fullmatch(value):
            self.problem(f"invalid {quote(value)} ({what})")
            return None
        return value if pattern is None else self._certain(value)

    def prose(self, most: int = 4096) -> str | None:
        """Return a string that is for people to read: it may have several lines."""
        return self._certain(self._string(_UNFIT_PROSE, most))

    def _certain(self, value: str | None) -> str | None:
        """Return value if it is a string to everybody."""
        if value is None or not isinstance(self.node.value, Doubtful):
            return value
        self.problem(f"invalid {quote(value)} (others take it for a number: write it in quotes)")
        return None

    def _string(self, unfit: re.Pattern[str], most: int) -> str | None:
        value = self.node.value
        if not isinstance(value, str):
            self._wrong_type("a string (in quotes)" if isinstance(value, bool | int | float) else "a string")
            return None
        if len(value) > most:
            self.problem(f"is {len(value)} characters long (at most {most})")
            return None
        if found := unfit.search(value):
            self.problem(f"invalid {quote(value)} (it holds U+{ord(found[0]):04X}, which is no character of a text)")
            return None
        return value

    def integer(self, low: int, high: int) -> int | None:
        value = self.node.value
        if isinstance(value, float):
            is_ = "far too large" if math.isinf(value) else value
            self.problem(f"must be a whole number from {low} to {high}, is {is_}")
            return None
        if isinstance(value, Doubtful):
            self.problem(f"invalid {quote(value)} (a number from {low} to {high})")
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong_type(f"a number from {low} to {high}")
            return None
        if not low <= value <= high:
            self.problem(f"invalid {quote(value)} (a number from {low} to {high})")
            return None
        return value

    def boolean(self) -> bool | None:
        if not isinstance(self.node.value, bool):
            self._wrong_type("true or false")
            return None
        return self.node.value

    def choice(self, options: Mapping[str, T]) -> T | None:
        value = self.node.value
        if not isinstance(value, str):
            self._wrong_type(f"one of {', '.join(options)}")
            return None
        if value not in options:
            self.problem(f"unknown {quote(value)} {one_of(options)}")
            return None
        return options[value]

    def address(self) -> str | None:
        """Return an IP address in its one canonical spelling."""
        value = self.text(most=64)
        if value is None:
            return None
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            self.problem(f"invalid {quote(value)} (an IPv4 or IPv6 address)")
            return None
        if isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address.scope_id):
            self.problem(f"invalid {quote(value)} (neither IPv4-mapped nor with a scope)")
            return None
        return str(address)


def _perhaps(key: str, allowed: Collection[str]) -> str:
    """Return a question for a key that was probably mistyped, or nothing."""
    near = difflib.get_close_matches(key[:60], sorted(allowed), n=1, cutoff=0.75)
    return f": did you mean {near[0]}?" if near else ""


def _short(key: str) -> str:
    return key if len(key) <= 60 and key.isprintable() else quote(key)
