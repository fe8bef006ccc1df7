"""What a first start makes of files that are wrong: it closes pods, it never leaves one open."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from control.source import directory
from tests.hosts import Mesh, Node
from tests.kernel.puppet import Puppet
from tests.kernel.street import Json, app, nobody, policy

Files = dict[str, str]
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
