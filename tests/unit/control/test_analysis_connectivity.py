"""What a snapshot allows, as exact JSON for small worlds, and against the lookup for random ones."""

import dataclasses
import ipaddress
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import compile as compiler
from control import evaluate, identity, model
from control.analysis import connectivity, portset, write
from control.policy import field
from control.source import objects
from loader import abi
from tests.unit.control import test_compile_random as world

Doc = dict[str, Any]
EVERYTHING = [{"protocol": proto, "ports": [[1, 65535]]} for proto in ("TCP", "UDP", "SCTP")]
OUTSIDE = {"kind": "IPBlock", "cidrs": ["0.0.0.0/0", "::/0"]}


def pod(name: str, kind: str = "Pod", namespace: str = "shop") -> Doc:
    return {"kind": kind, "namespace": namespace, "name": name}


def tcp(*ports: int) -> list[Doc]:
    return [{"protocol": "TCP", "ports": [[port, port] for port in ports]}]


def workload(name: str, kind: str = "Pod", namespace: str = "shop", **given: Any) -> model.Workload:
    return model.Workload(namespace, name, {"app": name}, "default", kind=kind, **given)


def snapshot(workloads: Iterable[model.Workload], *documents: Doc, namespace: str = "shop") -> model.Snapshot:
    """Return a snapshot of workloads and of network policies of one namespace, given as specs."""
    report = field.Report("t.yaml")
    nodes = [
        field.Node.of({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": f"p{i}", "namespace": namespace}, "spec": spec,
        })
        for i, spec in enumerate(documents)
    ]  # fmt: skip
    parsed = objects.read_documents(nodes, report)
    assert not report.problems
    return model.Snapshot(tuple(workloads), policies=tuple(p.obj for p in parsed if isinstance(p.obj, model.Policy)))


def analysed(workloads: Iterable[model.Workload], *documents: Doc) -> list[Doc]:
    found = connectivity.analyse(snapshot(workloads, *documents))
    out: list[Doc] = json.loads("".join(write.connections_json(found)))["connections"]
    return out


def pair(source: Doc, destination: Doc, allowed: list[Doc]) -> Doc:
    return {"from": source, "to": destination, "allowed": allowed}


def test_without_policy_everybody_may_talk_to_everybody_but_not_to_itself() -> None:
    web, api = pod("web", "Deployment"), pod("api", "StatefulSet")
    assert analysed([workload("web", "Deployment"), workload("api", "StatefulSet")]) == [
        pair(api, web, EVERYTHING),
        pair(api, OUTSIDE, EVERYTHING),
        pair(web, api, EVERYTHING),
        pair(web, OUTSIDE, EVERYTHING),
        pair(OUTSIDE, api, EVERYTHING),
        pair(OUTSIDE, web, EVERYTHING),
    ]
    assert analysed([]) == []


def test_both_ends_must_allow_a_port() -> None:
    only_web = {"podSelector": {"matchLabels": {"app": "web"}}}
    assert analysed(
        [workload("web"), workload("db")],
        {
            "podSelector": {"matchLabels": {"app": "db"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [only_web], "ports": [{"port": 80}, {"port": 8000, "endPort": 8010}]}],
        },
        {
            "podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [{"ports": [{"port": 79, "endPort": 8005}]}],
        },
    ) == [
        pair(pod("web"), pod("db"), [{"protocol": "TCP", "ports": [[80, 80], [8000, 8005]]}]),
        pair(pod("web"), OUTSIDE, [{"protocol": "TCP", "ports": [[79, 8005]]}]),
    ]


def test_the_outside_is_split_where_policies_tell_addresses_apart() -> None:
    ten = {"kind": "IPBlock", "cidrs": ["10.0.0.0/9", "10.128.0.0/10", "fd00::/8"]}
    assert analysed(
        [workload("web")],
        {
            "podSelector": {},
            "policyTypes": ["Ingress", "Egress"],
            "egress": [
                {
                    "to": [
                        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.192.0.0/10"]}},
                        {"ipBlock": {"cidr": "fd00::/8"}},
                    ],
                    "ports": [{"port": 443}],
                }
            ],
        },
        # Ranges that come to the same are not told apart, however many policies name them.
        {
            "podSelector": {},
            "policyTypes": ["Egress"],
            "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/10"}}], "ports": [{"port": 443}]}],
        },
    ) == [pair(pod("web"), ten, tcp(443))]


def test_two_kinds_may_have_one_name_and_named_ports_are_each_their_own() -> None:
    deployment = workload("web", "Deployment", ports=(model.ContainerPort("http", 8080),))
    job = workload("web", "Job", ports=(model.ContainerPort("http", 9090),))
    found = analysed(
        [deployment, job, workload("api")],
        {
            "podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": "http"}]}],
        },
        {"podSelector": {"matchLabels": {"app": "api"}}, "policyTypes": ["Ingress"]},
    )
    assert found == [
        pair(pod("api"), pod("web", "Deployment"), tcp(8080)),
        pair(pod("api"), pod("web", "Job"), tcp(9090)),
        pair(pod("api"), OUTSIDE, EVERYTHING),
    ]


