"""JSON text to nodes. A value becomes nodes when it is looked at: of what Kubernetes says of a pod, most never is.

Each value has the line at which its document, or its item of a List, begins.
"""

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from control.policy import field
from control.source import jsonplace

MAX_DEPTH = 48
MAX_KEY = 512
MAX_DIGITS = 100  # far more than any field takes; Python would not convert some thousands

# What a text may become, so that one of 10 MB takes neither a second nor 500 MB. A pod as kubectl writes it has one
# collection for each 160 bytes of text, and without its blanks one for each 60.
MAX_ITEMS = 100_000  # of one list or mapping
COLLECTIONS = 300_000
BYTES_PER_COLLECTION = 16
MAX_MEMORY = 450 << 20
_COLLECTION_SIZE, _SCALAR_SIZE = 200, 60  # in Python's memory, at most

_BLANK = re.compile(r"[ \t\n\r]*")
_COLLECTION_TYPES = (dict, list)


class JsonError(Exception):
    """The text is not JSON that we read: why, the line, and as far as it can be told the path in the document."""

    def __init__(self, message: str, line: int = 0, path: str = "") -> None:
        super().__init__(message)
        self.line, self.path = line, path


class _Unread(field.Node):
    """A collection that nobody has looked into yet."""

    __slots__ = ("_found", "_plain")
    _plain: Any
    _found: Any

    def __init__(self, plain: Any, line: int) -> None:
        object.__setattr__(self, "line", line)
        object.__setattr__(self, "_plain", plain)
        object.__setattr__(self, "_found", None)

    @property
    def value(self) -> Any:
        if self._found is None:
            plain, line = self._plain, self.line
            if isinstance(plain, dict):
                object.__setattr__(self, "_found", {key: _node(value, line) for key, value in plain.items()})
            else:
                object.__setattr__(self, "_found", tuple([_node(value, line) for value in plain]))
            object.__setattr__(self, "_plain", None)
        return self._found


def _node(plain: Any, line: int) -> field.Node:
    return _Unread(plain, line) if type(plain) in _COLLECTION_TYPES else field.Node(plain, line)


def documents(text: str) -> Iterator[field.Node]:
    """Yield the documents of a text, usually one; raises JsonError."""
    _check_size(text)
    reader = _Reader(text)
    while reader.place < len(text):
        yield reader.document()


def _check_size(text: str) -> None:
    collections = text.count("{") + text.count("[")
    most = max(COLLECTIONS, len(text) // BYTES_PER_COLLECTION)
    if collections > most:
        raise JsonError(f"too many lists and mappings for a text of this length (at most {most})")
    if sys.getsizeof(text) + _COLLECTION_SIZE * collections + _SCALAR_SIZE * text.count(",") > MAX_MEMORY:
        raise JsonError(f"would take more than {MAX_MEMORY >> 20} MB of memory (split it)")


def _integer(digits: str) -> int:
    """Return a number; of one that no field takes, its first digits: enough to be refused, and to be shown."""
    return int(digits[:MAX_DIGITS])


class _Reader:
    """Goes through a text once. Outer levels are read here, so that items of a List have lines; the rest by `json`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0
        self._counted, self._lines = 0, 1
        self._decoder = self._decoder_with()
        self._start = 1  # line of what is being decoded
        self._skip_blank()

    def document(self) -> field.Node:
        """Return the next document; the place is behind it and the blanks after it then."""
        line = self._line()
        if not self._takes("{"):
            return _node(self._value(0), line)
        pairs: list[tuple[str, Any]] = []
        while not (not pairs and self._takes("}")):
            self._check_items(len(pairs) + 1)
            if self.text[self.place : self.place + 1] != '"':
                raise self._error("a key in double quotes was expected")
            key = self._value()
            if not self._takes(":"):
                raise self._error("a colon was expected")
            is_list = key == "items" and self.text.startswith("[", self.place)
            pairs.append((key, self._items() if is_list else _node(self._value(path=key), self._line())))
            if self._takes("}"):
                break
            if not self._takes(","):
                raise self._error("a comma or the end of the mapping was expected")
        self._start = line
        return field.Node(self._mapping(pairs), line)

    def _items(self) -> field.Node:
        line = self._line()
        self._takes("[")
        out: list[field.Node] = []
        while not (not out and self._takes("]")):
            self._check_items(len(out) + 1)
            start = self._line()
            out.append(_node(self._value(2, f"items[{len(out)}]"), start))
            if self._takes("]"):
                break
            if not self._takes(","):
                raise self._error("a comma or the end of the list was expected")
        return field.Node(tuple(out), line)

    def _value(self, above: int = 1, path: str = "") -> Any:
        """Return the value that begins here; `path` is where it stands, below `above` others."""
        self._start, begin = self._line(), self.place
        try:
            try:
                value, self.place = self._decoder.raw_decode(self.text, self.place)
            except json.JSONDecodeError:
                raise
            except ValueError:  # an integer of more digits than Python converts; to look at each one takes long
                self._decoder = self._decoder_with(parse_int=_integer)
                value, self.place = self._decoder.raw_decode(self.text, self.place)
            self._check_depth(value, above)
        except json.JSONDecodeError as error:
            raise JsonError(f"not JSON: {error.msg} (column {error.colno})", error.lineno, path) from None
        except RecursionError:
            raise JsonError(self._too_deep().args[0], self._start, path) from None
        except JsonError as error:
            more = jsonplace.of_wrong(self.text, begin, MAX_DEPTH - above, MAX_ITEMS)
            error.path = f"{path}{more}".removeprefix(".")
            raise
        self._skip_blank()
        return value

    def _decoder_with(self, **more: Any) -> json.JSONDecoder:
        return json.JSONDecoder(object_pairs_hook=self._mapping, parse_constant=self._constant, **more)

    def _check_depth(self, value: Any, above: int) -> None:
        level = [value] if type(value) in _COLLECTION_TYPES else []
        for _ in range(MAX_DEPTH - above):
            self._check_items(max(map(len, level), default=0))
            level = [
                child
                for each in level
                for child in (each.values() if type(each) is dict else each)
                if type(child) in _COLLECTION_TYPES
            ]
            if not level:
                return
        raise self._too_deep()

    def _mapping(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self._check_items(len(pairs))
        out = dict(pairs)
        if len(out) != len(pairs):
            seen: set[str] = set()
            twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            raise JsonError(f"key {field.quote(twice)} is given twice", self._start)
        return out

    def _check_items(self, count: int) -> None:
        if count > MAX_ITEMS:
            raise JsonError(f"a list or mapping of {count} items (at most {MAX_ITEMS})", self._start)

    def _constant(self, word: str) -> Any:
        raise JsonError(f"not JSON: {word}", self._start)

    def _too_deep(self) -> JsonError:
        return JsonError(f"nested too deeply (at most {MAX_DEPTH})", self._start)

    def _error(self, message: str) -> JsonError:
        column = self.place - self.text.rfind("\n", 0, self.place)
        return JsonError(f"not JSON: {message} (column {column})", self._line())

    def _takes(self, sign: str) -> bool:
        if not self.text.startswith(sign, self.place):
            return False
        self.place += 1
        self._skip_blank()
        return True

    def _skip_blank(self) -> None:
        found = _BLANK.match(self.text, self.place)
        self.place = found.end() if found else self.place

    def _line(self) -> int:
        self._lines += self.text.count("\n", self._counted, self.place)
        self._counted = self.place
        return self._lines
