"""Names that mean nobody: what a Service or a policy asks for in vain is told of, for as long as it is so."""

import json
from pathlib import Path
from typing import Any

import pytest

from control.source import directory

Json = dict[str, Any]
TCP = [{"name": "redis", "port": 6379}, {"name": "web", "port": 80}]
UDP = [{"name": "redis", "port": 6379, "protocol": "UDP"}]


def workload(name: str, ports: list[Json], namespace: str = "shop", **labels: str) -> Json:
    metadata = {"name": name, "namespace": namespace, "labels": {"app": name, **labels}}
    octet = 1 + sum(name.encode()) % 250
    return {
        "apiVersion": "sockmesh.io/v1", "kind": "Workload", "metadata": metadata,
        "spec": {"ips": [f"10.0.0.{octet}"], "node": "elsewhere", "ports": ports},
    }  # fmt: skip


def service(**spec: Any) -> Json:
    metadata = {"name": "db", "namespace": "shop"}
    ports = [{"port": 6379, "targetPort": "redis"}]
    spec = {"clusterIP": "10.96.0.1", "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def policy(kind: str = "CiliumNetworkPolicy", app: str = "db", **spec: Any) -> Json:
    kubernetes = kind == "NetworkPolicy"
    version = "networking.k8s.io/v1" if kubernetes else "cilium.io/v2"
    subject = {"podSelector" if kubernetes else "endpointSelector": {"matchLabels": {"app": app}}}
    metadata = {"name": "db", "namespace": "shop"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": {**subject, **spec}}


def problems(path: Path, *documents: Json) -> list[tuple[str, int, str, str]]:
    # JSON is YAML: one document a line, so that the line of a problem is that of its document.
    (path / "a.yaml").write_text("".join(f"---\n{json.dumps(document)}\n" for document in documents))
    found = directory.load(path, None)
    return [(p.file, p.line, p.path, p.message) for p in found.problems]


def test_a_service_that_selects_no_pod(tmp_path: Path) -> None:
    wanted = service(selector={"app": "db", "tier": "back"})
    message = "no Workload of namespace shop has these labels, so calls are refused (app=db, tier=back)"
    told = [("a.yaml", 2, "Service shop/db spec.selector", message)]
    assert problems(tmp_path, wanted) == told
    assert problems(tmp_path, wanted, workload("db", TCP), workload("db2", TCP, "x", app="db", tier="back")) == told
    assert problems(tmp_path, wanted, workload("db", TCP, tier="back")) == []
    assert problems(tmp_path, service(selector={"app": "db"}, clusterIP="None")) == []  # nobody calls it
    assert problems(tmp_path, service(selector={"app": "db"}, ports=[])) == []
    assert problems(tmp_path, service(endpoints=["10.0.0.9"], ports=[{"port": 1}])) == []


def to(port: str, protocol: str = "TCP") -> Json:
    return {"toPorts": [{"ports": [{"port": port, "protocol": protocol}]}]}


def looking(port: str) -> Json:
    found: Json = to(port)["toPorts"][0]
    return {**found, "rules": {"http": [{"method": "GET"}]}}


WEB = {"matchLabels": {"app": "web"}}
BESIDE = "so that name matches nothing, unlike the rule's other ports"


@pytest.mark.parametrize(
    ("wanted", "path", "message"),
    [
        (policy(ingress=[to("redis")]), "", ""),
        (policy(ingress=[to("redis", "ANY")]), "", ""),
        (policy(ingress=[to("80"), to("zork")]), "ingress[1]",
         'no selected Workload has a TCP port named "zork", so it allows nothing (redis/TCP, web/TCP)'),
        (policy(ingress=[to("redis", "UDP")]), "ingress[0]",
         'no selected Workload has a UDP port named "redis", so it allows nothing (redis/TCP, web/TCP)'),
        (policy(ingressDeny=[to("zork", "ANY")]), "ingressDeny[0]",
         'no selected Workload has a port named "zork", so it denies nothing (redis/TCP, web/TCP)'),
        (policy("NetworkPolicy", ingress=[{"ports": [{"port": "zork"}, {"port": "web"}]}]), "ingress[0]",
         f'no selected Workload has a TCP port named "zork", {BESIDE} (redis/TCP, web/TCP)'),
        (policy(ingress=[{"toPorts": [*to("zork")["toPorts"], *to("80")["toPorts"]]}]), "ingress[0]",
         f'no selected Workload has a TCP port named "zork", {BESIDE} (redis/TCP, web/TCP)'),
        (policy(ingress=[{"toPorts": [looking("zork"), *to("80")["toPorts"]]}]), "ingress[0]",
         f'no selected Workload has a TCP port named "zork", {BESIDE} (redis/TCP, web/TCP)'),
        (policy(ingress=[{"toPorts": [looking("zork"), *to("zork")["toPorts"]]}]), "ingress[0]",
         'no selected Workload has a TCP port named "zork", so it allows nothing (redis/TCP, web/TCP)'),
        (policy(app="bare", ingress=[to("zork")]), "ingress[0]",
         'no selected Workload has a TCP port named "zork", so it allows nothing (none of them names a port)'),
        (policy(app="nobody", ingress=[to("zork")]), "", ""),
        (policy(app="bare", egress=[to("redis") | {"toEndpoints": [{}]}]), "", ""),
        (policy(app="bare", egress=[to("redis")]), "", ""),
        (policy(egress=[to("redis") | {"toEndpoints": [WEB]}]), "egress[0]",
         'no Workload among its peers has a TCP port named "redis", so it allows nothing (redis/UDP)'),
        (policy(egress=[to("redis") | {"toEndpoints": [{"matchLabels": {"app": "later"}}]}]), "", ""),
        (policy(egress=[to("redis") | {"toCIDR": ["192.0.2.0/24"]}]), "egress[0]",
         'no Workload among its peers has a TCP port named "redis", so it allows nothing (a number)'),
        (policy(egress=[to("redis") | {"toEntities": ["world"]}]), "egress[0]",
         'no Workload among its peers has a TCP port named "redis", so it allows nothing (a number)'),
        (policy(egress=[to("redis") | {"toEntities": ["all"]}]), "", ""),
    ],
)  # fmt: skip
def test_a_port_name_in_a_policy_that_nobody_has(tmp_path: Path, wanted: Json, path: str, message: str) -> None:
    pods = [workload("db", TCP), workload("web", UDP), workload("bare", [])]
    told = [("a.yaml", 2, f"{wanted['kind']} shop/db spec.{path}", message)] if path else []
    assert problems(tmp_path, wanted, *pods) == told


def test_names_are_told_once_each_and_not_without_end(tmp_path: Path) -> None:
    many = [{"name": f"p{n}", "port": n} for n in range(10, 30)]
    wanted = policy(ingress=[{"toPorts": [{"ports": [{"port": "a", "protocol": p} for p in ("TCP", "UDP")]}]}])
    listed = ", ".join(f"p{n}/TCP" for n in range(10, 20))
    message = f'no selected Workload has a TCP or UDP port named "a", so it allows nothing ({listed}, ...)'
    found = problems(tmp_path, wanted, workload("db", many))
    assert found == [("a.yaml", 2, "CiliumNetworkPolicy shop/db spec.ingress[0]", message)]


@pytest.mark.parametrize(
    ("peer", "message"),
    [
        ({"toCIDRSet": [{"cidrGroupRef": "partners"}]}, "no CiliumCIDRGroup is called partners"),
        ({"toServices": [{"k8sService": {"serviceName": "db", "namespace": "n"}}]}, "no Service in namespace n"),
        ({"toFQDNs": [{"matchName": "a.example"}]}, "toFQDNs allows nothing without the node proxy"),
    ],
)
def test_a_peer_that_there_is_not(tmp_path: Path, peer: Json, message: str) -> None:
    """The agent says what `sockmesh policy validate` says."""
    found = problems(tmp_path, policy(app="x", egress=[peer]))
    assert len(found) == 1
    assert message in found[0][3]
