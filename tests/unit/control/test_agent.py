"""The loop outlives what goes wrong in one of its steps."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from control.agent import agent
from loader.errors import MapFull


def made() -> Any:
    whole = agent.Agent.__new__(agent.Agent)
    whole._failed = {}
    return whole


@pytest.mark.parametrize("error", [MapFull("full"), OSError(5, "gone"), ValueError("embedded null byte"), KeyError(7)])
def test_a_step_that_fails_is_logged_once_and_tried_again(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    guarded, calls = made(), []

    def step() -> str:
        calls.append(1)
        if len(calls) in (1, 2, 4):
            raise error
        return "done"

    assert [guarded._guard(step) for _ in range(5)] == [None, None, "done", None, "done"]
    assert len(caplog.records) == 2  # it succeeded in between
    assert {record.levelno for record in caplog.records} == {logging.ERROR}
    ours = not isinstance(error, (MapFull, OSError))
    assert all(bool(record.exc_info) == ours for record in caplog.records)


def test_no_step_of_the_loop_ends_it() -> None:
    whole, turns = made(), []

    def fails() -> int:
        turns.append(1)
        whole._ending = len(turns) > 20
        raise ValueError("embedded null byte")

    book = SimpleNamespace(drain=fails, reset_stuck=fails, reset_again=fails, age=fails)
    whole.ledger, whole._asked, whole._ending = book, False, False
    whole.opts = SimpleNamespace(flow_interval=0.0)
    whole._bell = SimpleNamespace(wait=lambda seconds: False)
    whole._take_trial = whole._is_due = fails
    cast(agent.Agent, whole)._loop()
    assert len(turns) > 20
