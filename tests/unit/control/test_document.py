"""YAML and JSON to nodes: what scalars mean, and that no text gets past the bounds."""

import json
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.policy import field
from control.source import document


def plain(node: field.Node) -> Any:
    if isinstance(node.value, dict):
        return {k: plain(v) for k, v in node.value.items()}
    if isinstance(node.value, tuple):
        return [plain(v) for v in node.value]
    return node.value


def read(text: str, is_json: bool = False) -> Any:
    nodes, error = document.parse(text, is_json)
    assert error is None, error
    return [plain(node) for node in nodes]


def told(error: document.DocumentError) -> str:
    return f"line {error.line}: {error}" if error.line else str(error)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a", "a"), ("80", 80), ("-1", -1), ("+7", 7), ("'80'", "80"), ('"80"', "80"), ("1.5", 1.5), ("1e3", 1000.0),
        ("true", True), ("Yes", True), ("ON", True), ("off", False), ("no", False), ("y", "y"), ("~", None),
        ("null", None), ("010", "010"), ("0x10", "0x10"), ("22:22", "22:22"), ("2020-01-01", "2020-01-01"),
        ("089", "089"), ("1.2_3", "1.2_3"), ("9" * 35, "9" * 35), ("12e4567", "12e4567"),
        ("0x" + "a" * 40, "0x" + "a" * 40),
        (".", "."), (".5", 0.5), ("1_000", "1_000"), (".inf", ".inf"), ("!!str 80", "80"), ("|\n  x\n", "x\n"),
    ],
)  # fmt: skip
def test_scalars(text: str, value: object) -> None:
    (found,) = read(f"k: {text}")
    assert found == {"k": value}
    is_doubtful = text in ("010", "0x10", "1_000", "089", "1.2_3", "9" * 35)  # a number to others
    assert type(found["k"]) is (field.Doubtful if is_doubtful else type(value))


def test_keys_are_words() -> None:
    assert read("on: 1\n8080: 2\nnull: 3") == [{"on": 1, "8080": 2, "null": 3}]


def test_several_documents_and_empty_ones() -> None:
    assert read("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n...\n") == [{"a": 1}, {"b": 2}]
    assert read("") == read("# only a comment\n") == read("---\n") == []


def test_lines_are_those_of_the_file() -> None:
    nodes, _ = document.parse("a:\n  b:\n  - c: 1\n")
    value: Any = nodes[0].value
    assert (nodes[0].line, value["a"].value["b"].value[0].line) == (1, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x 1\nb: *x", "line 1: anchors and aliases are not allowed (write the value out)"),
        ("a: *x", "line 1: anchors and aliases are not allowed (write the value out)"),
        ("a: 1\na: 2", 'line 2: key "a" is given twice'),
        ("? [a]\n: 1", "line 1: a key must be a plain word"),
        ("? {a: 1}\n: 1", "line 1: a key must be a plain word"),
        ("a: !!python/object:os.system x", 'line 1: tag "tag:yaml.org,2002:python/object:os.system" is not allowed'),
        ("a: !!binary x", 'line 1: tag "tag:yaml.org,2002:binary" is not allowed'),
        ("[" * 60 + "]" * 60, "line 1: nested too deeply (at most 48)"),
        ("- " * 100_000, "line 1: nested too deeply (at most 48)"),
        ("x" * 600 + ": 1", "line 1: key of 600 characters (at most 512)"),
        ("a: 1\n\tb: 2", "line 2: not YAML: "),
        ("a: [1, 2", "line 2: not YAML: "),
        ("\x00", "line 1: not YAML: "),
        ("a: 1\nb: \x07", "line 2: not YAML: "),
        ("%YAML 9.9\n---\na: 1", "line 1: not YAML: "),
    ],
)  # fmt: skip
def test_refused_yaml(text: str, message: str) -> None:
    _, error = document.parse(text)
    assert error is not None
    assert told(error).startswith(message), told(error)


def test_what_precedes_an_error_is_kept() -> None:
    nodes, error = document.parse("a: 1\n---\nb: [")
    assert [plain(node) for node in nodes] == [{"a": 1}]
    assert error is not None


