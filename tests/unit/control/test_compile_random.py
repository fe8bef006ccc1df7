"""Random policies: the lookup over compiled entries agrees with a plain reading of the documents.

The plain reading here shares nothing with the compiler: it works on the raw documents, with its own idea of labels,
addresses and ports, and asks each rule in turn.
"""

import ipaddress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import compile as compiler
from control import evaluate, identity, model
from control.policy import field
from control.source import objects
from loader import abi

Doc = dict[str, Any]

PODS = {
    "n/a": ("10.0.0.1", {"app": "a", "env": "p"}),
    "n/b": ("10.0.0.2", {"app": "b"}),
    "m/a": ("10.0.0.3", {"app": "a"}),
    "m/c": ("10.0.0.4", {"app": "c", "env": "q"}),
}
HOST = "10.0.0.254"
OUTSIDE = ("192.0.2.1", "192.0.2.129", "192.0.3.1", "8.8.8.8")
PORTS = (0, 1, 79, 80, 81, 1023, 1024, 4095, 65535)
PREFIXES = ("0.0.0.0/0", "192.0.2.0/23", "192.0.2.0/24", "192.0.2.128/25", "192.0.2.129/32", "10.0.0.0/8", "8.0.0.0/6")

labels = st.fixed_dictionaries({}, optional={"app": st.sampled_from("abc"), "env": st.sampled_from("pq")})
expressions = st.lists(
    st.one_of(
        st.fixed_dictionaries({
            "key": st.sampled_from(("app", "env")),
            "operator": st.sampled_from(("In", "NotIn")),
            "values": st.lists(st.sampled_from("abpq"), min_size=1, max_size=2),
        }),
        st.fixed_dictionaries({
            "key": st.sampled_from(("app", "env")), "operator": st.sampled_from(("Exists", "DoesNotExist"))
        }),
    ),
    max_size=1,
)  # fmt: skip
selector = st.fixed_dictionaries({}, optional={"matchLabels": labels, "matchExpressions": expressions})


@st.composite
def cidr_sets(draw: st.DrawFn) -> Doc:
    outer = draw(st.sampled_from(PREFIXES))
    inside = [p for p in PREFIXES if p != outer and ipaddress.ip_network(p).subnet_of(ipaddress.ip_network(outer))]  # type: ignore[arg-type]
    excepts = draw(st.lists(st.sampled_from(inside), max_size=2)) if inside else []
    return {"cidr": outer, "except": excepts}


@st.composite
def port_items(draw: st.DrawFn) -> Doc:
    port = draw(st.sampled_from(PORTS))
    item: Doc = {"port": str(port), "protocol": draw(st.sampled_from(("TCP", "UDP", "ANY")))}
    if port and draw(st.booleans()):
        item["endPort"] = draw(st.sampled_from([p for p in PORTS if p >= port]))
    return item


@st.composite
def rules(draw: st.DrawFn, way: str) -> Doc:
    rule: Doc = {}
    match draw(st.integers(0, 4)):
        case 1:
            rule[way + "Endpoints"] = draw(st.lists(selector, max_size=2))
        case 2:
            rule[way + "CIDRSet"] = draw(st.lists(cidr_sets(), min_size=1, max_size=2))
        case 3:
            entities = st.sampled_from(("all", "world", "host", "cluster", "none"))
            rule[way + "Entities"] = draw(st.lists(entities, min_size=1, max_size=2))
        case 4:
            rule[way + "CIDR"] = draw(st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=2))
    if draw(st.booleans()):
        rule["toPorts"] = [{"ports": draw(st.lists(port_items(), min_size=1, max_size=2))}]
    return rule


