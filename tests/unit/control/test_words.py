"""Rules in words: everything that they ask is in them, in short."""

import pytest

from control.model import HeaderMatch, HttpRule, L7Rules, Mismatch
from control.policy import words


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (HeaderMatch("X"), "X: *"),
        (HeaderMatch("X", "1"), "X: 1"),
        (HeaderMatch("X", "1", Mismatch.REPLACE), "X: 1 (else REPLACE)"),
        (HeaderMatch("X", None, Mismatch.LOG), "X: * (else LOG)"),
        (HeaderMatch("X", secret="shop/key"), "X: secret shop/key"),
        (HeaderMatch("X", "s3cret", Mismatch.ADD, "shop/key"), "X: secret shop/key (else ADD)"),
    ],
)
def test_of_a_header_the_value_the_secret_and_the_mismatch_are_told(header: HeaderMatch, said: str) -> None:
    assert words.header_word(header) == said
    assert words.l7_word(L7Rules(http=(HttpRule("GET", headers=(header,)),))) == f"HTTP GET {said}"
