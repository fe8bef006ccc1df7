"""An agent that is told to end while it starts ends in order: nothing that this start made stays."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[2]


def starting(node: Node, directory: Path) -> "subprocess.Popen[Any]":
    """Return an agent that compiles."""
    (directory / "config").mkdir(exist_ok=True)
    made = node.popen(
        [sys.executable, "-m", "control.cli.main", "agent", "--config", str(directory / "config"),
         "--run-dir", str(directory / "run"), "--pin-dir", str(node.pins), "--metrics", "", "--no-self-test"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    staged = node.pins / "staging" / "from_pod"
    wait_until(staged.exists, "it compiles", 60)
    return made


def compilers(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in tasks for child in file.read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_first_start_leaves_nothing(number: signal.Signals) -> None:
    with Node("ended") as node:
        agent = starting(node, node.directory)
        children = compilers(agent.pid)
        assert children
        agent.send_signal(signal.SIGHUP)  # which is for later
        agent.send_signal(number)
        said = agent.communicate(timeout=20 * PATIENCE)[1]
        assert agent.returncode == 0 and "nothing was put in force" in said, said
        assert not node.pins.exists()
        assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_one_that_was_to_replace_programs_leaves_those_in_force() -> None:
    with Node("ended") as node:
        node.pod("one")
        with Mesh(node) as mesh:
            mesh.stop()
            (mesh.run_dir / "programs.sha256").write_text("of another version")
            before = {path: path.stat().st_ino for path in node.pins.rglob("*")}
            agent = starting(node, node.directory)
            agent.terminate()
            said = agent.communicate(timeout=20 * PATIENCE)[1]
            assert agent.returncode == 0 and "nothing was put in force" in said, said
            assert {path: path.stat().st_ino for path in node.pins.rglob("*")} == before
            mesh.start()
            assert mesh.call("status")["problems"] == []
