"""Random changes: what a trace says is opened, a comparison does not call closed.

Some pods are only in what is traced: the comparison is to know of them what no file declares.
"""

import dataclasses
import itertools
import json
import random

import pytest

from control import model
from control.analysis import trace, world
from control.analysis.call import Call
from control.analysis.change import beside
from control.analysis.change.diff import difference
from control.policy import field
from control.source import objects
from loader import abi
from tests.unit.control.test_analysis_connectivity import Doc

PORTS = ((abi.Proto.TCP, 80), (abi.Proto.TCP, 81), (abi.Proto.UDP, 53), (abi.Proto.ICMP, 8))
OUTSIDE = ("10.1.2.3", "192.0.2.9", "10.9.0.1")
# Those from 200 on were missed once.
SEEDS = (*range(100), 293, 368, 382, 407, 573, 648, 665, 666, 742, 841, 851, 1082, 1160, 1187, 1251, 1280, 1316)


def one_of(given: random.Random, *choices: object) -> object:
    return given.choice(choices)


def a_selector(given: random.Random, other_namespaces: bool = False) -> Doc:
    key, values = given.choice((("app", "abc"), ("tier", "ab")))
    choices: list[Doc] = [
        {},
        {"matchLabels": {key: given.choice(values)}},
        {"matchExpressions": [{"key": key, "operator": given.choice(("In", "NotIn")), "values": [values[0]]}]},
        {"matchExpressions": [{"key": key, "operator": given.choice(("Exists", "DoesNotExist"))}]},
    ]
    if other_namespaces:
        choices.append({"matchLabels": {"io.cilium.k8s.namespace.labels.team": given.choice("qr")}})
        choices.append({"matchLabels": {"k8s:io.kubernetes.pod.namespace": given.choice("xy"), "app": "a"}})
    return given.choice(choices)


def a_rule(given: random.Random, way: str) -> Doc:
    kind = given.choice(("Endpoints", "Endpoints", "Entities", "CIDR", ""))
    rule: Doc = {}
    if kind == "Endpoints":
        rule[way + kind] = [a_selector(given, other_namespaces=True)]
    elif kind == "Entities":
        rule[way + kind] = [one_of(given, "all", "world", "cluster", "host", "remote-node", "kube-apiserver")]
    elif kind:
        rule[way + kind] = [one_of(given, "10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0")]
    if given.random() < 0.5:
        port = {"port": one_of(given, "80", "web", "0"), "protocol": one_of(given, "TCP", "ANY")}
        rule["toPorts"] = [{"ports": [port]}]
    return rule


def a_policy(given: random.Random, name: str) -> Doc:
    spec: Doc = {"endpointSelector": a_selector(given)}
    for key in given.sample(("ingress", "egress", "ingressDeny", "egressDeny"), given.choice((1, 1, 2))):
        way = "from" if key.startswith("in") else "to"
        spec[key] = [a_rule(given, way) for _ in range(given.choice((1, 1, 2)))]
    if given.random() < 0.2:
        spec["enableDefaultDeny"] = {one_of(given, "ingress", "egress"): given.random() < 0.5}
    namespace = given.choice(("x", "y", ""))
    kind = "MeshNetworkPolicy" if namespace else "ClusterMeshNetworkPolicy"
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "sockmesh.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def a_pod(given: random.Random, name: str) -> model.Workload:
    labels = {"app": given.choice("abc")} | ({"tier": given.choice("ab")} if given.random() < 0.5 else {})
    ports = (model.ContainerPort("web", given.choice((80, 81))),) if given.random() < 0.4 else ()
    on_host = given.random() < 0.25
    node = given.choice(("", "n1", "n2"))
    ips = () if on_host or given.random() < 0.5 else (f"10.1.3.{name[1:]}",)
    return model.Workload(
        given.choice("xy"), name, labels, "default", ips, "", "", "", True, ports, node, "", "Pod", on_host
    )


