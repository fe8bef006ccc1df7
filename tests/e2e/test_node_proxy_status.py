"""What a monitor sees of the node proxy: that it is missed, that it is there, and how many work in it."""

import json
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.e2e.test_interception import rules
from tests.hosts import Mesh, Node
from tests.hosts.mesh import ROOT
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e
CLI = [sys.executable, "-m", "control.cli.main"]


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Node("proxystatus") as node:
        node.pod("client")
        node.pod("server")
        with Mesh(node, [rules("ingress", "server", "client")], args=["--proxy"]) as mesh:
            yield mesh


@contextmanager
def proxy(mesh: Mesh, workers: int) -> Iterator[None]:
    command = [*CLI, "proxy", "--run-dir", str(mesh.run_dir), "--workers", str(workers)]
    with (mesh.node.directory / "proxy.log").open("ab") as log:
        process = mesh.node.popen(command, stdout=log, stderr=log, cwd=ROOT)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=10)


def status(mesh: Mesh) -> dict[str, Any]:
    where = ["--run-dir", str(mesh.run_dir), "--pin-dir", str(mesh.node.pins)]
    found: dict[str, Any] = json.loads(
        mesh.node.run([*CLI, "status", *where, "-o", "json"], check=False, cwd=ROOT).stdout
    )
    return found


def gauges(mesh: Mesh) -> dict[str, float]:
    text = mesh.node.run(["curl", "-sS", "127.0.0.1:9965/metrics"]).stdout
    return {name: float(value) for name, value in re.findall(r"^sockmesh_proxy_(\w+) (\S+)$", text, re.MULTILINE)}


def missed(mesh: Mesh) -> list[str]:
    return [problem for problem in status(mesh)["problems"] if problem.startswith("no node proxy is connected: ")]


def test_a_proxy_comes_and_goes(mesh: Mesh) -> None:
    assert len(missed(mesh)) == 1
    assert status(mesh)["agent"]["warnings"] == []  # its rules are served, only not now
    with proxy(mesh, 2):
        wait_until(lambda: status(mesh)["proxy"]["workers"] == 2, "the workers are told of", 20)
        found = status(mesh)
        entries = found["proxy"]["entries"]
        assert found["proxy"] == {"on": True, "entries": entries, "connected": 1, "workers": 2, "lost": 0} and entries
        assert not missed(mesh)
        assert {name: gauges(mesh)[name] for name in ("enabled", "connected", "workers")} == {
            "enabled": 1, "connected": 1, "workers": 2,
        }  # fmt: skip
    wait_until(lambda: missed(mesh), "the proxy is missed", 20)
    assert (gauges(mesh)["connected"], gauges(mesh)["workers"]) == (0, 0)


def test_an_agent_without_it_is_not_taken_for_none() -> None:
    """The module's last: another agent, which leads nothing to a proxy."""
    with Node("without") as node:
        node.pod("client")
        command = [*CLI, "proxy", "--run-dir", str(node.directory / "run")]
        none = node.run(command, check=False, cwd=ROOT)
        with Mesh(node) as mesh:
            found = node.run([*CLI, "proxy", "--run-dir", str(mesh.run_dir)], check=False, cwd=ROOT)
    assert none.returncode == 1 and "no agent answers there: start `sockmesh agent --proxy` first" in none.stderr
    assert found.returncode == 1 and "the agent there runs without --proxy: start it again with it" in found.stderr
