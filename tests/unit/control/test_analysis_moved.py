"""What opens by name, or for requests, though no rule that says so has changed."""

import dataclasses
from typing import Any

import pytest

from control import model
from control.analysis.change import beside
from loader import abi
from tests.unit.control.test_analysis_beside import ALLOWED, WEB, http, ingress, names, snapshot
from tests.unit.control.test_analysis_connectivity import Doc, workload

WORLD: Doc = {"egressDeny": [{"toEntities": ["world"]}]}
RANGE: Doc = {"egressDeny": [{"toCIDR": ["192.0.2.0/24"]}]}
TO_80_99: Doc = {**WEB, "toPorts": [{"ports": [{"port": "80", "endPort": 99, "protocol": "TCP"}]}]}


def told(old: model.Snapshot, new: model.Snapshot) -> list[str]:
    return [each.what for each in beside.opened(old, new)]


def having(of: model.Snapshot, *workloads: model.Workload, **more: Any) -> model.Snapshot:
    return dataclasses.replace(of, workloads=workloads, **more)


@pytest.mark.parametrize("deny", [WORLD, RANGE])
def test_a_deny_by_address_stands_before_names(deny: Doc) -> None:
    old, new = snapshot(names("a.com") | deny), snapshot(names("a.com"))
    assert [what.partition(",")[0] for what in told(old, new)] == [
        f"no longer denied: egress to {'entity world' if deny is WORLD else '192.0.2.0/24'}"
    ]
    assert told(new, old) == []
    other = names("a.com") | {"egressDeny": [{"toPorts": [{"ports": [{"port": "25"}]}], "toEntities": ["world"]}]}
    assert told(snapshot(names("a.com")), snapshot(other)) == []


def test_a_rule_for_requests_that_binds_nobody_may_take_the_place_of_one_that_does() -> None:
    bound = ingress({**WEB, **http("/a")}, {"toPorts": http("/a")["toPorts"]})
    free = ingress(http("/b")) | {"enableDefaultDeny": {"ingress": False}}
    assert "any request, ingress, TCP 80" in told(snapshot(bound), snapshot(bound, free))


def test_a_named_port_may_be_any_number() -> None:
    """So a plain rule for numbers may stand beside one for requests by name, and takes its place."""
    by_name = {**WEB, "toPorts": [http("/a")["toPorts"][0] | {"ports": [{"port": "http", "protocol": "TCP"}]}]}
    assert "any request, ingress from app=web namespace=shop, TCP http" in told(
        snapshot(ingress(by_name)), snapshot(ingress(TO_80_99))
    )


def test_requests_that_are_new_where_others_were_bound() -> None:
    """What was open for all requests of one peer was bound by another rule's."""
    free = ingress({"fromEntities": ["cluster"], "toPorts": ALLOWED["toPorts"]})
    bound = ingress(http("/a"))
    more = ingress({"fromEntities": ["cluster"], "toPorts": http("/b")["toPorts"]})
    assert any(what.startswith("http requests GET /b") for what in told(snapshot(free, bound), snapshot(bound, more)))


def test_a_port_that_is_called_otherwise() -> None:
    api = workload("api")
    rules = snapshot(
        ingress(
            {**WEB, "toPorts": [http("/a")["toPorts"][0] | {"ports": [{"port": "http", "protocol": "TCP"}]}]}, TO_80_99
        )
    )
    old, new = (
        having(rules, dataclasses.replace(api, ports=(model.ContainerPort("http", port, abi.Proto.TCP),)))
        for port in (80, 90)
    )
    assert told(old, new) == ["requests or names, because it calls other ports so"]
    assert told(old, old) == []