def namespaces(given: random.Random) -> tuple[model.Namespace, ...]:
    return tuple(model.Namespace(name, {"team": given.choice("qr")}) for name in "xy" if given.random() < 0.6)


def nodes(given: random.Random) -> tuple[model.Node, ...]:
    return (model.Node("n1", {}, (given.choice(OUTSIDE[::2]),)),) if given.random() < 0.4 else ()


def read(documents: list[Doc]) -> tuple[model.Policy, ...]:
    report = field.Report("t.yaml")
    parsed = objects.read_documents([field.Node.of(json.loads(json.dumps(each))) for each in documents], report)
    assert not report.problems
    return tuple(each.obj for each in parsed if isinstance(each.obj, model.Policy))


def changed(given: random.Random, old: model.Snapshot, documents: list[Doc]) -> model.Snapshot:
    """Return the snapshot with one thing that is another one."""
    match given.choice(("policy", "policy", "rule", "rule", "rule", "pod", "node", "namespaces", "nodes", "ips")):
        case "policy":
            left = given.sample(documents, len(documents) - given.choice((0, 1)))
            return dataclasses.replace(
                old, policies=read([*left, *([a_policy(given, "new")] * given.choice((0, 0, 1)))])
            )
        case "rule":
            documents = json.loads(json.dumps(documents))
            spec = given.choice(documents)["spec"]
            key = given.choice([key for key in spec if key.startswith(("ingress", "egress"))])
            way = "from" if key.startswith("in") else "to"
            left = [*spec[key][1:], *([a_rule(given, way)] * given.choice((0, 1)))]
            spec[key] = left or [{way + "Entities": ["none"]}]
            return dataclasses.replace(old, policies=read(documents))
        case "namespaces":
            return dataclasses.replace(old, namespaces=namespaces(given))
        case "nodes":
            return dataclasses.replace(old, nodes=nodes(given))
    pods = list(old.workloads)
    place = given.randrange(len(pods))
    other = a_pod(given, pods[place].name)
    ips = other.ips if given.random() < 0.5 else ()
    pods[place] = dataclasses.replace(
        given.choice((
            dataclasses.replace(pods[place], labels=other.labels, ports=other.ports),
            dataclasses.replace(pods[place], node=other.node),
            dataclasses.replace(pods[place], ips=() if pods[place].host_network else ips),
        ))
    )  # fmt: skip
    return dataclasses.replace(old, workloads=tuple(pods))


def verdicts(snapshot: model.Snapshot) -> dict[tuple[object, ...], str]:
    known = world.World(snapshot)
    ends = [*map(str, snapshot.workloads), *OUTSIDE]
    found = {name: known.end(name) for name in ends}
    return {
        (source, destination, *port): trace.trace(known, Call(found[source], found[destination], *port)).verdict
        for source, destination in itertools.permutations(ends, 2)
        for port in PORTS
    }


def without(snapshot: model.Snapshot, hidden: list[model.Workload]) -> model.Snapshot:
    return dataclasses.replace(snapshot, workloads=tuple(w for w in snapshot.workloads if w not in hidden))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_opened_is_never_missed(seed: int) -> None:
    given = random.Random(seed)
    documents = [a_policy(given, f"p{i}") for i in range(given.choice((1, 2, 3)))]
    pods = tuple(a_pod(given, f"w{i}") for i in range(given.choice((2, 4, 5))))
    old = model.Snapshot(pods, namespaces(given), policies=read(documents), nodes=nodes(given))
    new = changed(given, old, documents)
    hidden = [w for w in pods if w in new.workloads and not w.host_network and given.random() < 0.5]
    before, after = without(old, hidden), without(new, hidden)
    opens = difference(before, after).opens or bool(beside.opened(before, after))
    assert not difference(after, after).opens
    assert beside.opened(after, after) == ()
    if not opens:
        was, now = verdicts(old), verdicts(new)
        assert [call for call in now if (was[call], now[call]) == (trace.DENIED, trace.ALLOWED)] == []
