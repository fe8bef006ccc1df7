"""What Kubernetes has to workloads, nodes and the addresses behind services; each workload once."""

import json
from pathlib import Path
from typing import Any

import pytest
from click import testing

from control import model
from control.analysis import world
from control.cli.main import cli
from control.source import manifests
from loader import abi

PORT = model.ContainerPort
OWN_LABEL = {"app": "web"}


def pod(name: str, spec: Any = None, status: Any = None, **metadata: Any) -> dict[str, Any]:
    given = {"name": name, "namespace": "shop", "labels": OWN_LABEL, **metadata}
    out = {"apiVersion": "v1", "kind": "Pod", "metadata": given, "spec": spec or {"containers": [{"name": "c"}]}}
    return out | ({"status": status} if status is not None else {})


def controller(kind: str, name: str, of_pods: dict[str, str], **metadata: Any) -> dict[str, Any]:
    version = "v1" if kind == "ReplicationController" else "batch/v1" if kind in ("Job", "CronJob") else "apps/v1"
    spec: Any = {"template": {"metadata": {"labels": of_pods}, "spec": {"containers": [{"name": "c"}]}}}
    spec = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}} if kind == "CronJob" else spec | {"replicas": 2}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": "shop", **metadata},
        "spec": spec,
    }


def owned(kind: str, name: str) -> dict[str, Any]:
    other = {"kind": "Team", "name": "x", "apiVersion": "example.com/v1"}
    return {"ownerReferences": [other, {"kind": kind, "name": name, "controller": True, "uid": "1"}]}


def load(path: Path, *documents: Any) -> model.LoadResult:
    (path / "x.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}, indent=1))
    return manifests.load([path / "x.json"])


def good(path: Path, *documents: Any) -> model.Snapshot:
    found = load(path, *documents)
    assert found.problems == ()
    return found.snapshot


def told(path: Path, *documents: Any) -> list[str]:
    return [f"{p.path}: {p.message}".removeprefix("items[0].") for p in load(path, *documents).problems]


def who(snapshot: model.Snapshot) -> list[str]:
    return [f"{w.kind} {w}" for w in snapshot.workloads]


def test_a_pod(tmp_path: Path) -> None:
    spec = {
        "serviceAccountName": "robot",
        "nodeName": "n1",
        "priority": 0,
        "containers": [
            {"name": "a", "image": "x", "ports": [{"name": "HTTP", "containerPort": 80}, {"containerPort": 81}]},
            {"name": "b", "ports": [{"name": "dns", "containerPort": 53, "protocol": "UDP", "hostPort": 53}]},
        ],
        "initContainers": [
            {"name": "once", "ports": [{"name": "gone", "containerPort": 1}]},
            {"name": "side", "restartPolicy": "Always", "ports": [{"name": "probe", "containerPort": 9}]},
        ],
    }
    status = {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "FD00::1"}]}
    assert good(tmp_path, pod("web", spec, status)).workloads == (
        model.Workload(
            namespace="shop",
            name="web",
            labels=OWN_LABEL,
            service_account="robot",
            ips=("10.0.0.1", "fd00::1"),
            ports=(PORT("http", 80), PORT("dns", 53, abi.Proto.UDP), PORT("probe", 9)),
            node="n1",
            source=f"{tmp_path}/x.json:5",
        ),
    )


def test_a_pod_of_few_words(tmp_path: Path) -> None:
    given = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}}
    (found,) = good(tmp_path, given).workloads
    assert (found.namespace, found.service_account, found.ips, found.ports) == ("default", "default", (), ())


