"""What the maps hold is known, or read again before anything is built on it."""

import threading
from typing import Any

import pytest

from control import compile as compiler
from control.agent import apply, held, hooks, once
from loader import abi

EMPTY: dict[str, Any] = {name: {} for name in compiler.MAP_NAMES}


class Kernel:
    """Maps that refuse what they are told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses_puts = self.refuses_reads = False
        self.done: list[str] = []
        monkeypatch.setattr(apply, "current", self.current)
        monkeypatch.setattr(apply, "apply", self.apply)
        monkeypatch.setattr(apply, "forgive", self.forgive)
        monkeypatch.setattr(apply, "bump", lambda *_: self.done.append("bump"))
        maps: Any = None
        self.held = held.Held(maps, threading.Lock())

    def current(self, maps: Any) -> Any:
        if self.refuses_reads:
            raise OSError("no")
        self.done.append("read")
        return dict(EMPTY)

    def apply(self, maps: Any, have: Any, want: Any, forget: Any, hang: Any) -> bool:
        if self.refuses_puts:
            raise OSError("no")
        hang()
        self.done.append("next edition")
        return True

    def forgive(self, *_: object) -> dict[int, abi.Endpoint]:
        self.done.append("forgive")
        return {7: abi.Endpoint.blank()}

    def attach(self) -> hooks.Outcome:
        self.done.append("attach")
        return hooks.Outcome()


def test_hooks_hang_before_the_next_edition_counts_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    changed, hung = kernel.held.put(compiler.Desired(EMPTY), kernel.attach)
    hung.result()
    assert kernel.held.gone == {7: abi.Endpoint.blank()}
    assert changed and kernel.done == ["read", "forgive", "attach", "next edition", "bump"]


def test_what_stopped_half_way_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.refuses_puts = kernel.refuses_reads = True
    for refused in (lambda: kernel.held.put(compiler.Desired(EMPTY), kernel.attach), kernel.held.make_sure):
        with pytest.raises(OSError, match="no"):
            refused()
    kernel.refuses_reads = False
    for _ in range(2):
        kernel.held.make_sure()
    assert kernel.done == ["read", "read"]


def test_a_step_that_fails_is_told_of_when_its_result_is_asked_for() -> None:
    tried: list[int] = []

    def fails() -> None:
        tried.append(1)
        raise ValueError("no")

    step = once.Once(fails)
    step.run()
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            step.result()
    assert tried == [1]
