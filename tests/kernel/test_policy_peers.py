"""Whom a rule means: address ranges with exceptions, the reserved entities, and what a policy in audit mode does."""

import pytest

from tests.kernel.street import WORLD, Street, app, matches, mesh_part, policy, to_port


def test_a_range_with_an_exception(street: Street, family: int) -> None:
    near, far = WORLD[family]
    whole, hole = ("192.0.2.0/24", "192.0.2.128/25") if family == 4 else ("2001:db8::/32", "2001:db8::ff00/120")
    assert street.connect("client", far, 4201) == "ECONNREFUSED"
    street.enforce(policy("range", "client", egress=[{"toCIDRSet": [{"cidr": whole, "except": [hole]}]}]))
    assert street.connect("client", near, 4201) == "ECONNREFUSED"
    assert street.connect("client", far, 4202) == "EPERM"
    assert [by["name"] for by in street.drop(destination=far, port=4202)["egress_denied_by"]] == ["range"]
    assert street.connect("client", street.gateway(family), 4201) == "EPERM"  # the node's own, in no range at all


def test_a_denied_range_within_an_allowed_one(street: Street, family: int) -> None:
    near, far = WORLD[family]
    deny = [{"toCIDR": [f"{far}/{32 if family == 4 else 128}"]}]
    street.enforce(policy("world", "client", egress=[{"toEntities": ["world"]}], egressDeny=deny))
    assert street.connect("client", near, 4210) == "ECONNREFUSED"
    assert street.connect("client", far, 4210) == "EPERM"
    assert street.drop(destination=far, port=4210)["drop_reason_desc"] == "POLICY_DENY"


def test_a_range_on_the_way_in(street: Street, family: int) -> None:
    near, far = WORLD[family]
    length = 32 if family == 4 else 128
    street.enforce(policy("range", "server", ingress=[{"fromCIDR": [f"{near}/{length}"]}]))
    ip = street.ip("server", family)
    order = """
with socket.socket(family(ip)) as s:
    s.bind((source, 0))
    s.settimeout(wait)
    try:
        s.connect((ip, port))
    except TimeoutError:
        result = 'timeout'
    except OSError as error:
        result = word(error.errno or 0)
"""
    assert street["street"].do(order, ip=ip, source=near, port=4220, wait=5) == "ECONNREFUSED"
    assert street["street"].do(order, ip=ip, source=far, port=4221, wait=0.3) == "timeout"
    assert street.drop(source=far, destination=ip, port=4221)["traffic_direction"] == "INGRESS"


REACHED = {
    "host": {"gateway"},
    "world": {"world"},
    "cluster": {"gateway", "server", "stranger"},
    "all": {"gateway", "server", "stranger", "world"},
}


@pytest.mark.parametrize("entity", REACHED)
def test_entities(street: Street, family: int, entity: str) -> None:
    street.enforce(policy("entity", "client", egress=[{"toEntities": [entity]}]))
    targets = {
        "gateway": street.gateway(family),
        "server": street.ip("server", family),
        "stranger": street.ip("stranger", family),
        "world": WORLD[family][0],
    }
    said = {name: street.connect("client", ip, 4230) for name, ip in targets.items()}
    assert said == {name: "ECONNREFUSED" if name in REACHED[entity] else "EPERM" for name in targets}


def test_the_node_may_always_call_its_pods(street: Street, family: int) -> None:
    street.enforce(policy("closed", "server", ingress=[{}]))
    assert street.connect("street", street.ip("server", family), 4240) == "ECONNREFUSED"


def audit(name: str, pod: str = "server", **spec: object) -> dict[str, object]:
    return {
        "apiVersion": "sockmesh.io/v1",
        "kind": "MeshNetworkPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"audit": True, "endpointSelector": app(pod), **spec},
    }