def test_pods_that_have_no_address_of_their_own(tmp_path: Path) -> None:
    status = {"phase": "Running", "podIP": "192.168.0.1", "podIPs": [{"ip": "192.168.0.1"}]}
    pods = [pod(f"host{i}", {"hostNetwork": True, "containers": []}, status) for i in range(2)]
    pending = pod("pending", status={"phase": "Pending", "podIP": ""})
    finished = [pod(phase.lower(), status=status | {"phase": phase}) for phase in ("Succeeded", "Failed")]
    found = good(tmp_path, *pods, pending, *finished).workloads
    assert [(w.name, w.host_network, w.ips) for w in found] == [
        ("host0", True, ()), ("host1", True, ()), ("pending", False, ()),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "ReplicationController"]
)
def test_pod_templates(tmp_path: Path, kind: str) -> None:
    snapshot = good(tmp_path, controller(kind, "web", OWN_LABEL, labels={"not": "the-pods"}))
    assert snapshot.workloads == (
        model.Workload("shop", "web", OWN_LABEL, service_account="default", kind=kind, source=f"{tmp_path}/x.json:5"),
    )


def test_a_job_whose_name_is_not_chosen_yet(tmp_path: Path) -> None:
    job = controller("Job", "x", OWN_LABEL, generateName="once-")
    del job["metadata"]["name"]
    assert who(good(tmp_path, job)) == ["Job shop/once"]


def test_workloads_of_different_kinds_may_share_a_name(tmp_path: Path) -> None:
    both = [controller(kind, "web", OWN_LABEL) for kind in ("StatefulSet", "Deployment")]
    assert who(good(tmp_path, *both, pod("web"))) == ["Deployment shop/web", "Pod shop/web", "StatefulSet shop/web"]


