"""What a first start makes of files that are wrong: it closes pods, it never leaves one open."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from control.agent import closed
from control.source import directory
from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE
from tests.kernel.puppet import Puppet
from tests.kernel.street import Json, app, nobody, policy
from tests.kernel.test_badinput import CIDRS, LIMIT, PORTS, wide

Files = dict[str, str]
ROOT = Path(__file__).resolve().parents[2]
CALL = "result = connect(ip, 4750, 0.5)[0]"


def at_odds(pods: dict[str, Json]) -> Files:
    """Two files declare one Workload; the one that loses also has server's, and the policy that closes it."""
    both = [pods["third"], pods["server"], nobody("closed", "server", "ingress")]
    return {"a.yaml": yaml.safe_dump(pods["third"]), "b.yaml": yaml.safe_dump_all(both)}


def unencodable(pods: dict[str, Json]) -> Files:
    good = [pods["server"], nobody("closed", "server", "ingress")]
    bad = pods["third"]
    bad["spec"]["netns"] = "x\ud800"
    return {"a.json": json.dumps(bad), "b.yaml": yaml.safe_dump_all(good)}


def partly_readable(pods: dict[str, Json]) -> Files:
    """Two rule sets, and nobody can tell whom the first one selects."""
    closed = nobody("closed", "server", "ingress")
    del closed["spec"]
    closed["specs"] = [
        {"endpointSelector": {"matchLabel": {"app": "server"}}, "ingress": [{}]},
        {"endpointSelector": app("third"), "ingress": [{}]},
    ]
    return {"a.yaml": yaml.safe_dump_all([pods["server"], pods["third"]]), "b.yaml": yaml.safe_dump(closed)}


@pytest.mark.parametrize("files", [at_odds, unencodable, partly_readable])
def test_a_first_start_leaves_no_pod_open(files: Callable[[dict[str, Json]], Files]) -> None:
    with Node("first") as node:
        pods = {name: node.pod(name) for name in ("client", "server", "third")}
        client, kubelet = Puppet(pods["client"]), Puppet(node)
        mesh = Mesh(node, pods=[pods["client"]])
        mesh.config.mkdir()
        written = files({name: pod.workload_yaml() for name, pod in pods.items()})
        for name, text in written.items():
            (mesh.config / name).write_text(text)
        with mesh:
            assert client.do(CALL, ip=pods["server"].ip) == "EPERM"
            assert kubelet.do(CALL, ip=pods["server"].ip) == "ECONNREFUSED"
            problems = mesh.call("status")["problems"]
            assert {problem.partition(":")[0] for problem in problems} < set(written)


def test_a_volume_that_is_mounted_late_is_a_first_start_then(tmp_path: Path) -> None:
    with Node("late") as node:
        pods = [node.pod(name) for name in ("client", "server")]
        client = Puppet(pods[0])
        with Mesh(node, pods=[]) as mesh:
            for pod in pods:
                (tmp_path / f"{pod.name}.yaml").write_text(yaml.safe_dump(pod.workload_yaml()))
            broken = policy("closed", "server", ingress=[{"fromEndpoint": [app("third")]}])
            (tmp_path / "policy.yaml").write_text(yaml.safe_dump(broken))
            mesh.config.rename(mesh.config.with_name("before"))
            shutil.copytree(tmp_path, staged := mesh.config.with_name("staged"))
            staged.rename(mesh.config)
            mesh.call("reconcile")
            assert client.do(CALL, ip=pods[1].ip) == "EPERM"
            mesh.kill()
            mesh.start()
            assert client.do(CALL, ip=pods[1].ip) == "EPERM"
            (problem,) = mesh.call("status")["problems"]
            assert problem.endswith(directory.CLOSES)


@pytest.mark.parametrize("survives", [False, True], ids=["", "with-the-run-directory"])
def test_what_does_not_fit_after_a_reboot_closes_every_pod_until_it_does(survives: bool, tmp_path: Path) -> None:
    """What was in force before is gone from the kernel; where the kernel has it, it stays."""
    with Node("full") as node:
        pods = [node.pod(name) for name in ("client", "server", "late")]
        client, kubelet = Puppet(pods[0]), Puppet(node)
        with Mesh(node, pods=pods[:2]) as mesh:

            def sockmesh(*words: str, run_dir: Path = mesh.run_dir) -> subprocess.CompletedProcess[str]:
                place = ("--pin-dir", str(node.pins), "--run-dir", str(run_dir))
                return node.run(
                    [sys.executable, "-m", "control.cli.main", *words, *place],
                    check=False,
                    cwd=ROOT,
                    timeout=60 * PATIENCE,
                )

            def problem() -> str:
                (only,) = mesh.call("status")["problems"]
                assert "map policy takes 65,536 entries" in only
                return str(only)

            def restart() -> None:
                mesh.kill()
                mesh.start()

            assert client.do(CALL, ip=pods[1].ip) == "ECONNREFUSED"
            mesh.stop()
            removed = sockmesh("uninstall", "--pins", run_dir=tmp_path if survives else mesh.run_dir)
            assert removed.returncode == 0 and (mesh.run_dir / "last-good").exists() == survives, removed
            too_wide = wide(CIDRS, PORTS, LIMIT - CIDRS * PORTS)
            mesh.apply("wide", too_wide)
            for start in (mesh.start, restart):
                start()
                assert client.do(CALL, ip=pods[1].ip) == "EPERM"
                assert kubelet.do(CALL, ip=pods[1].ip) == "ECONNREFUSED"
                assert problem().endswith(closed.EFFECT)
            mesh.apply("late", pods[2].workload_yaml())
            mesh.settle(60)
            assert Puppet(pods[2]).do(CALL, ip=node.gateway) == "EPERM"
            brief = sockmesh("status", "--brief")
            assert brief.returncode == 1 and "3 endpoints" in brief.stdout
            assert brief.stdout.endswith("; no policy is in force yet, every pod is closed\n")
            assert "no policy is in force yet, every pod is closed, 3 endpoints" in sockmesh("status").stdout
            shown = sockmesh("bpf", "policy", "get", "server").stdout
            assert shown.count(closed.DENY.name) == 2 and "allow-localhost" in shown, shown
            mesh.delete("wide")
            mesh.settle(60)
            assert mesh.call("status")["problems"] == []
            assert client.do(CALL, ip=pods[1].ip) == "ECONNREFUSED"
            assert "closed" not in sockmesh("status", "--brief").stdout
            mesh.apply("wide", too_wide)
            mesh.settle(60)
            for is_restarted in (False, True):
                if is_restarted:
                    restart()
                assert problem().endswith(directory.ALL_STAYS)
                assert client.do(CALL, ip=pods[1].ip) == "ECONNREFUSED"
