"""Rules for requests that are compared no longer than is worth it."""

import time

import pytest

from control import model
from control.analysis.change import expressions, narrower
from control.analysis.change.written import Item, Place
from control.policy import inclusion
from loader import abi

FAMILIES = {
    "too many states": "({}|" + "|".join(f"x{number}" for number in range(40)) + "){{6}}",
    "tables": "/{}" + r"(a?\b){{100}}",
    "steps": ".*{}a.{{12}}",
    "plain": "/{}",
}


def item(path: str, first: int) -> Item:
    port = model.PortSpec(abi.Proto.TCP, first, 80)
    return Item(Place(False, model.Selector(), abi.Direction.INGRESS, None, port), False, model.HttpRule(path=path))


@pytest.mark.parametrize("family", FAMILIES)
def test_expressions_that_take_long_are_not_proved(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def compare(narrow: str, wide: str) -> tuple[bool, int]:
        asked.append(1)
        return is_within(narrow, wide)

    is_within = inclusion.is_within
    monkeypatch.setattr(inclusion, "is_within", compare)
    old, new = (
        [FAMILIES[family].format(f"{who}{number}") for number in range(count)]
        for who, count in (("o", 256), ("n", 500))
    )
    before = narrower.Before(item(path, 80 - number // 64) for number, path in enumerate(old))
    began = time.monotonic()
    assert not any(before.let(item(path, 80)) for path in new)
    assert len(asked) < 256 * 500 / 2
    assert time.monotonic() - began < 10


def test_what_is_not_compared_any_more_is_not_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither that one is within the other, nor that they do not meet; what is known already is."""

    def rule(path: str) -> model.HttpRule:
        return model.HttpRule(path=path)

    def known() -> tuple[bool, bool, bool]:
        covers = compared.covers(rule("/.*"), rule("/a"))
        return covers, compared.covers(rule("/.*"), rule("/b")), not compared.may_meet(rule("/a"), rule("/b"))

    compared = expressions.Compared()
    assert known() == (True, True, True)
    for name in ("MOST_WORK", "MOST_PAIRS"):
        compared = expressions.Compared()
        compared.covers(rule("/.*"), rule("/a"))
        monkeypatch.setattr(expressions, name, 0)
        assert known() == (True, False, False)
        monkeypatch.undo()
