"""Which pods count by themselves beside their controller's template: those that something tells from it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click import testing

from control import model
from control.cli.main import cli
from control.source import manifests

NAMED = "statefulset.kubernetes.io/pod-name"
NET, CILIUM = "networking.k8s.io/v1", "cilium.io/v2"
OF_FIRST = {"matchLabels": {NAMED: "db-0"}}
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "db", "role": "main"}},
    "spec": {"containers": [{"name": "c"}]},
}
SET: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "db", "namespace": "shop"},
       "spec": {"template": TEMPLATE}}  # fmt: skip
SHUT = {"podSelector": {"matchLabels": {"role": "shut"}}, "policyTypes": ["Ingress"]}


def member(number: int, host_network: bool = False, **labels: str) -> dict[str, Any]:
    name = f"db-{number}"
    owner = {"kind": "StatefulSet", "name": "db", "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app": "db", "role": "main", NAMED: name, **labels},
            "ownerReferences": [owner],
        },
        "spec": {"containers": [{"name": "c"}], "hostNetwork": host_network},
    }


def policy(kind: str, version: str, **said: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "p", "namespace": "shop"}, **said}


def service(name: str) -> dict[str, Any]:
    return policy("Service", "v1", spec={"selector": {NAMED: "db-0"}}) | {
        "metadata": {"name": name, "namespace": "shop", "labels": {"of": "first"}}
    }


def written(file: Path, *documents: Any) -> Path:
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}))
    return file


def alone(path: Path, *documents: Any) -> list[str]:
    found = manifests.load([written(path / "x.json", SET, *documents)])
    assert found.problems == ()
    return [w.name for w in found.snapshot.workloads if w.kind == "Pod"]


def to_service(**which: Any) -> dict[str, Any]:
    return policy("CiliumNetworkPolicy", CILIUM, spec={"endpointSelector": {}, "egress": [{"toServices": [which]}]})


@pytest.mark.parametrize(
    ("documents", "names"),
    [
        ([policy("NetworkPolicy", NET, spec={"podSelector": OF_FIRST})], ["db-0"]),
        ([policy("NetworkPolicy", NET, spec={"podSelector": {"matchExpressions": [
            {"key": NAMED, "operator": "NotIn", "values": ["db-0", "db-7"]}]}})], ["db-0"]),
        ([policy("NetworkPolicy", NET, spec={"podSelector": {"matchExpressions": [
            {"key": NAMED, "operator": "Exists"}]}})], ["db-0", "db-1"]),
        ([policy("CiliumNetworkPolicy", CILIUM, specs=[
            {"endpointSelector": {}, "ingress": [{}]},
            {"endpointSelector": {}, "ingressDeny": [{"fromEndpoints": [{"matchLabels": {f"any:{NAMED}": "db-1"}}]}]},
        ])], ["db-1"]),
        # A service's selector is nothing that policies ask, unless they ask for the service.
        ([service("first")], []),
        ([service("first"), to_service(k8sService={"serviceName": "other", "namespace": "shop"})], []),
        ([service("first"), to_service(k8sService={"serviceName": "first", "namespace": "shop"})], ["db-0"]),
        ([service("first"), to_service(k8sServiceSelector={"selector": {"matchLabels": {"of": "first"}}})], ["db-0"]),
    ],
)  # fmt: skip
def test_pods_count_by_themselves_for_what_is_asked(tmp_path: Path, documents: list[Any], names: list[str]) -> None:
    assert alone(tmp_path, member(0), member(1), *documents) == names


@pytest.mark.parametrize("of_template", [True, False])
def test_a_pod_on_its_nodes_network_and_one_that_is_not(tmp_path: Path, of_template: bool) -> None:
    at = {**SET, "spec": {"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "hostNetwork": of_template}}}}
    file = written(tmp_path / "x.json", at, member(0, host_network=not of_template), member(1, of_template))
    found = manifests.load([file]).snapshot
    assert [(w.kind, w.name, w.host_network) for w in found.workloads] == [
        ("StatefulSet", "db", of_template),
        ("Pod", "db-0", not of_template),
    ]
    assert found.folded == {"shop/db-1": "shop/db"}


def compared(path: Path, old: list[Any], new: list[Any]) -> tuple[int, list[str]]:
    files = [written(path / "old.json", *old), written(path / "new.json", *new)]
    found = testing.CliRunner().invoke(cli, ["policy", "diff", "--no-new-access", *map(str, files)])
    return found.exit_code, [" ".join(line.split()) for line in found.stdout.splitlines()[1:]]


def test_a_pod_that_takes_up_its_templates_labels_again(tmp_path: Path) -> None:
    there = [SET, member(1), policy("NetworkPolicy", NET, spec=SHUT)]
    apart, again = [*there, member(0, role="shut")], [*there, member(0)]
    ends = ["shop/db (StatefulSet) shop/db-0 all", "the outside shop/db-0 all"]
    assert compared(tmp_path, apart, again) == (1, [f"+ {each}" for each in ends])
    # What it may open itself is nothing new.
    assert compared(tmp_path, again, apart) == (0, [f"- {each}" for each in ends])


def test_a_pod_whose_template_is_gone(tmp_path: Path) -> None:
    status, lines = compared(tmp_path, [SET, member(0)], [member(0)])
    assert (status, [line for line in lines if not line.startswith("- ")]) == (0, [])
    assert not any(line.startswith("- shop/db-0 the outside") for line in lines)


def test_who_stands_for_a_pod_is_the_same_in_both(tmp_path: Path) -> None:
    given = [SET, member(0), member(1, role="shut")]
    files = [written(tmp_path / "old.json", *given), written(tmp_path / "new.json", SET, member(0), member(1))]
    found: list[model.LoadResult] = manifests.load_each([[file] for file in files])
    assert [[w.name for w in each.snapshot.workloads] for each in found] == [["db", "db-1"]] * 2


def test_a_pod_is_asked_about_by_its_own_port_names(tmp_path: Path) -> None:
    mine = member(0)
    mine["spec"]["containers"][0]["ports"] = [{"name": "sql", "containerPort": 5432}]
    container = {"name": "c", "ports": [{"name": "sql", "containerPort": 5433}]}
    at = {**SET, "spec": {"template": {**TEMPLATE, "spec": {"containers": [container]}}}}
    rules = {"podSelector": {"matchLabels": {"app": "db"}}, "ingress": [{"ports": [{"port": 5432}]}]}
    file = written(tmp_path / "x.json", at, mine, policy("NetworkPolicy", NET, spec=rules))
    words = ["policy", "trace", "-f", str(file), "--from", "192.0.2.1", "--to", "shop/db-0", "--port", "sql"]
    assert testing.CliRunner().invoke(cli, words).stdout.startswith("192.0.2.1 -> shop/db-0 5432/TCP: allowed")


def test_a_service_of_one_pod_of_a_set(tmp_path: Path) -> None:
    file = written(tmp_path / "x.json", SET, member(0), service("first"))
    words = ["policy", "trace", "-f", str(file), "--from", "192.0.2.1", "--to", "shop/first", "--port", "80"]
    said = "shop/first is service shop/first: ask for the pods behind it ("
    told = testing.CliRunner().invoke(cli, words).stderr
    assert f"{said}one that counts as its controller, if any: give its own name)" in told
    written(file, SET, service("first"))
    assert f"{said}none is declared)" in testing.CliRunner().invoke(cli, words).stderr