@pytest.mark.parametrize(
    ("document", "messages"),
    [
        (
            pod("web", {"containers": [{"ports": [{"name": "toolongaportname", "containerPort": "80"}]}]}),
            [
                "spec.containers[0].ports[0].containerPort: must be a number from 1 to 65535, is a string",
                'spec.containers[0].ports[0].name: invalid "toolongaportname" (a port number, or a port name of at '
                "most 15 letters, digits and single dashes)",
            ],
        ),
        (
            pod("web", {"containers": [{"ports": [{"name": "a", "containerPort": 0, "protocol": "ICMP"}]}, 3]}),
            [
                'spec.containers[0].ports[0].containerPort: invalid "0" (a number from 1 to 65535)',
                'spec.containers[0].ports[0].protocol: unknown "ICMP" (TCP, UDP, SCTP)',
                "spec.containers[1]: must be a mapping, is a number",
            ],
        ),
        (pod("web", {"hostNetwork": "true"}), ["spec.hostNetwork: must be true or false, is a string"]),
        (pod("web", {"containers": {}}), ["spec.containers: must be a list, is a mapping"]),
        (pod("web", [1]), ["spec: must be a mapping, is a list"]),
        (pod("web", labels={"a": 1}), ["metadata.labels.a: must be a string (in quotes), is a number"]),
        (
            pod("web", labels={"io.cilium.k8s.policy.serviceaccount": "root"}),
            ["items[0]: metadata.labels: io.cilium.k8s.policy.serviceaccount is set by sockmesh, not by a workload"],
        ),
        (
            pod("web", status={"podIPs": [{"ip": "1.2.3"}]}),
            ['status.podIPs[0].ip: invalid "1.2.3" (an IPv4 or IPv6 address)'],
        ),
        (pod("Web"), ['metadata.name: invalid "Web" (at most 253 lower-case letters, digits, dashes and dots)']),
        ({"apiVersion": "v1", "kind": "Pod"}, ["items[0]: metadata is missing", "items[0]: spec is missing"]),
        (
            controller("Deployment", "web", {"a b": "c"}),
            [
                "spec.template.metadata.labels.a b: invalid label key (an optional DNS name and /, then at most 63 "
                "letters, digits, - _ and ., beginning and ending with a letter or digit)"
            ],
        ),
        (controller("Deployment", "web", {}) | {"spec": {"replicas": 1}}, ["spec: template is missing"]),
        (controller("CronJob", "web", {}) | {"spec": {"template": 1}}, ["spec: jobTemplate is missing"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_workload(tmp_path: Path, document: Any, messages: list[str]) -> None:
    assert told(tmp_path, document) == messages
    assert load(tmp_path, document).snapshot == model.Snapshot()


RUNNING = {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}
HASHED = {"labels": OWN_LABEL | {"pod-template-hash": "7d4b"}}


@pytest.mark.parametrize("has_set", [True, False])
def test_a_deployment_stands_for_its_pods_with_or_without_the_replica_set(tmp_path: Path, has_set: bool) -> None:
    between = [controller("ReplicaSet", "web-7d4b", OWN_LABEL, **owned("Deployment", "web"))] if has_set else []
    mine = pod("web-7d4b-1", None, RUNNING, **HASHED, **owned("ReplicaSet", "web-7d4b"))
    snapshot = good(tmp_path, mine, *between, controller("Deployment", "web", OWN_LABEL))
    assert who(snapshot) == ["Deployment shop/web"]
    assert snapshot.workloads[0].ips == ("10.0.0.1",)
    assert type(snapshot.workloads[0]) is model.Workload


@pytest.mark.parametrize(
    ("owner", "name", "manifest"),
    [
        ("StatefulSet", "web", "StatefulSet"),
        ("DaemonSet", "web", "DaemonSet"),
        ("Job", "web", "Job"),
        ("Job", "web-29384", "CronJob"),
        ("ReplicationController", "web", "ReplicationController"),
    ],
)
def test_a_pod_is_left_out_for_what_made_it(tmp_path: Path, owner: str, name: str, manifest: str) -> None:
    snapshot = good(tmp_path, pod("web-1", **owned(owner, name)), controller(manifest, "web", OWN_LABEL))
    assert who(snapshot) == [f"{manifest} shop/web"]


@pytest.mark.parametrize(
    "mine",
    [
        pod("web-1"),
        pod("web-1", **owned("Node", "n1")),
        pod("web-1", **owned("ReplicaSet", "web-7d4b")),  # without the hash nobody can tell whose set that was
        pod("web-1", **owned("ReplicaSet", "other-7d4b"), **HASHED),
        pod("web-1", **owned("ReplicaSet", "web-7d4b"), labels={"app": "quarantine", "pod-template-hash": "7d4b"}),
        pod("web-1", **owned("ReplicaSet", "web-7d4b"), **HASHED, namespace="elsewhere"),
        pod("web-1", ownerReferences=[{"kind": "Deployment", "name": "web"}]),
    ],
)
def test_a_pod_that_is_nobodys_stays(tmp_path: Path, mine: dict[str, Any]) -> None:
    snapshot = good(tmp_path, mine, controller("Deployment", "web", OWN_LABEL))
    assert [w.kind for w in snapshot.workloads if w.name == "web-1"] == ["Pod"]


NAMED = "statefulset.kubernetes.io/pod-name"


@pytest.mark.parametrize(
    ("spec", "is_told"),
    [
        ({"podSelector": {}}, False),
        ({"podSelector": {"matchLabels": OWN_LABEL}}, False),
        ({"podSelector": {"matchLabels": {NAMED: "web-0"}}}, True),
        ({"podSelector": {"matchExpressions": [{"key": NAMED, "operator": "DoesNotExist"}]}}, True),
        ({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {NAMED: "web-0"}}}]}]}, True),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": "side"}]}]}, True),
        ({"podSelector": {}, "ingress": [{"ports": [{"port": "other"}]}]}, False),
    ],
)
def test_a_pod_that_policies_tell_from_its_template_stays(tmp_path: Path, spec: dict[str, Any], is_told: bool) -> None:
    mine = pod("web-0", labels=OWN_LABEL | {NAMED: "web-0"}, **owned("StatefulSet", "web"))
    mine["spec"]["containers"][0]["ports"] = [{"name": "side", "containerPort": 80}]
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
              "metadata": {"name": "p", "namespace": "shop"}, "spec": spec}  # fmt: skip
    snapshot = good(tmp_path, mine, controller("StatefulSet", "web", OWN_LABEL), policy)
    assert who(snapshot) == ["StatefulSet shop/web", *(["Pod shop/web-0"] if is_told else [])]
    assert world.World(snapshot).end("shop/web-0").name == ("shop/web-0" if is_told else "shop/web")