@pytest.mark.parametrize("caller", ["client", "bare"])
def test_audit_lets_pass_and_tells(street: Street, family: int, caller: str) -> None:
    street.enforce(audit("try", ingress=[{"toPorts": to_port(4250)}]))
    ip = street.ip("server", family)
    assert street.connect(caller, ip, 4250) == "ECONNREFUSED"
    assert street.connect(caller, ip, 4251) == "ECONNREFUSED"
    source = street.ip(caller, family)
    flow = street.mesh.wait_flow(
        lambda flow: flow["verdict"] == "AUDIT" and matches(flow, source=source, destination=ip, port=4251)
    )
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["try"]
    assert not [f for f in street.mesh.flows() if f["verdict"] == "AUDIT" and matches(f, destination=ip, port=4250)]
    assert not [f for f in street.mesh.flows() if f["verdict"] == "DROPPED" and matches(f, destination=ip, port=4251)]


@pytest.mark.parametrize("caller", ["client", "bare"])
def test_what_an_audit_lets_pass_it_has_not_allowed(street: Street, caller: str) -> None:
    street.enforce(audit("try", ingress=[{"toPorts": to_port(4250)}]))
    source, ip = street.ip(caller), street.ip("server")
    street["server"].do("s = socket.create_server((ip, 4252))", ip=ip)
    street[caller].do("socket.create_connection((ip, 4252), 5).close()", ip=ip)
    street["server"].do("s.accept()[0].close(); s.close()")
    for event in ("audit", "open", "close"):
        flow = street.mesh.wait_flow(
            lambda flow, event=event: (  # type: ignore[misc]
                matches(flow, source, ip, 4252) and mesh_part(flow)["event"] == event
            )
        )
        assert "ingress_allowed_by" not in flow
        assert ("ingress_denied_by" in flow, "rule" in mesh_part(flow)) == (event == "audit", event == "audit")


@pytest.mark.parametrize("caller", ["client", "bare"])
def test_an_audit_does_not_name_who_denied_as_who_allowed(street: Street, family: int, caller: str) -> None:
    """The caller's own policy would have refused it, the other end's does: each is told by its own hook."""
    street.enforce(audit("try", caller, egress=[{}]), policy("closed", "server", ingress=[{}]))
    source, ip = street.ip(caller, family), street.ip("server", family)
    assert street.node.pods[caller].run(["ping", "-n", "-c", "1", "-W", "1", ip], check=False).returncode != 0
    sent = [(f"ICMPv{family}", 0)]
    if caller == "bare":  # a call from a cgroup of ours is refused before there is a packet
        assert street.connect(caller, ip, 4253, wait=0.5) != "ECONNREFUSED"
        sent.append(("TCP", 4253))
    for proto, port in sent:
        dropped = street.drop(source=source, destination=ip, port=port, proto=proto)
        assert [by["name"] for by in dropped["ingress_denied_by"]] == ["closed"]
        flow = street.mesh.wait_flow(
            lambda flow, proto=proto, port=port: (  # type: ignore[misc]
                flow["verdict"] == "AUDIT" and matches(flow, source, ip, port, proto)
            )
        )
        assert [by["name"] for by in flow["egress_denied_by"]] == ["try"]
        assert "ingress_allowed_by" not in flow and "ingress" not in mesh_part(flow)["rule"]


def test_an_enforced_policy_holds_beside_an_audit(street: Street) -> None:
    street.enforce(
        audit("try", ingressDeny=[{"fromEndpoints": [app("client")]}], ingress=[{"fromEntities": ["all"]}]),
        policy("real", "server", ingress=[{"fromEndpoints": [app("client")]}]),
    )
    ip = street.ip("server")
    assert street.connect("client", ip, 4260) == "ECONNREFUSED"
    assert street.connect("third", ip, 4261) == "EPERM"
    assert [by["name"] for by in street.drop(destination=ip, port=4261)["ingress_denied_by"]] == ["real"]
    street.mesh.wait_flow(lambda flow: flow["verdict"] == "AUDIT" and matches(flow, destination=ip, port=4260))
