"""An agent at work on a test node: a directory of YAML, a real `sockmesh agent`, and ways to look at what it does.

with Node("n1") as node:
    web, client = node.pod("web"), node.pod("client")
    with Mesh(node) as mesh:
        mesh.apply("deny", {"apiVersion": "networking.k8s.io/v1", ...})
        mesh.wait_flow(lambda flow: flow["verdict"] == "DROPPED")
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import yaml

from control import admin_client
from control.agent import trial
from loader import maps
from loader.errors import AgentUnavailable
from tests.hosts.node import Node
from tests.hosts.pod import Pod
from tests.hosts.wait import PATIENCE, wait_until

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


PROGRAMS = ROOT / "tests/.build/programs"  # compiled once for all


class Mesh:
    """Enrols every pod of the node (those in `pods`, if given) and runs an agent until the end of the `with` block.

    Stopping leaves hooks and maps in force, as for users; the node's end takes them away. `policies` are documents that
    are there from the start. `self_test` is waited for, unless `await_self_test` is off; without it the short cut stays
    off, unless `force_acceleration` says that it is safe on this kernel. `config`, `log` and `flow_log` are paths.
    """

    def __init__(
        self,
        node: Node,
        policies: Sequence[Json] = (),
        pods: Sequence[Pod] | None = None,
        args: Sequence[str] = (),
        self_test: bool = False,
        force_acceleration: bool = True,
        await_self_test: bool = True,
    ) -> None:
        self.node = node
        self.config = node.directory / "config"
        self.run_dir = node.directory / "run"
        self.log = node.directory / "agent.log"
        self.flow_log = node.directory / "flows.json"
        self.agent: subprocess.Popen[Any] | None = None
        self._pods = pods
        self._policies = tuple(policies)
        self.args = tuple(args)  # of the next start
        self._self_test, self._force, self._await = self_test, force_acceleration, await_self_test
        self._read, self._inode = 0, 0  # how far the flow log has been read, and which file that was
        self._seen: list[Json] = []

    def __enter__(self) -> Self:
        self.config.mkdir(exist_ok=True)
        for pod in self.node.pods.values() if self._pods is None else self._pods:
            self.apply(f"workload-{pod.name}", pod.workload_yaml())
        for number, policy in enumerate(self._policies):
            self.apply(f"policy-{number}", policy)
        self.start()
        return self

    def start(self) -> None:
        """Start an agent and return when it answers."""
        command = [
            sys.executable, "-m", "control.cli.main", "agent", "--config", str(self.config), "--node", self.node.name,
            "--run-dir", str(self.run_dir), "--pin-dir", str(self.node.pins), "--flow-log", str(self.flow_log),
            "--program-cache", str(PROGRAMS),
            "--metrics", "127.0.0.1:9965", "--self-test" if self._self_test else "--no-self-test", *self.args,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            agent = self.node.popen(command, stdout=log, stderr=log, cwd=ROOT)
        self.agent = agent

        def up() -> bool:
            if agent.poll() is not None:
                raise AssertionError(f"the agent ended with {agent.returncode}: {self.log.read_text()}")
            try:
                return bool(self.call("status")["pid"] == agent.pid)
            except AgentUnavailable:
                return False

        wait_until(up, "the agent answers", 120)
        if self._self_test and self._await:
            running = trial.RUNNING
            wait_until(lambda: self.call("status")["acceleration_off"] != running, "the self-test is done", 120)
        if self._force and not self._self_test:
            with self.open_maps() as opened:
                opened.config.put_at(0, dataclasses.replace(opened.config.get_at(0), self_test=1))

    def apply(self, name: str, *documents: Json) -> None:
        """Write a file of documents in one step; the agent takes it up within a second."""
        draft = self.config / f".{name}.new"
        draft.write_text(yaml.safe_dump_all(documents))
        draft.rename(self.config / f"{name}.yaml")

    def delete(self, name: str) -> None:
        (self.config / f"{name}.yaml").unlink()

    def settle(self, timeout: float = 10.0) -> None:
        """Return when the agent has taken up what the directory says now."""
        self.call("reconcile", timeout=timeout)

    def call(self, method: str, timeout: float = 30.0, **params: Any) -> Json:
        """Ask the agent over its socket."""
        return admin_client.call(str(self.run_dir / "agent.sock"), method, params, timeout * PATIENCE)

    def open_maps(self) -> maps.Maps:
        """Open the pinned maps; close them, or use them in a `with` block."""
        return maps.open_all(self.node.pins)

    def flows(self) -> list[Json]:
        """Return every flow record so far (the inner `flow` objects), oldest first."""
        while self.flow_log.exists():
            with self.flow_log.open("rb") as file:
                inode = os.fstat(file.fileno()).st_ino
                rotated = self.flow_log.with_name(self.flow_log.name + ".1")
                if self._inode not in (0, inode) and rotated.exists() and rotated.stat().st_ino == self._inode:
                    with rotated.open("rb") as before:  # its end has not been read yet
                        self._take(before)
                if inode != self._inode:
                    self._inode, self._read = inode, 0
                self._take(file)
                if self.flow_log.stat().st_ino == inode:
                    break
        return self._seen

    def _take(self, file: BinaryIO) -> None:
        file.seek(self._read)
        for line in file:
            if not line.endswith(b"\n"):
                break
            self._read += len(line)
            response = json.loads(line)
            if "flow" in response:
                self._seen.append(response["flow"])

    def wait_flow(
        self, wanted: Callable[[Json], object], what: str = "a flow record", timeout: float = 10.0, since: int = 0
    ) -> Json:
        """Return the first flow record that `wanted` accepts, waiting for it; the first `since` ones do not count."""
        return wait_until(lambda: next((f for f in self.flows()[since:] if wanted(f)), None), what, timeout) or {}

    def kill(self) -> None:
        """kill -9: what is pinned stays in force."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the agent in order; what is pinned stays in force."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.agent is not None:
            self.agent.send_signal(number)
            self.agent.wait(timeout=30 * PATIENCE)
            self.agent = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.agent is not None and self.agent.poll() is None:
            self._end(signal.SIGTERM)
        if error is not None and self.log.exists():
            print(f"--- agent of {self.node.name}\n{self.log.read_text()[-20000:]}", file=sys.stderr)
