"""`sockmesh uninstall --pins`: refused while it would hurt or miss something, and then whole."""

import json
import socket
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


def test_filters_that_are_not_here_are_not_left_without_a_word(tmp_path: Path) -> None:
    """In another network namespace than the agent's, whatever is known of what interfaces are called."""
    with Node("elsewhere") as node:
        web, guest = node.pod("web"), node.pod("guest")
        with Mesh(node, policies=[NOBODY_IN]) as mesh:
            mesh.stop()
            command = [sys.executable, "-m", "control.cli.main", "uninstall", "--pins", "--pin-dir", str(node.pins)]
            wrong, right = ("--run-dir", str(tmp_path / "none")), ("--run-dir", str(mesh.run_dir))

            def here(*words: str) -> subprocess.CompletedProcess[str]:
                return subprocess.run(
                    [*command, *words], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
                )

            def there(*words: str) -> subprocess.CompletedProcess[str]:
                return node.run([*command, *words], check=False, cwd=ROOT, timeout=60)

            def reaches_web() -> bool:
                return guest.run(["ping", "-c1", "-W1", web.ip], check=False).returncode == 0

            refused = here(*wrong)
            assert refused.returncode == 1 and "in this network namespace" in refused.stderr, refused
            assert not (tmp_path / "none").exists()
            # Names that happen to be those of interfaces here prove nothing; nor does it matter that there are none.
            names = mesh.run_dir / "names.json"
            of_the_agent = names.read_text()
            known = dict(socket.if_nameindex())
            with mesh.open_maps() as opened:
                indexes = [value.ifindex for _, value in opened.endpoints.items()]
            told = json.loads(of_the_agent)
            for endpoint in told["endpoints"].values():
                endpoint["interface"] = known.get(indexes[0], "lo")
            for text in (json.dumps(told), ""):
                names.write_text(text)
                refused = here(*right)
                assert refused.returncode == 1 and "in this network namespace" in refused.stderr, refused
            names.write_text(of_the_agent)
            # The maps of another version cannot be read.
            (node.pins / "maps" / "endpoints").rename(node.pins / "maps" / "others")
            refused = here(*right)
            assert refused.returncode == 1 and "of endpoint-" in refused.stderr, refused
            (node.pins / "maps" / "others").rename(node.pins / "maps" / "endpoints")
            assert not reaches_web()

            forced = here(*wrong, "--force")
            assert forced.returncode == 0, forced
            assert forced.stdout.startswith(f"removed: {node.pins}; NOT the packet filters of 2 endpoints (number ")
            assert "no policy is in force any more" not in forced.stdout
            assert f"no state of an agent was in {tmp_path / 'none'}" in forced.stdout
            assert mesh.run_dir.exists() and not node.pins.exists()
            assert "nothing is pinned" in here(*right).stdout
            rest = there(*right)
            assert rest.returncode == 0 and rest.stdout.startswith("removed: the packet filters on "), rest
            assert web.interface in rest.stdout and reaches_web()


def test_maps_that_cannot_be_read_leave_no_filter_behind() -> None:
    with Node("unread") as node:
        web = node.pod("web")
        with Mesh(node) as mesh:
            mesh.stop()
            (node.pins / "maps" / "endpoints").unlink()
            command = [sys.executable, "-m", "control.cli.main", "uninstall", "--pins", "--pin-dir", str(node.pins)]
            done = node.run([*command, "--run-dir", str(mesh.run_dir)], cwd=ROOT, timeout=60)
            assert done.stdout.startswith("removed: hooks, ") and not node.pins.exists()
            ways = ("ingress", "egress")
            assert [node.run(["tc", "filter", "show", "dev", web.interface, way]).stdout for way in ways] == ["", ""]