def test_a_policy_that_tells_pods_apart_opens_nothing(tmp_path: Path) -> None:
    old = [pod(name, labels=OWN_LABEL | {NAMED: name}, **owned("StatefulSet", "web")) for name in ("web-0", "web-1")]
    old.append(controller("StatefulSet", "web", OWN_LABEL))
    spec = {"podSelector": {"matchLabels": {NAMED: "web-0"}}, "policyTypes": ["Ingress", "Egress"]}
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
              "metadata": {"name": "p", "namespace": "shop"}, "spec": spec}  # fmt: skip
    files = [tmp_path / "old.json", tmp_path / "new.json"]
    for file, items in zip(files, (old, [*old, policy]), strict=True):
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    words = ["policy", "diff", "--no-new-access", *map(str, files)]
    found = testing.CliRunner().invoke(cli, words)
    assert (found.exit_code, "shop/web-0" in found.stdout, "+" in found.stdout) == (0, True, False)
    assert testing.CliRunner().invoke(cli, [*words[:3], *words[:2:-1]]).exit_code == 1


def test_owners_in_a_circle(tmp_path: Path) -> None:
    first = controller("ReplicaSet", "a", OWN_LABEL, **owned("ReplicaSet", "b"))
    second = controller("ReplicaSet", "b", OWN_LABEL, **owned("ReplicaSet", "a"))
    itself = controller("ReplicaSet", "c", OWN_LABEL, **owned("ReplicaSet", "c"))
    assert who(good(tmp_path, first, second, itself)) == [f"ReplicaSet shop/{name}" for name in "abc"]


def test_a_folded_pod_is_known_by_its_own_name(tmp_path: Path) -> None:
    labels = OWN_LABEL | {"pod-template-hash": "7d"}
    mine = pod("web-7d-x", labels=labels, **owned("ReplicaSet", "web-7d"))
    snapshot = good(tmp_path, mine, controller("Deployment", "web", OWN_LABEL))
    assert snapshot.folded == {"shop/web-7d-x": "shop/web"}
    assert world.World(snapshot).end("shop/web-7d-x").name == "shop/web"
    snapshot = good(tmp_path, mine, controller("Deployment", "web", OWN_LABEL), controller("Job", "web", OWN_LABEL))
    assert snapshot.folded == {"shop/web-7d-x": "shop/Deployment/web"}
    everybody = world.World(snapshot)
    assert everybody.end("shop/web-7d-x").name == "shop/Deployment/web"
    with pytest.raises(world.Unknown) as caught:
        everybody.end("shop/web")
    assert str(caught.value) == "several kinds are called shop/web (say which: shop/Deployment/web, shop/Job/web)"


def test_names_that_are_not_chosen_yet_do_not_clash(tmp_path: Path) -> None:
    begun = [pod("", generateName="web-") for _ in range(3)]
    for each in begun:
        del each["metadata"]["name"]
    assert who(good(tmp_path, *begun, pod("web"), pod("web-2"))) == [
        "Pod shop/web", "Pod shop/web-2", "Pod shop/web-3", "Pod shop/web-4", "Pod shop/web-5",
    ]  # fmt: skip


