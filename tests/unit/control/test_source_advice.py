"""What is taken but does not do all that it says is told of, for as long as it is so."""

import dataclasses
from pathlib import Path

import pytest

from control import model
from control.source import directory, services

SERVICE = """\
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.1, %s}
"""
WORKLOAD = """\
apiVersion: sockmesh.io/v1
kind: Workload
metadata: {name: %s, namespace: shop, labels: {app: db}}
spec: {%s}
"""
HERE = "netns: n%s, interface: n%s, "


def load(path: Path, before: model.Snapshot | None = None, **files: str) -> tuple[model.Snapshot, list[str]]:
    for name, text in files.items():
        (path / f"{name}.yaml").write_text(text)
    found = directory.load(path, before)
    return found.snapshot, [str(dataclasses.replace(problem, line=0, effect="")) for problem in found.problems]


def db(number: int, ports: str) -> str:
    return WORKLOAD % (f"db{number}", HERE % (number, number) + f"ips: [10.0.0.{number}], ports: [{ports}]")


NO_LOAD_BALANCER = "neither a load balancer nor node ports are set up here: only the clusterIP is served"
NO_NODE_PORT = "node ports are not opened here: only the clusterIP is served"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("type: ClusterIP, ports: [{port: 80}]", []),
        ("type: NodePort, ports: [{port: 80, nodePort: 30080}]", [f"spec.type: {NO_NODE_PORT}"]),
        ("ports: [{port: 80}, {port: 81, nodePort: 30081}]", [f"spec.ports[1].nodePort: {NO_NODE_PORT}"]),
        ("type: LoadBalancer, ports: [{port: 80, nodePort: 30080}]", [f"spec.type: {NO_LOAD_BALANCER}"]),
        (
            "type: ExternalName, externalName: db.example.com",
            ["spec.type: an alias in DNS: nothing is translated here, and policy sees the addresses that the name has"],
        ),
        (
            "ports: [{port: 80}], externalIPs: [192.0.2.1]",
            ["spec.externalIPs: calls to these addresses are not translated here: only the clusterIP is served"],
        ),
    ],
)
def test_what_a_service_asks_for_in_vain(tmp_path: Path, spec: str, told: list[str]) -> None:
    snapshot, problems = load(tmp_path, a=SERVICE % spec)
    assert problems == [f"a.yaml: {line}" for line in told]
    assert [s.cluster_ips for s in snapshot.services] == [("10.96.0.1",)]  # in force all the same
    again, problems_again = load(tmp_path, snapshot)
    assert (again, problems_again) == (snapshot, problems)  # told again, though it was not read again
    broken, now = load(tmp_path, again, a="]")
    assert broken.services == snapshot.services and len(now) == 1  # of what stays from before nobody can mend a line


def test_a_service_of_no_known_type_is_refused(tmp_path: Path) -> None:
    snapshot, problems = load(tmp_path, a=SERVICE % "type: nodeport, ports: [{port: 80}]")
    types = ", ".join(services.SERVICE_TYPES)
    assert problems == [f'a.yaml: spec.type: unknown "nodeport" ({types})'] and not snapshot.services


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("", "netns and interface are missing"),
        ("netns: n, ", "interface is missing"),
        ("interface: n, ", "netns is missing"),
        ("node: n, netns: n, ", "interface is missing"),
        ("node: n, ", ""),
        ("netns: n, interface: n, ", ""),
    ],
)
def test_a_workload_that_cannot_be_found(tmp_path: Path, spec: str, told: str) -> None:
    snapshot, problems = load(tmp_path, a=WORKLOAD % ("db", spec + "ips: [10.0.0.1]"))
    assert len(snapshot.workloads) == 1
    end = "no policy is enforced at this pod, its addresses only have an identity (give both, or node if it runs "
    end += "elsewhere)"
    assert problems == ([f"a.yaml: spec: {told}: {end}"] if told else [])


def test_a_target_port_that_no_backend_has(tmp_path: Path) -> None:
    where = "a.yaml: Service shop/db spec.ports[0].targetPort: "
    service = SERVICE % "selector: {app: db}, ports: [{port: 80, targetPort: redis}]"
    nobody, problems = load(tmp_path, a=service)
    (problem,) = problems
    assert "spec.selector" in problem  # and of the port nothing: who is not there yet may have it
    without, problems = load(tmp_path, nobody, b=db(1, ""))
    assert problems == [
        where + 'no selected Workload has a TCP port named "redis", so calls are refused (none of them names a port)'
    ]
    other, problems = load(
        tmp_path, without, b=db(1, "{name: web, port: 80}, {name: redis, port: 6379, protocol: UDP}")
    )
    assert problems == [
        where + 'no selected Workload has a TCP port named "redis", so calls are refused (redis/UDP, web/TCP)'
    ]
    stranger, problems = load(
        tmp_path, other, c=db(3, "{name: redis, port: 1}").replace("namespace: shop", "namespace: x")
    )
    assert len(problems) == 1
    found, problems = load(tmp_path, stranger, d=db(2, "{name: redis, port: 6379}"))
    assert problems == []
    _, problems = load(tmp_path, found, a=service.replace("selector: {app: db}", "endpoints: [10.0.0.1]"))
    assert problems == [where + 'endpoints have no port named "redis", so calls are refused (a number)']
    _, problems = load(
        tmp_path, found, a=service.replace("clusterIP: 10.96.0.1", "clusterIP: None").replace("redis", "x")
    )
    assert problems == []  # nobody calls it