NO_UTF8 = "!%ED%A0%80"  # a tag that is half of a surrogate pair: an error of which libyaml's wrapper tells no line


def test_an_error_is_behind_what_could_be_read() -> None:
    nodes, errors = document.parse_all(f"---\na: 1\n--- {{b: 2}}\n---\nc: {NO_UTF8} x\n---\nd: 4\n")
    assert [plain(node) for node in nodes] == [{"a": 1}, {"b": 2}, {"d": 4}]
    assert [told(error)[:18] for error in errors] == ["line 5: not YAML: "]


@pytest.mark.parametrize("text", [f"--- {NO_UTF8}\n", "--- [\n", "--- {a: 1, a: 1}\n", "---\na: &a 1\n"])
def test_a_text_is_read_on_with_a_few_times_only(text: str) -> None:
    with mock.patch.object(document, "_parse", wraps=document._parse) as parse:
        _, errors = document.parse_all(text * 500)
    assert parse.call_count <= document.MAX_ERRORS + 1
    assert 10 <= len(errors) <= document.MAX_ERRORS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', 'line 1: key "a" is given twice'),
        ('{"items": [1,\n\n{"a": 1, "a": 2}]}', 'line 3: key "a" is given twice'),
        ('{"a": NaN}', "line 1: not JSON: NaN"),
        ('{"a": 1} {', "line 1: not JSON: "),
        ('{"items": [1 2]}', "line 1: not JSON: a comma or the end of the list was expected"),
        ('{"a": 1 "b": 2}', "line 1: not JSON: a comma or the end of the mapping was expected"),
        ('{"a" 1}', "line 1: not JSON: a colon was expected"),
        ("{1: 1}", "line 1: not JSON: a key in double quotes was expected"),
        ('{"a": 1,}', "line 1: not JSON: a key in double quotes was expected"),
        ('{"a": "\x00"}', "line 1: not JSON: "),
        ("{", "line 1: not JSON: "),
        ("[" * 60 + "]" * 60, "line 1: nested too deeply (at most 48)"),
        ("[" * 200_000, "line 1: nested too deeply (at most 48)"),
    ],
)
def test_refused_json(text: str, message: str) -> None:
    _, error = document.parse(text, is_json=True)
    assert error is not None
    assert told(error)[: len(message)] == message


DEEP = '{"a": [0, {"b": ' + "[" * 50 + "]" * 50 + "}]}"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a": 1, "a": 2}', ""),
        ('{"spec": {"x": [0, {"b": 1, "b": 2}]}}', "spec.x[1]"),
        ('{"items": [{}, {"spec": {"b": 1, "b": 2}}]}', "items[1].spec"),
        ('{"spec": {"x": [0, NaN]}}', "spec.x[1]"),
        (DEEP, "a[1].b" + "[0]" * 45),
        ('{"spec": {"x": [' + "0," * 100_001 + "0]}}", "spec.x"),
        ('{"spec": {"x": {' + "".join(f'"{i}":0,' for i in range(100_001)) + '"y": 0}}}', "spec.x"),
        ('{"spec": {"x": [0, 1 2]}}', "spec"),  # and the column
        ('{"spec": ' + "[" * 200_000, "spec"),
        ('{"spec": {"x": "' + "y" * (2 << 20) + '", "z": {"b": 1, "b": 2}}}', "spec"),
    ],
)
def test_what_is_refused_of_json_has_a_path(text: str, path: str) -> None:
    _, error = document.parse(text, is_json=True)
    assert error is not None and error.path == path


def test_what_is_no_json_has_a_column() -> None:
    for text, column in (('{"a": [1,\n 2 3]}', 4), ('{"a" 1}', 6)):
        _, error = document.parse(text, is_json=True)
        assert error is not None and str(error).endswith(f"(column {column})")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), json_values, min_size=1, max_size=4))
def test_json_is_read_as_json_reads_it(value: Any) -> None:
    assert read(json.dumps(value), is_json=True) == [value]


@given(st.text(max_size=200))
def test_no_text_raises(text: str) -> None:
    document.parse(text)
    document.parse(text, is_json=True)
