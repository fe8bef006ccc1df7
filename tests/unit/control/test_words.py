"""Rules in words: everything that they ask is in them, in short."""

import pytest

from control import model
from control.model import HeaderMatch, HttpRule, L7Rules, Mismatch, Operator
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


def test_of_long_lists_a_few_are_told_and_how_many_more() -> None:
    values = tuple(map(str, range(200)))
    selector = model.Selector(tuple(model.Requirement("any", f"k{i}", Operator.IN, values) for i in range(100)))
    few = " ".join(f"k{i} in (0, 1, 2, 3, 196 more)" for i in range(4))
    assert words.brief(selector) == words.whom([selector]) == f"{few} 96 more"
    assert words.brief(model.NodePeer(selector)) == f"nodes {few} 96 more"
    assert words.brief(model.ServicePeer("n", selector=selector)) == f"Service n/{few} 96 more"
    assert words.peer_word(selector).endswith("198, 199)")  # where two must not read alike
    whole = model.Prefix(4, 0, 0)
    cut = model.CidrPeer(whole, (whole,) * 6)
    assert words.brief(cut) == f"0.0.0.0/0 except {', '.join(['0.0.0.0/0'] * 4)}, 2 more"
    assert (words.whom(None), words.whom(()), words.ports(None), words.ports(())) == ("anybody", "nobody", "any", "")
