"""A node's proxy at work beside its agent: `with Mesh(node, ..., args=["--proxy"]) as mesh, proxy(node, mesh):`."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tests.hosts.mesh import ROOT, Mesh
from tests.hosts.node import Node
from tests.hosts.wait import PATIENCE, wait_until


@contextlib.contextmanager
def proxy(node: Node, mesh: Mesh, *args: str) -> Iterator[subprocess.Popen[Any]]:
    """Run `sockmesh proxy` and end it; it takes clients when this begins."""
    log = node.directory / "proxy.log"
    command = [sys.executable, "-m", "control.cli.main", "proxy", "--run-dir", str(mesh.run_dir), *args]
    with log.open("ab") as out:
        process = node.popen(command, stdout=out, stderr=out, cwd=ROOT)
    try:
        netns = str(mesh.run_dir / "proxy.netns")

        def serves() -> bool:
            assert process.poll() is None, log.read_text()
            shown = node.run(["nsenter", f"--net={netns}", "ss", "-Hltnp"]).stdout.splitlines()
            # The master holds each socket from the start, its worker joins it when it has heard what is in force.
            holders = [[int(pid) for pid in re.findall(r"pid=(\d+)", line)] for line in shown]
            return bool(shown) and all(process.pid in map(_parent, pids) for pids in holders)

        wait_until(serves, "the proxy serves", 20)
        yield process
    except BaseException:
        print(log.read_text(), file=sys.stderr)
        raise
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30 * PATIENCE)


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0