def test_nodes(tmp_path: Path) -> None:
    addresses = [
        ("Hostname", "n1"),
        ("InternalIP", "192.168.0.1"),
        ("ExternalIP", "FD00::9"),
        ("InternalIP", "192.168.0.1"),
    ]
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "n1", "labels": {"zone": "a"}, "annotations": {"x": "y"}},
        "spec": {"podCIDR": "10.0.0.0/24"},
        "status": {"addresses": [{"type": t, "address": a} for t, a in addresses], "capacity": {"cpu": 4}},
    }
    source = f"{tmp_path}/x.json:5"
    assert good(tmp_path, node).nodes == (model.Node("n1", {"zone": "a"}, ("192.168.0.1", "fd00::9"), source),)
    node["status"] = {"addresses": [{"type": "InternalIP", "address": "n1"}, {"type": "InternalIP"}]}
    assert told(tmp_path, node) == [
        'status.addresses[0].address: invalid "n1" (an IPv4 or IPv6 address)',
        "status.addresses[1]: address is missing",
    ]


def service(selector: dict[str, str], target: Any = 80) -> dict[str, Any]:
    spec = {
        "clusterIP": "10.96.0.1",
        "selector": selector,
        "ports": [{"name": "web", "port": 80, "targetPort": target}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db", "namespace": "shop"}, "spec": spec}


def slice_of(name: str, service: str, *endpoints: Any, kind: str = "IPv4", port: int | None = 5432) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": service}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop", "labels": labels},
        "addressType": kind,
        "endpoints": list(endpoints),
        "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
    }


OLD = {
    "apiVersion": "v1",
    "kind": "Endpoints",
    "metadata": {"name": "db", "namespace": "shop"},
    "subsets": [
        {
            "addresses": [{"ip": "192.0.2.1", "hostname": "a"}, {"ip": "192.0.2.2"}],
            "notReadyAddresses": [{"ip": "192.0.2.3"}],
            "ports": [{"name": "web", "port": 5432}],
        }
    ],
}


def test_the_addresses_of_a_service_that_selects_nobody(tmp_path: Path) -> None:
    ready = {"addresses": ["192.0.2.2", "192.0.2.4"], "conditions": {"ready": True}}
    slices = [
        slice_of("db-1", "db", ready, {"addresses": ["192.0.2.5"], "conditions": {"ready": False}}),
        slice_of("db-2", "db", {"addresses": ["fd00::1"]}, kind="IPv6", port=None),
        slice_of("db-3", "db", {"addresses": ["db.example.com"]}, kind="FQDN"),
        slice_of("db-4", "other", {"addresses": ["192.0.2.9"]}),
    ]
    (found,) = good(tmp_path, OLD, *slices, service({})).services
    assert found.endpoints == ("192.0.2.1", "192.0.2.2", "192.0.2.4", "fd00::1")
    assert found.ports == (model.ServicePort(80, "web", 5432),)


def test_the_addresses_of_a_selector_are_those_of_the_pods(tmp_path: Path) -> None:
    (found,) = good(tmp_path, OLD, service(OWN_LABEL)).services
    assert (found.endpoints, found.ports[0].target_port) == ((), 80)


def test_a_service_with_all_that_policy_need_not_know(tmp_path: Path) -> None:
    given = service(OWN_LABEL, "http")
    given["spec"] |= {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {}, "new": 1}
    found = load(tmp_path, given)
    assert (found.problems, found.advice) == ((), ())
    assert found.snapshot.services[0].ports == (model.ServicePort(80, "web", "http"),)


@pytest.mark.parametrize(("value", "is_audit"), [("true", True), ("false", False)])
def test_the_audit_of_a_namespace(tmp_path: Path, value: str, is_audit: bool) -> None:
    given = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "annotations": {"sockmesh.io/audit": value}},
    }
    assert [n.audit for n in good(tmp_path, given).namespaces] == [is_audit]


@pytest.mark.parametrize(
    ("value", "message"),
    [("yes", 'unknown "yes" (true, false)'), (True, "must be a string (in quotes), is a boolean")],
)
def test_an_audit_that_is_neither(tmp_path: Path, value: Any, message: str) -> None:
    given = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "annotations": {"sockmesh.io/audit": value}},
    }
    assert told(tmp_path, given) == [f"metadata.annotations.sockmesh.io/audit: {message}"]
    assert load(tmp_path, given).snapshot.namespaces == ()