def test_a_name_for_ports_that_a_pod_that_is_gone_had_too() -> None:
    """At egress a port name is what all pods with the same labels call so."""
    by_name = {"ports": [{"port": "http", "protocol": "TCP"}], "rules": {"http": [{"path": "/a"}]}}
    rules = snapshot({
        "egress": [
            {"toEndpoints": [{"matchLabels": {"app": "web"}}], "toPorts": [by_name]},
            {"toEntities": ["all"], "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]},
        ]
    })  # fmt: skip
    ports = [(model.ContainerPort("http", port, abi.Proto.TCP),) for port in (8080, 80)]
    first, other = (dataclasses.replace(workload("web"), name=f"w{i}", ports=each) for i, each in enumerate(ports))
    old, new = having(rules, workload("api"), first, other), having(rules, workload("api"), first)
    assert set(told(old, new)) == {"requests or names, because it calls other ports so"}
    same = dataclasses.replace(other, ports=first.ports)
    assert told(having(rules, workload("api"), first, same), new) == []


def test_a_name_for_ports_that_only_a_plain_rule_asks_for() -> None:
    """Pairs show what that opens."""
    plain = {**WEB, "toPorts": [{"ports": [{"port": "metrics", "protocol": "TCP"}]}]}
    rules = snapshot(ingress(http("/a"), plain))
    api = workload("api")
    old, new = (
        having(rules, dataclasses.replace(api, ports=(model.ContainerPort("metrics", port, abi.Proto.TCP),)))
        for port in (9100, 9101)
    )
    assert [what for what in told(old, new) if "calls other ports" in what] == []


def test_a_label_that_only_a_plain_rule_asks_for() -> None:
    """Rules for requests and names of others have nothing to do with it."""
    plain = snapshot({"ingress": [ALLOWED]}, name="q", endpointSelector={"matchLabels": {"tier": "web"}})
    for rules in (snapshot(ingress(http("/a"))), snapshot(names("a.com"))):
        both = dataclasses.replace(rules, policies=rules.policies + plain.policies)
        job = dataclasses.replace(workload("report", "CronJob"), labels={"app": "report"})
        tiered = dataclasses.replace(job, labels={"app": "report", "tier": "web"})
        assert told(having(both, job), having(both, tiered)) == []
    # The same rule as one for requests of the same pod takes its place.
    both = dataclasses.replace(both, policies=snapshot(ingress(http("/a"))).policies + plain.policies)
    api, tiered = workload("api"), dataclasses.replace(workload("api"), labels={"app": "api", "tier": "web"})
    rule = "ingress from app=web namespace=shop, TCP 80 (CiliumNetworkPolicy shop/q)"
    assert told(having(both, api), having(both, tiered)) == [f"requests or names, because of its labels: {rule}"]


def test_requests_of_pods_of_a_namespace_with_other_labels() -> None:
    ops = {"matchLabels": {"io.cilium.k8s.namespace.labels.team": "ops"}}
    rules = snapshot(ingress(http("/a"), {"fromEndpoints": [ops], "toPorts": http("/b")["toPorts"]}, {"fromEndpoints": [
        {"matchExpressions": [{"key": "io.kubernetes.pod.namespace", "operator": "Exists"}]}
    ]}))  # fmt: skip
    old, new = (having(rules, namespaces=(model.Namespace("y", {"team": team}),)) for team in ("dev", "ops"))
    assert [what for what in told(old, new) if what.startswith("requests or names, because of its labels: http")]
    assert told(new, new) == []


def test_names_for_a_workload_that_is_new_or_has_other_labels() -> None:
    rules = snapshot(names("a.com"))
    assert told(having(rules), having(rules, workload("api"))) == ["DNS names that rules allow to this new workload"]
    assert told(having(rules), having(rules, workload("web"))) == []
    renamed = [having(rules, dataclasses.replace(workload("x"), labels={"app": app})) for app in ("web", "api")]
    rule = "egress, DNS name a.com, all ports (CiliumNetworkPolicy shop/p)"
    assert told(*renamed) == [f"requests or names, because of its labels: {rule}"]


def test_a_new_workload_on_the_network_of_its_node() -> None:
    rules = snapshot(ingress({"fromEntities": ["remote-node"]}))
    new = having(rules, workload("agent", host_network=True))
    assert told(having(rules), new) == ["on the network of its node, where no policy of pods holds"]
    assert told(model.Snapshot(), having(model.Snapshot(), workload("agent", host_network=True))) == []


def test_nodes_and_the_api_server_that_are_others() -> None:
    rules = snapshot(ingress({"fromNodes": [{"matchLabels": {"role": "edge"}}], "toPorts": http("/a")["toPorts"]}))
    old, new = (
        dataclasses.replace(rules, nodes=(model.Node("n", {"role": role}, ("10.9.0.1",)),)) for role in ("a", "edge")
    )
    assert told(old, new) == ["requests, because rules are about nodes"]
    api = snapshot({"egress": [{"toEntities": ["kube-apiserver"], "toPorts": http("/a")["toPorts"]}]}, ingress(ALLOWED))
    old, new = (
        dataclasses.replace(api, services=(model.Service("default", "kubernetes", endpoints=(ip,)),))
        for ip in ("10.9.0.1", "10.9.0.2")
    )
    assert told(old, new) == ["requests, because the API server is at 10.9.0.2"]
    assert told(old, old) == []


TO_80: Doc = {"toPorts": http("/a")["toPorts"]}
ANY_80: Doc = {"toPorts": ALLOWED["toPorts"]}
ROLE_DB: Doc = {"fromEndpoints": [{"matchLabels": {"reserved:remote-node": "", "k8s:role": "db"}}]}


def test_requests_of_a_node_that_no_rule_for_others_binds_any_more() -> None:
    """The ports are open as before: it is another rule that holds for the node."""
    rules = snapshot({"egress": [{"toCIDR": ["10.0.0.0/8"], **TO_80}, ANY_80]})
    known = having(rules, workload("api"), nodes=(model.Node("n", {}, ("10.9.0.1",)),))
    without = having(rules, workload("api"))
    assert told(without, known) == told(known, without) == ["requests, because rules are about nodes"]
    rules = snapshot(ingress({**ROLE_DB, **TO_80}, ANY_80))
    old, new = (
        having(rules, workload("api"), nodes=(model.Node("n", {"role": role}, ("10.9.0.1",)),))
        for role in ("db", "web")
    )
    assert told(old, new) == ["requests, because rules are about nodes"]
    assert told(old, old) == []


def test_requests_of_what_is_on_the_same_node_now() -> None:
    rules = snapshot({"egress": [{"toEntities": ["remote-node"], **TO_80}, {"toEntities": ["host"], **ANY_80}]})
    api, agent = workload("api", node="n1"), workload("agent", host_network=True, node="n2")
    old, new = having(rules, api, agent), having(rules, api, dataclasses.replace(agent, node="n1"))
    assert told(old, new) == ["requests or names, because it is on another node"]
    assert told(old, having(rules, dataclasses.replace(api, node="n2"), agent))[-1:] == [
        "requests or names, because it is on another node"
    ]
    # Rules for requests of pods leave all nodes free.
    rules = snapshot({"egress": [{"toEndpoints": WEB["fromEndpoints"], **TO_80}, ANY_80]})
    assert told(having(rules, api, agent), having(rules, api, dataclasses.replace(agent, node="n1"))) == []


def test_requests_to_an_address_that_is_no_pods_any_more() -> None:
    rules = snapshot({"egress": [{"toEndpoints": WEB["fromEndpoints"], **TO_80}, ANY_80]})
    old, new = (having(rules, workload("api"), workload("web", ips=ips)) for ips in (("10.1.1.1",), ()))
    assert told(old, new) == ["requests or names, because it has no address any more"]
    assert told(new, old) == []


def test_the_api_server_for_a_policy_of_nodes() -> None:
    spec: Doc = {"egressDeny": [{"toEntities": ["kube-apiserver"]}]}
    rules = snapshot(spec, kind="CiliumClusterwideNetworkPolicy", nodeSelector={})
    old, new = (
        having(rules, services=(model.Service("default", "kubernetes", endpoints=(ip,)),))
        for ip in ("10.9.0.1", "10.9.0.2")
    )
    assert told(old, new) == ["requests, because the API server is at 10.9.0.2"]
