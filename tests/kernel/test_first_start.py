"""What a first start makes of files that are wrong: it closes pods, it never leaves one open."""

import json
from collections.abc import Callable

import pytest
import yaml

from tests.hosts import Mesh, Node
from tests.kernel.puppet import Puppet
from tests.kernel.street import Json, app, nobody

Files = dict[str, str]


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
        client = Puppet(pods["client"])
        mesh = Mesh(node, pods=[pods["client"]])
        mesh.config.mkdir()
        written = files({name: pod.workload_yaml() for name, pod in pods.items()})
        for name, text in written.items():
            (mesh.config / name).write_text(text)
        with mesh:
            assert client.do("result = connect(ip, 4750, 0.5)[0]", ip=pods["server"].ip) == "EPERM"
            problems = mesh.call("status")["problems"]
            assert {problem.partition(":")[0] for problem in problems} < set(written)
