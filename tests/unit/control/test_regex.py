"""Expressions mean what they mean in RE2, or are refused."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from control.policy import automaton, regex


@pytest.mark.parametrize(
    ("text", "matching", "other"),
    [
        ("", ["x", ""], []),
        ("GET|HEAD", ["GET", "HEAD"], ["GETHEAD", "get", "GET "]),
        ("/api/v[0-9]+/.*", ["/api/v12/", "/api/v1/x/y"], ["/api/v/", "x/api/v1/"]),
        ("foo.bar.com", ["foo.bar.com", "fooXbarXcom"], ["foo.bar.com.", "foo..bar.com"]),
        ("/[[:alpha:]_-]+", ["/a_b-c"], ["/a1", "/:]", "/"]),
        ("[[:digit:][:upper:]]{2}", ["A1", "11"], ["a1", "A"]),
        ("[^[:space:]]+", ["ab"], ["a b"]),
        ("[]a]+", ["]a]"], ["b"]),
        ("[a\\]b]", ["]"], ["\\"]),
        ("[a-c.-]+", ["b.-"], ["d"]),
        ("[a&&b||c~~[-]+", ["&|~[-", "a"], ["e"]),
        ("(?i)get", ["GET", "get"], ["gett"]),
        ("(?i:g)et", ["Get"], ["GET"]),
        ("(?P<v>a)(?<w>b)", ["ab"], ["a"]),
        (r"\Qa.b*\E+", ["a.b*", "a.b**"], ["axb"]),
        (r"\x41\x{42}\.\/\-", ["AB./-"], ["AB/-"]),
        (r"^/\d+\z", ["/12"], ["/x"]),
        (r"a{2}b{1,}c{0,2}?", ["aab", "aabbcc"], ["ab", "aabccc"]),
        ("a{,2}", ["a{,2}"], ["", "aa"]),
        ("a{x}{", ["a{x}{"], []),
        ("(a|)(b*)*", ["", "abb"], ["c"]),
        ("(?i)[^[:upper:]]", ["1", "é"], ["A", "a", ""]),
        ("(?s:.)(?i:(b.)).", ["\nBxy", "abxy"], ["\nb\ny", "abx\n"]),
        (r"\s|[[:space:]]x", [" ", "\n", "\vx"], ["\v"]),
        ("a$\\n", [], ["a\n", "a"]),
        ("(?m)a$\\n^b", ["a\nb"], ["ab", "a\n"]),
        (r"\B", [""], ["a"]),
        (r"a\b.\B.", ["a-/"], ["a-b", "ab-"]),
        ("a{0}b", ["b"], ["ab"]),
    ],
)  # fmt: skip
def test_what_they_match(text: str, matching: list[str], other: list[str]) -> None:
    if text:
        assert [each for each in (*matching, *other) if regex.compile(text).fullmatch(each)] == matching


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (r"(a)\1", "back-references are not allowed"),
        (r"(?P<a>b)(?P=a)", "back-references are not allowed"),
        ("(?=a)", "lookahead is not allowed"),
        ("(?!a)", "lookahead is not allowed"),
        ("(?<=a)", "lookbehind is not allowed"),
        ("(?<!a)", "lookbehind is not allowed"),
        ("(?>a)", "atomic groups are not allowed"),
        ("(a)?(?(1)b|c)", "conditionals are not allowed"),
        ("a++", "possessive quantifiers are not allowed"),
        ("a?+", "possessive quantifiers are not allowed"),
        ("a{2}+", "possessive quantifiers are not allowed"),
        ("a**", "is no regular expression: nothing to repeat, or repeated twice"),
        ("*a", "is no regular expression: nothing to repeat, or repeated twice"),
        ("(+)", "is no regular expression: nothing to repeat, or repeated twice"),
        ("a|?", "is no regular expression: nothing to repeat, or repeated twice"),
        ("a{1001}", "repeats more than 1000 times"),
        ("(a{100}){11}", "repeats more than 1000 times"),
        ("((a{9}b){9}){99999999999}", "repeats more than 1000 times"),
        ("(a|b){999}" * 3, "needs 5994 states (at most 4000; what is repeated counts each time)"),
        (r"(\b|){999}" * 3, "needs 5994 states (at most 4000; what is repeated counts each time)"),
        (r"\b*", "is no regular expression: nothing to repeat, or repeated twice"),
        ("$?", "is no regular expression: nothing to repeat, or repeated twice"),
        ("(?P<a>b)(?<a>c)", "is no regular expression: two groups are named a"),
        ("a{3,2}", "is no regular expression: min repeat greater than max repeat"),
        ("(a", 'is no regular expression: ")" is missing'),
        ("a)", 'is no regular expression: "(" is missing'),
        ("[a", 'is no regular expression: "]" is missing'),
        ("[]", 'is no regular expression: "]" is missing'),
        ("[[:nosuch:]]", "[:nosuch:] is unknown ("),
        ("[b-a]", "a range ends before it begins"),
        (r"[a-\d]", "a range cannot end at a class"),
        (r"[\1]", "back-references are not allowed"),
        (r"\pL", r"\p is not allowed"),
        (r"\Z", r"\Z is not allowed"),
        ("\\", "\\ is not allowed"),
        ("a(?i)b", "(?i) is not allowed (groups are (...), (?:...), (?i:...), (?P<name>...))"),
        ("(?#a)", "(?#a is not allowed (groups are"),
        ("(?x:a)", "(?x: is not allowed (groups are"),
        ("ä", "must be of printable ASCII"),
        (r"\x{e4}", "must be of ASCII"),
        ("a\nb", "must be of printable ASCII"),
        ("a" * 1025, "is 1025 characters long (at most 1024)"),
        ("(" * 51 + ")" * 51, "is nested too deeply (at most 50)"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        regex.compile(text)
    assert str(caught.value).startswith(message)


@given(st.text(st.sampled_from("ab01.-^$|()[]{}*+?\\:,=!<>PQEdwsxziA&~#/ "), max_size=16))
@example("[[:alpha:]")
@example("\\Q\\E*")
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        found = regex.compile(text)
    except ValueError as error:
        assert str(error)
    else:
        assert isinstance(found, automaton.Automaton)
        found.fullmatch("ab01")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20))
def test_an_escaped_text_matches_itself_only(text: str) -> None:
    escaped = "".join(c if c.isalnum() else "\\" + c for c in text)
    assert regex.compile(escaped).fullmatch(text)
    assert not regex.compile(escaped).fullmatch(text + "a")
