"""A program inside a pod that does what a test tells it, and keeps its sockets in between.

puppet = Puppet(pod)
puppet.do("s = socket.create_connection((ip, 80))", ip=server.ip)
assert puppet.do("result = s.recv(10).hex()") == ""
"""

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.hosts import Host
from tests.hosts.wait import PATIENCE

ROOT = Path(__file__).parents[2]


class Puppet:
    """One program, ended with its pod at the latest. Orders are carried out one after the other."""

    def __init__(self, host: Host, ears: bool = False) -> None:
        self.host = host
        self._child = host.popen(
            [sys.executable, "-S", "-m", "tests.kernel.puppet_program"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._unread = b""
        self._unwanted = 0
        if ears:
            self.start("listen_to_all()")
            self._unwanted = 1

    @property
    def pid(self) -> int:
        return self._child.pid

    def start(self, code: str, **args: Any) -> None:
        """Give an order; its answer waits for `answer`."""
        assert self._child.stdin is not None
        order = json.dumps({"code": code, "args": args}).encode() + b"\n"
        while order:
            order = order[self._child.stdin.write(order) or 0 :]

    def answer(self, timeout: float = 20.0) -> Any:
        """Return the `result` of the oldest order; an OSError of its code is raised here, too."""
        deadline = time.monotonic() + timeout * PATIENCE
        for _ in range(self._unwanted):
            self._line(deadline)
        self._unwanted = 0
        said = json.loads(self._line(deadline))
        if "errno" in said:
            raise OSError(said["errno"], said["error"])
        if "error" in said:
            raise AssertionError(f"the puppet in {self.host.name}: {said['error']}")
        return said["result"]

    def _line(self, deadline: float) -> bytes:
        assert self._child.stdout is not None
        while b"\n" not in self._unread:
            if not select.select([self._child.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError(f"the puppet in {self.host.name} did not answer in time")
            got = os.read(self._child.stdout.fileno(), 1 << 16)
            if not got:
                raise AssertionError(f"the puppet in {self.host.name} ended with {self._child.wait()}")
            self._unread += got
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def do(self, code: str, timeout: float = 20.0, **args: Any) -> Any:
        """Give an order and return its answer."""
        self.start(code, **args)
        return self.answer(timeout)
