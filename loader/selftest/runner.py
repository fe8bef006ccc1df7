"""The agent's side of the self-test: a child process does the work, so that the agent's own stays as it is."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

from loader.mesh import Mesh
from loader.selftest import reserved
from loader.selftest.cases import NAMES

TIMEOUT_S = 120.0  # nobody waits for it, and a node that starts has much else to do
OK = "ok"


def run(mesh: Mesh, timeout: float = TIMEOUT_S, ended: threading.Event | None = None) -> dict[str, str]:
    """Try the short cut; return each case with "ok" or what went wrong, and leave nothing behind.

    Never raises, takes no longer than timeout, nor much longer than until somebody sets `ended`.
    """
    results = dict.fromkeys(NAMES, "")
    failure = ""

    def take(line: str) -> None:
        nonlocal failure
        message = json.loads(line)
        if "case" in message:
            results[message["case"]] = message["result"]
        else:
            failure = message["error"]

    try:
        how = _child(str(mesh.pin_dir), timeout, take, ended or threading.Event())
    except (OSError, ValueError, KeyError) as error:
        how = f"the self-test did not run: {error}"
    reserved.sweep(mesh.maps)
    return {case: result or f"not done: {failure or how}" for case, result in results.items()}


def _child(pin_dir: str, timeout: float, take: Callable[[str], None], ended: threading.Event) -> str:
    """Run the child and hand over its lines as they come; return how it ended."""
    child = subprocess.Popen(
        [sys.executable, "-m", "loader.selftest", pin_dir, "--case-timeout", f"{timeout / 3:g}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}, start_new_session=True,
    )  # fmt: skip
    assert child.stdout is not None and child.stderr is not None
    is_late = False

    def stop() -> None:
        os.killpg(child.pid, signal.SIGKILL)  # a session of its own: only the child and what it started

    def watch() -> None:
        nonlocal is_late
        is_late = not ended.wait(timeout)
        if child.returncode is None:
            stop()

    clock = threading.Thread(target=watch, name="selftest-clock", daemon=True)
    clock.start()
    try:
        for line in child.stdout:
            take(line)
        words = child.stderr.read().strip().splitlines()
        child.wait()
    finally:
        if child.poll() is None:
            stop()
            child.wait()
        ended.set()
        clock.join()
        child.stdout.close()
        child.stderr.close()
    reserved.remove_cgroup_of(child.pid)
    if is_late:
        return f"not finished after {timeout:g} s"
    return words[-1] if words else f"the self-test ended with status {child.returncode}"