def test_a_workload_on_its_nodes_network_is_in_no_pair() -> None:
    assert analysed([workload("web"), workload("agent", "DaemonSet", host_network=True)]) == [
        pair(pod("web"), OUTSIDE, EVERYTHING),
        pair(OUTSIDE, pod("web"), EVERYTHING),
    ]


def test_the_table_names_kinds_and_what_is_open() -> None:
    workloads = [workload("web", "Deployment"), workload("db")]
    closed = {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress", "Egress"],
              "ingress": [{"from": [{"podSelector": {}}], "ports": [{"port": 5432}]}]}  # fmt: skip
    found = connectivity.analyse(snapshot(workloads, closed))
    assert "".join(write.connections_table(found, str)).splitlines() == [
        "FROM                   TO                     ALLOWED",
        "shop/web (Deployment)  shop/db                TCP 5432",
        "shop/web (Deployment)  the outside            all",
        "the outside            shop/web (Deployment)  all",
    ]
    assert list(write.connections_table(connectivity.analyse(snapshot([])), str)) == []


def test_workloads_that_no_policy_tells_apart_are_judged_once_and_progress_is_told() -> None:
    many = [model.Workload("shop", f"web-{i}", {"app": "web", "pod": str(i)}, "default") for i in range(20)]
    found = connectivity.analyse(snapshot([*many, workload("db")], {"podSelector": {"matchLabels": {"app": "db"}},
                                                                     "policyTypes": ["Ingress"]}))  # fmt: skip
    assert len(set(found.class_of)) == 3
    told: list[tuple[int, int]] = []
    assert sum(1 for _ in found.connections(lambda done, of: told.append((done, of)))) == 20 * 19 + 20 + 20 + 20 + 1
    assert told == [(i + 1, 22) for i in range(22)]


def addresses(end: connectivity.End) -> list[str]:
    if not end.is_outside:
        return [world.PODS[f"{end.namespace}/{end.name}"][0]]
    return [a for a in world.OUTSIDE if any(ipaddress.ip_address(a) in ipaddress.ip_network(c) for c in end.cidrs)]


@pytest.mark.timeout(600)
@settings(max_examples=100, deadline=None)
@given(st.lists(world.policies(), max_size=4), st.sampled_from((1, 80, 1000, 65535)))
def test_pairs_agree_with_the_lookup_over_compiled_entries(docs: list[Doc], extra: int) -> None:
    docs = [{**doc, "metadata": {**doc["metadata"], "name": f"p{i}"}} for i, doc in enumerate(docs)]
    given_snapshot = world.read(docs)
    node = compiler.NodeInfo("node", (world.HOST,))
    desired, _, _ = compiler.compile_state(given_snapshot, identity.Allocation(), world.FACTS, node)  # type: ignore[arg-type]
    view = evaluate.View(desired)
    found = connectivity.analyse(given_snapshot)
    allowed = {(source, destination): ports for source, destination, ports in found.connections()}
    assert list(allowed) == sorted(allowed, key=lambda p: (found.ends.index(p[0]), found.ends.index(p[1])))
    assert all(allowed.values())
    for source in found.ends:
        for destination in found.ends:
            ports = allowed.get((source, destination), portset.NONE)
            if source == destination or (source.is_outside and destination.is_outside):
                assert ports is portset.NONE
                continue
            for a in addresses(source):
                for b in addresses(destination):
                    for proto in portset.PROTOCOLS:
                        for port in {*world.PORTS, extra} - {0}:
                            expected = evaluate.evaluate_pair(view, a, b, proto, port).allowed
                            assert ((proto, port) in ports) == expected, (a, b, abi.Proto(proto).name, port)


@settings(max_examples=100, deadline=None)
@given(st.lists(world.policies(), max_size=4))
def test_every_address_outside_is_in_one_block_and_no_two_blocks_may_the_same(docs: list[Doc]) -> None:
    docs = [{**doc, "metadata": {**doc["metadata"], "name": f"p{i}"}} for i, doc in enumerate(docs)]
    found = connectivity.analyse(world.read(docs))
    blocks = [end for end in found.ends if end.is_outside]
    networks = [ipaddress.ip_network(cidr) for block in blocks for cidr in block.cidrs]
    for version, bits in ((4, 32), (6, 128)):
        assert sum(n.num_addresses for n in networks if n.version == version) == 1 << bits
    may = [
        frozenset((c.source, c.allowed) for c in found.connections() if c.destination == block)
        | frozenset((c.destination, str(c.allowed)) for c in found.connections() if c.source == block)
        for block in blocks
    ]
    assert len(set(may)) == len(may)


def test_two_kinds_of_one_name_are_two() -> None:
    """Each with its own labels, so policy tells them apart."""
    pod, deployment = workload("db"), dataclasses.replace(workload("db", "Deployment"), labels={"app": "other"})
    closed = {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress", "Egress"]}
    ends = {json.dumps(end) for each in analysed([pod, deployment], closed) for end in (each["from"], each["to"])}
    assert json.dumps({"kind": "Deployment", "namespace": "shop", "name": "db"}) in ends
    assert json.dumps({"kind": "Pod", "namespace": "shop", "name": "db"}) not in ends