@st.composite
def policies(draw: st.DrawFn) -> Doc:
    namespace = draw(st.sampled_from(("n", "m", "")))
    spec: Doc = {"endpointSelector": draw(selector)}
    for key, way in (("ingress", "from"), ("ingressDeny", "from"), ("egress", "to"), ("egressDeny", "to")):
        if found := draw(st.lists(rules(way), max_size=2)):
            spec[key] = found
    if not spec.keys() - {"endpointSelector"}:
        spec["ingress"] = [{}]
    if draw(st.booleans()):
        spec["enableDefaultDeny"] = draw(st.dictionaries(st.sampled_from(("ingress", "egress")), st.booleans()))
    if draw(st.integers(0, 3)) == 0:
        spec["audit"] = True
    kind = "MeshNetworkPolicy" if namespace else "ClusterMeshNetworkPolicy"
    metadata = {"namespace": namespace} if namespace else {}
    return {"apiVersion": "sockmesh.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def matches(sel: Doc, of: dict[str, str]) -> bool:
    if any(of.get(k) != v for k, v in sel.get("matchLabels", {}).items()):
        return False
    for e in sel.get("matchExpressions", ()):
        value = of.get(e["key"])
        holds = {
            "In": value in e.get("values", ()),
            "NotIn": value not in e.get("values", ()),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }
        if not holds[e["operator"]]:
            return False
    return True


def inside(ip: str, prefix: str) -> bool:
    return ipaddress.ip_address(ip) in ipaddress.ip_network(prefix)


def rule_matches(rule: Doc, way: str, namespace: str, peer: str, proto: str, port: int) -> bool:
    pod = next((name for name, (ip, _) in PODS.items() if ip == peer), None)
    outside = pod is None and peer != HOST
    if not rule:
        return False
    who = True
    if way + "Endpoints" in rule:
        who = pod is not None and any(
            matches(s, PODS[pod][1]) and namespace in ("", pod.split("/")[0]) for s in rule[way + "Endpoints"]
        )
    elif way + "CIDRSet" in rule:
        who = outside and any(
            inside(peer, s["cidr"]) and not any(inside(peer, e) for e in s["except"]) for s in rule[way + "CIDRSet"]
        )
    elif way + "CIDR" in rule:
        who = outside and any(inside(peer, p) for p in rule[way + "CIDR"])
    elif way + "Entities" in rule:
        meaning = {"all": True, "none": False, "world": outside, "host": peer == HOST, "cluster": not outside}
        who = any(meaning[e] for e in rule[way + "Entities"])
    if not who or "toPorts" not in rule:
        return who
    for item in rule["toPorts"][0]["ports"]:
        first = int(item["port"])
        last = item.get("endPort") or first
        if (
            item["protocol"] in (proto, "ANY")
            and proto in ("TCP", "UDP", "SCTP")
            and (not first or first <= port <= last)
        ):
            return True
    return False


def judge(docs: list[Doc], subject: str, direction: str, peer: str, proto: str, port: int, audits: bool) -> bool:
    """Say what the policies of one endpoint say, by asking every rule."""
    way = "from" if direction == "ingress" else "to"
    default_deny = allow = deny = False
    for doc in docs:
        spec, namespace = doc["spec"], doc["metadata"].get("namespace", "")
        if namespace not in ("", subject.split("/")[0]) or not matches(spec["endpointSelector"], PODS[subject][1]):
            continue
        if spec.get("audit") and not audits:
            continue
        has = bool(spec.get(direction) or spec.get(direction + "Deny"))
        default_deny |= spec.get("enableDefaultDeny", {}).get(direction, has)
        allow |= any(rule_matches(r, way, namespace, peer, proto, port) for r in spec.get(direction, ()))
        deny |= any(rule_matches(r, way, namespace, peer, proto, port) for r in spec.get(direction + "Deny", ()))
    return not deny and (allow or not default_deny or (direction == "ingress" and peer == HOST))


def read(docs: list[Doc]) -> model.Snapshot:
    workloads = tuple(
        model.Workload(name.split("/")[0], name.split("/")[1], of, "default", (ip,)) for name, (ip, of) in PODS.items()
    )
    report = field.Report("t.yaml")
    parsed = objects.read_documents([field.Node.of(doc) for doc in docs], report)
    assert not report.problems
    return model.Snapshot(workloads, policies=tuple(p.obj for p in parsed if isinstance(p.obj, model.Policy)))


FACTS = {(*name.split("/"),): compiler.EndpointFacts(i + 1, i + 1, i + 1) for i, name in enumerate(PODS)}


@pytest.mark.timeout(600)
@settings(max_examples=300, deadline=None)
@given(st.lists(policies(), max_size=4), st.sampled_from(sorted(PODS)), st.sampled_from((0, 80, 1000, 65535)))
def test_the_lookup_agrees_with_a_plain_reading(docs: list[Doc], subject: str, extra: int) -> None:
    docs = [{**doc, "metadata": {**doc["metadata"], "name": f"p{i}"}} for i, doc in enumerate(docs)]
    snapshot = read(docs)
    node = compiler.NodeInfo("node", (HOST,))
    desired, _, _ = compiler.compile_state(snapshot, identity.Allocation(), FACTS, node)  # type: ignore[arg-type]
    view = evaluate.View(desired)
    ip = PODS[subject][0]
    endpoint = view.endpoint(ip)
    assert endpoint is not None
    has_audit = bool(endpoint.flags & abi.EndpointFlag.HAS_AUDIT)
    for peer in (HOST, *OUTSIDE, *(other for other, _ in PODS.values() if other != ip)):
        for proto in (abi.Proto.TCP, abi.Proto.UDP, abi.Proto.SCTP, abi.Proto.ICMP):
            for port in {*PORTS, extra} if proto != abi.Proto.ICMP else {8}:
                for direction in abi.Direction:
                    found = view.decide(endpoint, direction, view.identity(peer), proto, port)
                    asked = (subject, direction.name.lower(), peer, proto.name, port)
                    assert found.found
                    assert found.allowed == judge(docs, *asked, audits=False), asked
                    assert found.audit_found == has_audit
                    if has_audit:
                        assert (found.audit_verdict == abi.Verdict.ALLOW) == judge(docs, *asked, audits=True), asked
