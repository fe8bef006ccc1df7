"""Text to `Node` trees: YAML of several documents, or JSON, within bounds that no input can exceed.

The YAML event stream is read with a stack of our own, so nesting cannot exhaust the interpreter's, and anchors are
refused, so a few lines cannot stand for gigabytes. Scalars mean what they mean to Kubernetes (YAML 1.1 booleans), but
a number with a leading zero stays a string, since half the world reads it as octal: names and labels refuse it.
"""

import contextlib
import functools
import gc
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from control.policy import field
from control.source import jsontext

MAX_DEPTH = jsontext.MAX_DEPTH
MAX_KEY = jsontext.MAX_KEY
MAX_EVENTS = 450_000  # of a YAML text, one for a key or a scalar and two for what holds others: half a second's work
MAX_ERRORS = 20  # of one file, where each is behind the one before

_BOOLEANS = {
    word: value
    for value, words in ((True, ("true", "yes", "on")), (False, ("false", "no", "off")))
    for base in words
    for word in (base, base.capitalize(), base.upper())
}
_NULLS = {"", "~", "null", "Null", "NULL"}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]{1,3})?")
_DOUBTFUL = re.compile(r"[-+]?0([xX][0-9a-fA-F_]{1,16}|[bB][01_]+|[oO][0-7_]+)|[-+]?[0-9][0-9_]*(\.[0-9_]*)?")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast
_NO_TOKEN = "cannot start any token"  # libyaml's words, and PyYAML's own
_MARK = re.compile(r"^---(?=\s|\Z)", re.MULTILINE)
_STRING_TAGS = (None, "!", "tag:yaml.org,2002:str")
_COLLECTION_TAGS = (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

IsNothing = Callable[[field.Node], bool]


class DocumentError(Exception):
    """The text is not a document that we read: why, the line, and the path where a line may say nothing."""

    def __init__(self, message: str, line: int = 0, path: str = "") -> None:
        super().__init__(message)
        self.line, self.path = line, path


class _TooMuch(DocumentError):
    """There is no reading on behind it."""


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the collector of cycles away: what is read has none, and to look for them takes longer than to read."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def parse(text: str, is_json: bool = False) -> tuple[list[field.Node], DocumentError | None]:
    """Return the documents of text in order, and what stopped the reading, if anything did.

    Documents before an error are returned too: a policy among them can still be named in a deny.
    """
    return _parse(text, is_json, itertools.count(1))


def parse_all(
    text: str, is_json: bool = False, is_nothing: IsNothing | None = None
) -> tuple[list[field.Node], list[DocumentError]]:
    """Return the documents of text that can be read, those behind a broken one too, and what is wrong with the others.

    Only `---` says where YAML begins anew; JSON never does. `is_nothing` tells which documents may have anchors and
    aliases, because nobody reads them: they are not expanded there either, an alias is nothing.
    """
    events = itertools.count(1)
    found, error = _parse(text, is_json, events, is_nothing)
    errors: list[DocumentError] = []
    marks = iter(()) if is_json else _marks(text)
    for _ in range(MAX_ERRORS):  # of attempts: an error that is told once may be met again and again
        if error is None:
            break
        if not errors or errors[-1].args != error.args or errors[-1].line != error.line:
            errors.append(error)
        # An error may be seen only at the mark that ends its document.
        behind = next((mark for mark in marks if mark[0] >= error.line), None)
        if behind is None or isinstance(error, _TooMuch):
            break
        line, place = behind
        more, error = _parse("\n" * (line - 1) + text[place:], is_json, events, is_nothing)
        found += more
    return found, errors


def _marks(text: str) -> Iterator[tuple[int, int]]:
    """Yield line and place of each `---`."""
    line, place = 1, 0
    for mark in _MARK.finditer(text):
        line, place = line + text.count("\n", place, mark.start()), mark.start()
        yield line, place


def _parse(
    text: str, is_json: bool, events: Iterator[int], is_nothing: IsNothing | None = None
) -> tuple[list[field.Node], DocumentError | None]:
    found: list[field.Node] = []
    try:
        for node in jsontext.documents(text) if is_json else _yaml_documents(text, events, is_nothing):
            found.append(node)
    except DocumentError as error:
        return found, error
    except jsontext.JsonError as error:
        return found, DocumentError(str(error), error.line, error.path)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        return found, DocumentError(f"not YAML: {_problem(text, error, mark)}", line)
    except yaml.reader.ReaderError as error:
        line = text.encode(errors="replace").count(b"\n", 0, error.position) + 1
        return found, DocumentError(f"not YAML: {str(error).splitlines()[0]}", line)
    except yaml.YAMLError as error:
        return found, DocumentError(f"not YAML: {str(error).splitlines()[0]}")
    except (ValueError, UnicodeError) as error:  # libyaml's wrapper lets a few through
        return found, DocumentError(f"not YAML: {error}")
    return found, None


def _problem(text: str, error: yaml.MarkedYAMLError, mark: Any) -> str:
    """Return what is wrong in the parser's words, but of a tab, which looks like the spaces that it should be."""
    if mark is not None and _NO_TOKEN in (error.problem or "") and text[mark.index : mark.index + 1] == "\t":
        return "a tab, where only spaces can be: indent with spaces"
    return str(error.problem or error.context)


def scalar(value: str) -> field.Scalar:
    """Return what a plain (unquoted) scalar means."""
    if value in _NULLS:
        return None
    if value in _BOOLEANS:
        return _BOOLEANS[value]
    if _INTEGER.fullmatch(value):
        return int(value)
    if _FLOAT.fullmatch(value) and not value.isdigit():
        return float(value)
    return field.Doubtful(value) if _DOUBTFUL.fullmatch(value) else value


_short_scalar = functools.lru_cache(maxsize=1 << 14)(scalar)  # few words make up a large file


def _yaml_documents(text: str, events: Iterator[int], is_nothing: IsNothing | None) -> Iterator[field.Node]:
    loader = _LOADER(text)
    try:
        yield from _build(_events(loader), events, is_nothing)
    finally:
        loader.dispose()


def _events(loader: Any) -> Iterator[Any]:
    event = None
    try:
        while (event := loader.get_event()) is not None:
            yield event
    except ValueError as error:  # of libyaml's wrapper, which does not say where: behind the last event
        raise DocumentError(f"not YAML: {error}", event.end_mark.line + 1 if event else 0) from None


def _build(events: Iterator[Any], count: Iterator[int], is_nothing: IsNothing | None) -> Iterator[field.Node]:
    """Yield the documents of a stream of events, in one loop: a large file has hundreds of thousands."""
    # Each open collection around the current one.
    stack: list[tuple[int, list[field.Node] | None, dict[str, field.Node] | None, str | None]] = []
    # The current one: its line, its items or its entries with the key that waits for a value; neither of them outside.
    begun = 0
    items: list[field.Node] | None = None
    entries: dict[str, field.Node] | None = None
    key: str | None = None
    done: field.Node | None = None
    anchored = 0  # the line of the document's first anchor or alias
    for event in events:
        kind = type(event)
        line = event.start_mark.line + 1
        if next(count) > MAX_EVENTS:
            raise _TooMuch(f"more keys and values than are read of one file (about {MAX_EVENTS}: split it)", line)
        if kind is yaml.ScalarEvent:
            if event.anchor is not None:
                anchored = _anchored(line, anchored, is_nothing)
            if entries is not None and key is None:
                key = _key(event.value, entries, line)
                continue
            node = field.Node(_meaning(event, line), line)
        elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
            if event.anchor is not None:
                anchored = _anchored(line, anchored, is_nothing)
            if len(stack) >= MAX_DEPTH:
                raise DocumentError(f"nested too deeply (at most {MAX_DEPTH})", line)
            if event.tag not in _COLLECTION_TAGS:
                raise DocumentError(f"tag {field.quote(event.tag)} is not allowed", line)
            if entries is not None and key is None:
                raise DocumentError("a key must be a plain word", line)
            stack.append((begun, items, entries, key))
            begun, key = line, None
            items, entries = (None, {}) if kind is yaml.MappingStartEvent else ([], None)
            continue
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            node = field.Node(entries if items is None else tuple(items), begun)
            begun, items, entries, key = stack.pop()
        elif kind is yaml.AliasEvent:
            anchored = _anchored(line, anchored, is_nothing)
            if entries is not None and key is None:
                raise DocumentError("a key must be a plain word", line)
            node = field.Node(None, line)
        else:  # where a stream or a document begins or ends
            if anchored and not (done is not None and is_nothing is not None and is_nothing(done)):
                raise _no_anchors(anchored)
            anchored = 0
            if done is not None and done.value is not None:  # an empty document is none
                yield done
            done = None
            continue
        if items is not None:
            items.append(node)
        elif entries is not None and key is not None:
            entries[key] = node
            key = None
        else:
            done = node


def _meaning(event: Any, line: int) -> field.Scalar:
    tag, value = event.tag, event.value
    if tag is None and event.implicit[0]:
        return _short_scalar(value) if len(value) <= 32 else scalar(value)
    if tag not in _STRING_TAGS:
        raise DocumentError(f"tag {field.quote(tag)} is not allowed", line)
    return str(value)


def _key(text: str, entries: dict[str, field.Node], line: int) -> str:
    # Keys are words whatever they look like: `on` and `8080` are names here, as they are in JSON.
    if len(text) > MAX_KEY:
        raise DocumentError(f"key of {len(text)} characters (at most {MAX_KEY})", line)
    if text in entries:
        raise DocumentError(f"key {field.quote(text)} is given twice", line)
    return text


def _anchored(line: int, first: int, is_nothing: IsNothing | None) -> int:
    """Return the line of a document's first anchor, where it may turn out to be one that has them."""
    if is_nothing is None:
        raise _no_anchors(line)
    return first or line


def _no_anchors(line: int) -> DocumentError:
    return DocumentError("anchors and aliases are not allowed (write the value out)", line)
