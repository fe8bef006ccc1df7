"""Text to `Node` trees: YAML of several documents, or JSON, within bounds that no input can exceed.

The YAML event stream is read with a stack of our own, so nesting cannot exhaust the interpreter's, and anchors are
refused, so a few lines cannot stand for gigabytes. Scalars mean what they mean to Kubernetes (YAML 1.1 booleans), but
a number with a leading zero stays a string, since half the world reads it as octal.
"""

import json
import re
from typing import Any

import yaml

from control.policy import field

MAX_DEPTH = 48
MAX_NODES = 2_000_000
MAX_KEY = 512

_BOOLEANS = {
    word: value
    for value, words in ((True, ("true", "yes", "on")), (False, ("false", "no", "off")))
    for base in words
    for word in (base, base.capitalize(), base.upper())
}
_NULLS = {"", "~", "null", "Null", "NULL"}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,30})")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]{1,3})?")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's is ten times as fast


class DocumentError(Exception):
    """The text is not a document that we read: why, and the line."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


def parse(text: str, is_json: bool = False) -> tuple[list[field.Node], DocumentError | None]:
    """Return the documents of text in order, and what stopped the reading, if anything did.

    Documents before a syntax error are returned too: a policy among them can still be named in a deny.
    """
    if is_json:
        try:
            return ([_from_json(text)] if text.strip() else []), None
        except DocumentError as error:
            return [], error
    documents: list[field.Node] = []
    try:
        for node in _Builder().documents(text):
            documents.append(node)
    except DocumentError as error:
        return documents, error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        return documents, DocumentError(f"not YAML: {error.problem or error.context}", line)
    except yaml.YAMLError as error:
        return documents, DocumentError(f"not YAML: {str(error).splitlines()[0]}")
    except (ValueError, UnicodeError) as error:  # libyaml's wrapper lets a few through
        return documents, DocumentError(f"not YAML: {error}")
    return documents, None


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
    return value


class _Builder:
    """One pass over the events of a text."""

    def __init__(self) -> None:
        # Each open collection: its line, and the children so far (keys and values in turn for a mapping).
        self.stack: list[tuple[bool, int, list[field.Node], dict[str, field.Node], list[str]]] = []
        self.nodes = 0
        self.done: field.Node | None = None

    def documents(self, text: str) -> Any:
        for event in yaml.parse(text, Loader=_LOADER):
            line = event.start_mark.line + 1 if event.start_mark else 0
            if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise DocumentError("anchors and aliases are not allowed (write the value out)", line)
            if isinstance(event, yaml.ScalarEvent):
                self.add(_scalar_node(event, line), event)
            elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
                if len(self.stack) >= MAX_DEPTH:
                    raise DocumentError(f"nested too deeply (at most {MAX_DEPTH})", line)
                self.stack.append((isinstance(event, yaml.MappingStartEvent), line, [], {}, []))
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                is_mapping, start, items, entries, _ = self.stack.pop()
                self.add(field.Node(entries if is_mapping else tuple(items), start), None)
            elif isinstance(event, yaml.DocumentEndEvent):
                if self.done is not None and self.done.value is not None:
                    yield self.done
                self.done = None

    def add(self, node: field.Node, event: Any) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise DocumentError(f"too many values (at most {MAX_NODES})", node.line)
        if not self.stack:
            self.done = node
            return
        is_mapping, _, items, entries, key = self.stack[-1]
        if not is_mapping:
            items.append(node)
        elif key:
            entries[key.pop()] = node
        else:
            if event is None:
                raise DocumentError("a key must be a plain word", node.line)
            # Keys are words whatever they look like: `on` and `8080` are names here, as they are in JSON.
            text = event.value
            if len(text) > MAX_KEY:
                raise DocumentError(f"key of {len(text)} characters (at most {MAX_KEY})", node.line)
            if text in entries:
                raise DocumentError(f"key {field.quote(text)} is given twice", node.line)
            key.append(text)


def _scalar_node(event: Any, line: int) -> field.Node:
    if event.tag not in (None, "!", "tag:yaml.org,2002:str"):
        raise DocumentError(f"tag {field.quote(event.tag)} is not allowed", line)
    plain = event.implicit[0] and event.tag is None
    return field.Node(scalar(event.value) if plain else event.value, line)


def _from_json(text: str) -> field.Node:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            seen: set[str] = set()
            twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
            raise DocumentError(f"key {field.quote(twice)} is given twice")
        return out

    def no_constant(word: str) -> Any:
        raise DocumentError(f"not JSON: {word}")

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=no_constant)
    except json.JSONDecodeError as error:
        raise DocumentError(f"not JSON: {error.msg}", error.lineno) from None
    except RecursionError:
        raise DocumentError(f"nested too deeply (at most {MAX_DEPTH})") from None
    except ValueError as error:  # an integer of more digits than Python converts
        raise DocumentError(f"not JSON: {error}") from None
    if _depth(value) > MAX_DEPTH:
        raise DocumentError(f"nested too deeply (at most {MAX_DEPTH})")
    return field.Node.of(value)


def _depth(value: Any) -> int:
    """Return how deep value nests, without recursing."""
    deepest, todo = 0, [(value, 1)]
    while todo:
        item, depth = todo.pop()
        deepest = max(deepest, depth)
        children = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
        todo += [(child, depth + 1) for child in children]
    return deepest
