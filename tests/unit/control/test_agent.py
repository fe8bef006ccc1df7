"""The loop outlives what goes wrong in one of its steps."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from control.agent import agent, unfulfilled
from control.source import directory, unserved
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

    book = SimpleNamespace(drain=fails, reset_stuck=fails, reset_again=fails, reset_cut_off=fails, age=fails)
    whole.ledger, whole._asked, whole._ending = book, False, False
    whole.opts = SimpleNamespace(flow_interval=0.0)
    whole._bell = SimpleNamespace(wait=lambda seconds: False)
    whole._take_trial = whole._is_due = fails
    cast(agent.Agent, whole)._loop()
    assert len(turns) > 20


def test_selectors_that_no_workload_fulfils_are_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A policy may wait for pods that are yet to come, so that is a warning; of another node's pod it is none."""
    pod = "kind: Workload\napiVersion: sockmesh.io/v1\nmetadata: {name: %s, labels: {app: %s}}\n"
    pod += "spec: {ips: [%s], node: elsewhere}\n---\n"
    policy = (
        "kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\nmetadata: {name: p}\n"
        "spec: {endpointSelector: {matchLabels: {app: db}}, ingress: [{fromEndpoints: [{matchLabels: {app: %s}}]}]}\n"
    )
    text = pod % ("db", "db", "10.0.0.1") + pod % ("web", "web", "10.0.0.2")
    file, found, snapshot = tmp_path / "x.yaml", unfulfilled.Unfulfilled(), None

    def warned(caller: str) -> list[str]:
        nonlocal snapshot
        file.write_text(text + policy % caller)
        snapshot = directory.load(tmp_path, snapshot).snapshot
        caplog.clear()
        for _ in range(2):
            found.look(snapshot)
        assert set(caplog.messages) <= set(found.warnings)
        return caplog.messages

    found.look(None)
    assert warned("web") == []
    (said,) = warned("webx")
    assert said.startswith("x.yaml:") and "no workload of these files has app=webx " in said
    assert warned("webx # still") == [] and len(found.warnings) == 1
    assert warned("web") == [] and not found.warnings


def test_a_rule_that_needs_the_proxy_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """All that it allows is refused: whoever has put it in force must not learn that from calls that fail."""
    (tmp_path / "x.yaml").write_text(
        "kind: CiliumNetworkPolicy\napiVersion: cilium.io/v2\nmetadata: {name: p, namespace: shop}\n"
        "spec:\n  endpointSelector: {}\n  ingress:\n"
        "  - toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]\n"
    )
    found, snapshot = unfulfilled.Unfulfilled(), None
    for _ in range(2):
        snapshot = directory.load(tmp_path, snapshot).snapshot
        found.look(snapshot)
    (said,) = caplog.messages
    assert said.startswith("x.yaml:7: CiliumNetworkPolicy shop/p spec.ingress[0]: rules.http needs the node proxy: ")
    assert said.endswith(f": what it allows is refused ({unserved.REMEDY})") and found.warnings == (said,)
    served = unfulfilled.Unfulfilled(has_proxy=True)
    served.look(snapshot)
    assert served.warnings == ()
