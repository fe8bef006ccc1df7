"""What is told offline of names in rules that mean nobody."""

from pathlib import Path

import pytest

from control.source import manifests, remarks

POD = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{ports: [{name: http, containerPort: 80}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: other}}, spec: {containers: [{ports: [{name: smtp, containerPort: 25}]}]}}}
---
apiVersion: v1
kind: Pod
metadata: {name: node, namespace: shop}
spec: {hostNetwork: true, containers: [{ports: [{name: httpp, containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop, labels: {a: b}}
spec: {ports: [{port: 1}]}
---
apiVersion: cilium.io/v2
kind: CiliumCIDRGroup
metadata: {name: g, labels: {a: b}}
spec: {externalCIDRs: [192.0.2.0/24]}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: p, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: web}}, %s}
"""
RULE = "CiliumNetworkPolicy shop/p spec."


def advice(path: Path, rules: str) -> list[str]:
    (path / "a.yaml").write_text(POD % rules)
    result = manifests.load([path])
    assert result.problems == ()
    assert {(a.file, a.line) for a in result.advice} <= {(f"{path}/a.yaml", 30)}
    return [f"{a.path}: {a.message}" for a in result.advice]


def test_a_port_name_that_nobody_has(tmp_path: Path) -> None:
    rules = "ingressDeny: [{fromEntities: [all], toPorts: [{ports: [{port: %s, protocol: TCP}]}]}]"
    why = "no selected Workload has a TCP port named"
    for name in ("httpp", "smtp"):
        assert advice(tmp_path, rules % name) == [
            f'{RULE}ingressDeny[0]: {why} "{name}", so it denies nothing (http/TCP)'
        ]
    assert advice(tmp_path, rules % "http") == []


@pytest.mark.parametrize(
    ("peer", "told"),
    [
        ("toCIDRSet: [{cidrGroupRef: x}]", "no CiliumCIDRGroup is called x, so this rule denies nothing"),
        ("toCIDRSet: [{cidrGroupRef: g}]", ""),
        (
            "toCIDRSet: [{cidrGroupRef: g}, {cidrGroupRef: x}]",
            "no CiliumCIDRGroup is called x, so this rule denies nothing there",
        ),
        (
            "toCIDRSet: [{cidrGroupSelector: {matchLabels: {a: c}}}]",
            "no CiliumCIDRGroup has the labels that are asked for, so this rule denies nothing",
        ),
        ("toServices: [{k8sService: {serviceName: x}}]", "no Service is called x, so this rule denies nothing"),
        (
            "toServices: [{k8sService: {serviceName: db, namespace: n}}]",
            "no Service in namespace n is called db, so this rule denies nothing",
        ),
        ("toServices: [{k8sService: {serviceName: db, namespace: shop}}]", ""),
        ("toServices: [{k8sServiceSelector: {selector: {matchLabels: {a: b}}}}]", ""),
    ],
)
def test_a_reference_to_what_there_is_not(tmp_path: Path, peer: str, told: str) -> None:
    assert advice(tmp_path, f"egressDeny: [{{{peer}}}]") == ([f"{RULE}egressDeny[0]: {told}"] if told else [])


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}]", ""),
        (
            "ingress: [{fromEndpoints: [{matchLabels: {app: wbe}}]}]",
            "ingress[0]: no workload of these files has app=wbe namespace=shop, so none is allowed anything by it",
        ),
        (
            "egressDeny: [{toEndpoints: [{matchLabels: {app: wbe}}]}]",
            "egressDeny[0]: no workload of these files has app=wbe namespace=shop, so none is denied anything by it",
        ),
        # The workloads of that namespace are in other files.
        ("ingress: [{fromEndpoints: [{matchLabels: {app: wbe, io.kubernetes.pod.namespace: elsewhere}}]}]", ""),
    ],
)
def test_a_selector_that_nobody_fulfils(tmp_path: Path, rules: str, told: str) -> None:
    assert advice(tmp_path, rules) == ([f"{RULE}{told}"] if told else [])


@pytest.mark.parametrize("entity", ["host", "remote-node", "world", "world-ipv4", "world-ipv6"])
def test_what_no_workload_is_meant_to_be_is_not_looked_for_among_workloads(tmp_path: Path, entity: str) -> None:
    asked = f"{{key: 'reserved:{entity}', operator: Exists}}"
    for peer in (f"matchLabels: {{'reserved:{entity}': ''}}", f"matchExpressions: [{asked}]"):
        assert advice(tmp_path, f"ingress: [{{fromEndpoints: [{{{peer}}}]}}]") == []


def test_a_policy_that_selects_nobody(tmp_path: Path) -> None:
    text = POD.replace("endpointSelector: {matchLabels: {app: web}}", "endpointSelector: {matchLabels: {app: wbe}}")
    (tmp_path / "a.yaml").write_text(text % "ingress: [{fromEntities: [all]}]")
    (told,) = manifests.load([tmp_path]).advice
    assert told.message == "no workload of these files has app=wbe namespace=shop, so none is under this policy"


def test_selectors_of_workloads_with_the_network_of_their_node(tmp_path: Path) -> None:
    text = POD.replace("{name: node, namespace: shop}", "{name: node, namespace: shop, labels: {app: node}}")
    text = text.replace("endpointSelector: {matchLabels: {app: web}}", "endpointSelector: {matchLabels: {app: %s}}")
    there = "each workload of these files that has app=node namespace=shop has its node's network (hostNetwork)"
    for app, peer, done in (
        ("node", "all", "under this policy"),
        ("web", "node", "allowed anything by it"),
        ("web", "web", ""),
    ):
        peers = "fromEntities: [all]" if peer == "all" else f"fromEndpoints: [{{matchLabels: {{app: {peer}}}}}]"
        (tmp_path / "a.yaml").write_text(text % (app, f"ingress: [{{{peers}}}]"))
        told = [a.message for a in manifests.load([tmp_path]).advice]
        assert told == ([f"{there} and is the node, so none is {done}"] if done else [])


def test_labels_of_namespaces_that_are_not_given(tmp_path: Path) -> None:
    rules = "ingress: [{fromEndpoints: [{matchLabels: {k8s:io.cilium.k8s.namespace.labels.%s: a}}]}]"
    told = [line for line in advice(tmp_path, rules % "team") if "no Namespace is given" in line]
    assert told == [
        f"{RULE}ingress[0]: asks for the label team of namespaces, whose labels are unknown and count as absent: no "
        "Namespace is given (kubectl get ns -o yaml prints them)"
    ]
    by_name = advice(tmp_path, rules % "kubernetes.io/metadata.name")
    assert not [line for line in by_name if "no Namespace is given" in line]
    (tmp_path / "ns.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
    assert not [line for line in advice(tmp_path, rules % "team") if "no Namespace is given" in line]


def test_a_source_without_a_line_is_a_file_whatever_it_is_called() -> None:
    assert str(remarks.problem_at("a:b.yaml:7", "spec", "is wrong")) == "a:b.yaml:7: spec: is wrong"
    assert str(remarks.problem_at("a:b.yaml", "spec", "is wrong")) == "a:b.yaml: spec: is wrong"
