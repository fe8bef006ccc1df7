"""`sockmesh uninstall --pins`: refused while it would hurt or miss something, and then whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from loader import mounts
from loader.selftest import reserved
from tests.hosts import Mesh, Node

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
NOBODY_IN = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "closed", "namespace": "default"},
    "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]},
}


def test_a_running_agent_is_never_uninstalled_and_a_stopped_one_whole() -> None:
    with Node("uninstall") as node:
        web, guest = node.pod("web"), node.pod("guest")
        with Mesh(node, policies=[NOBODY_IN], self_test=True) as mesh:
            places = ["--pin-dir", str(node.pins), "--run-dir", str(mesh.run_dir)]
            command = [sys.executable, "-m", "control.cli.main", "uninstall", *places]

            def uninstall(*words: str) -> subprocess.CompletedProcess[str]:
                return node.run([*command, *words], check=False, cwd=ROOT, timeout=60)

            assert guest.run(["ping", "-c1", "-W1", web.ip], check=False).returncode != 0
            unsure = uninstall()
            assert unsure.returncode == 2 and "give --pins to confirm" in unsure.stderr
            early = uninstall("--pins")
            assert early.returncode == 1 and mesh.agent
            told = f"the agent (pid {mesh.agent.pid}) still runs: stop it first\n"
            assert early.stderr == f"sockmesh: {mesh.run_dir}: {told}"
            beside = uninstall("--pins", "--run-dir", str(mesh.run_dir / "elsewhere"))
            assert (beside.returncode, beside.stderr) == (1, f"sockmesh: {node.pins}: {told}")
            mesh.stop()
            assert (mesh.run_dir / "selftest.json").exists()
            elsewhere = subprocess.run(
                [*command, "--pins"], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
            )
            assert elsewhere.returncode == 1 and "is in this network namespace" in elsewhere.stderr, elsewhere
            assert guest.run(["ping", "-c1", "-W1", web.ip], check=False).returncode != 0

            ended = subprocess.Popen(["true"])
            ended.wait()
            root = mounts.cgroup2()
            assert root
            of_a_killed_self_test = root / f"{reserved.CGROUP_PREFIX}{ended.pid}"
            of_a_killed_self_test.mkdir()
            done = uninstall("--pins")
            assert not of_a_killed_self_test.exists()
            assert done.returncode == 0 and "removed: hooks" in done.stdout, done
            assert not node.pins.exists() and not mesh.run_dir.exists()
            shown = [
                node.run(["tc", "filter", "show", "dev", web.interface, way]).stdout for way in ("ingress", "egress")
            ]
            assert shown == ["", ""]
            # Whose it is nobody can tell, and what hangs on it goes with it; "What stays behind" says so.
            assert "qdisc clsact" in node.run(["tc", "qdisc", "show", "dev", web.interface]).stdout
            guest.run(["ping", "-c1", "-W5", web.ip])  # nobody refuses any more
            again = uninstall("--pins")
            assert again.returncode == 0 and "there is nothing to remove" in again.stdout
