"""The maps as a whole: what is in them, which numbers stay, and how long it takes."""

import dataclasses
import time

from control import compile as compiler
from control import identity, model, names
from control.policy import peers, selectors
from loader import abi, record

NODE = compiler.NodeInfo("node1", ("10.0.0.254",), ("10.0.0.0/24",))
WEB = model.Workload("n", "web", {"app": "web"}, "x", ("10.0.0.1", "fd00::1"), netns="web", interface="v1")
API = model.Workload("n", "api", {"app": "api"}, "x", ("10.0.0.2",), ports=(model.ContainerPort("http", 8080),))
FAR = model.Workload("n", "far", {"app": "api"}, "x", ("10.0.1.1",), node="node2")
FACTS = {
    ("n", "web"): compiler.EndpointFacts(11, 21, 31, True, inlet=41),
    ("n", "api"): compiler.EndpointFacts(12, 22, 32, False),
}
INGRESS, EGRESS = abi.Direction.INGRESS, abi.Direction.EGRESS


def app(name: str) -> model.Selector:
    return model.Selector((model.Requirement("k8s", "app", model.Operator.IN, (name,)),))


def policy(name: str, subject: str, *rules: model.Rule, audit: bool = False) -> model.Policy:
    directions = frozenset(rule.direction for rule in rules)
    section = model.Section("spec", app(subject), directions, directions, rules, audit, f"{name}.yaml:1")
    return model.Policy("MeshNetworkPolicy", "n", name, (section,), labels=("k8s:a=b",))


def rule(direction: abi.Direction, who: model.Peer | None, *ports: model.PortSpec, deny: bool = False) -> model.Rule:
    verdict = abi.Verdict.DENY if deny else abi.Verdict.ALLOW
    path = f"spec.{direction.name.lower()}{'Deny' if deny else ''}[0]"
    return model.Rule(direction, verdict, None if who is None else (who,), ports or None, path, "p.yaml:7")


def snapshot(*policies: model.Policy, services: tuple[model.Service, ...] = ()) -> model.Snapshot:
    return model.Snapshot((API, FAR, WEB), services=services, policies=policies)


def compiled(
    snap: model.Snapshot, allocation: identity.Allocation | None = None
) -> tuple[compiler.Desired, names.Names, identity.Allocation]:
    return compiler.compile_state(snap, allocation or identity.Allocation(), FACTS, NODE)


def addr(ip: str) -> bytes:
    return record.pack_addr(ip)


def test_every_map() -> None:
    tcp = model.PortSpec(abi.Proto.TCP, 80, 81)
    desired, _, allocation = compiled(snapshot(policy("api", "api", rule(INGRESS, app("web"), tcp))))
    web_id, api_id = allocation.endpoints["n/web"], allocation.endpoints["n/api"]
    flags = abi.EndpointFlag
    endpoints = {key.id: value for key, value in desired["endpoints"].items() if isinstance(key, abi.EndpointKey)}
    web, api = endpoints[web_id], endpoints[api_id]
    assert isinstance(web, abi.Endpoint) and isinstance(api, abi.Endpoint)
    assert len(endpoints) == 2
    assert web == abi.Endpoint(
        web_id,
        web.identity,
        web.set_id,
        flags.ENROLLED | flags.ACCELERATE | flags.HAS_CGROUP,
        ifindex=21,
        netns_cookie=11,
        nsid=31,
        inlet=41,
        addr4=addr("10.0.0.1"),
        addr6=addr("fd00::1"),
    )
    assert api == abi.Endpoint(
        api_id, api.identity, api.set_id, flags.ENROLLED | flags.ACCELERATE, 1 << 15,
        ifindex=22, netns_cookie=12, nsid=32, addr4=addr("10.0.0.2"),
    )  # fmt: skip
    assert desired["endpoint_ips"] == {
        abi.AddrKey(addr("10.0.0.1")): abi.EndpointRef(web_id),
        abi.AddrKey(addr("fd00::1")): abi.EndpointRef(web_id),
        abi.AddrKey(addr("10.0.0.2")): abi.EndpointRef(api_id),
    }
    assert desired["endpoint_netns"] == {
        abi.NetnsKey(11): abi.EndpointRef(web_id),
        abi.NetnsKey(12): abi.EndpointRef(api_id),
    }
    assert desired["endpoint_ifaces"] == {
        abi.IfaceKey(21): abi.EndpointRef(web_id),
        abi.IfaceKey(22): abi.EndpointRef(api_id),
    }
    assert desired["ipcache"] == {
        abi.IpcacheKey(96, addr("0.0.0.0")): abi.IpcacheValue(9),
        abi.IpcacheKey(0, addr("::")): abi.IpcacheValue(10),
        abi.IpcacheKey(120, addr("10.0.0.0")): abi.IpcacheValue(3),
        abi.IpcacheKey(128, addr("10.0.0.254")): abi.IpcacheValue(1),
        abi.IpcacheKey(128, addr("10.0.0.1")): abi.IpcacheValue(web.identity),
        abi.IpcacheKey(128, addr("fd00::1")): abi.IpcacheValue(web.identity),
        abi.IpcacheKey(128, addr("10.0.0.2")): abi.IpcacheValue(api.identity),
        abi.IpcacheKey(128, addr("10.0.1.1")): abi.IpcacheValue(api.identity, flags=int(abi.IpcacheFlag.MESH)),
    }
    number = allocation.rules
    allow, deny = int(abi.Verdict.ALLOW), int(abi.Verdict.DENY)

    def entry(set_id: int, peer: int, proto: int, port: int, direction: int, plen: int) -> abi.PolicyKey:
        return abi.PolicyKey(set_id, peer, port, proto, direction, plen)

    def value(verdict: int, rank: int, rule_id: int) -> abi.PolicyValue:
        return abi.PolicyValue(verdict, rank, 0, 0, rule_id, 0, 1, 0)

    key = "MeshNetworkPolicy/n/api#"
    assert desired["policy"] == {
        entry(web.set_id, 0, 0, 0, INGRESS, 0): value(allow, 0, 0),
        entry(web.set_id, 0, 0, 0, EGRESS, 0): value(allow, 0, 0),
        entry(api.set_id, 0, 0, 0, EGRESS, 0): value(allow, 0, 0),
        entry(api.set_id, 0, 0, 0, INGRESS, 0): value(deny, 0, number[key + "spec.ingress"]),
        entry(api.set_id, 1, 0, 0, INGRESS, 0): value(allow, 1, number[identity.LOCALHOST_RULE]),
        entry(api.set_id, web.identity, 6, 80, INGRESS, 15): value(allow, 1, number[key + "spec.ingress[0]"]),
    }
    assert min(number.used.values()) == 1  # 0 says that no policy selects the endpoint
    assert desired["services"] == desired["backends"] == {}
    for content in desired.maps.values():
        for map_key, map_value in content.items():
            assert (type(map_key).unpack(map_key.pack()), type(map_value).unpack(map_value.pack())) == (
                map_key,
                map_value,
            )


def test_names() -> None:
    snap = snapshot(policy("api", "api", rule(INGRESS, app("web"))))
    _, found, allocation = compiled(snap)
    assert found.node == "node1"
    assert {str(e): i for i, e in found.endpoints.items()} == {
        "n/api": allocation.endpoints["n/api"],
        "n/web": allocation.endpoints["n/web"],
    }
    assert (str(found.endpoint_by_ip("10.0.1.1")), found.remote["10.0.1.1"].id) == ("n/far", 0)
    decided = found.rule(allocation.rules["MeshNetworkPolicy/n/api#spec.ingress[0]"])
    assert decided == names.RuleName("MeshNetworkPolicy", "n", "api", "spec.ingress[0]", "p.yaml:7", ("k8s:a=b",))
    assert found.labels(1) == ("reserved:host",)
    assert names.Names.from_json(found.to_json()) == found


def test_audit_has_its_own_slot() -> None:
    audit = policy("audit", "api", rule(INGRESS, app("web"), deny=True), audit=True)
    desired, _, allocation = compiled(snapshot(audit, policy("p", "api", rule(INGRESS, app("web")))))
    entries = {
        (key.peer_id, key.direction): value
        for key, value in desired["policy"].items()
        if isinstance(key, abi.PolicyKey) and key.set_id == _endpoint(desired, allocation, "n/api").set_id
    }
    web = _endpoint(desired, allocation, "n/web")
    api = _endpoint(desired, allocation, "n/api")
    number = allocation.rules
    assert entries[web.identity, INGRESS] == abi.PolicyValue(
        abi.Verdict.ALLOW, abi.Rank.ALLOW, abi.Verdict.DENY, abi.Rank.DENY,
        number["MeshNetworkPolicy/n/p#spec.ingress[0]"], number["MeshNetworkPolicy/n/audit#spec.ingressDeny[0]"], 1, 1,
    )  # fmt: skip
    assert (api.flags & abi.EndpointFlag.HAS_AUDIT, web.flags & abi.EndpointFlag.HAS_AUDIT) == (8, 0)
    assert all(value.audit_present for value in entries.values() if isinstance(value, abi.PolicyValue))


def _endpoint(desired: compiler.Desired, allocation: identity.Allocation, name: str) -> abi.Endpoint:
    found = desired["endpoints"][abi.EndpointKey(allocation.endpoints[name])]
    assert isinstance(found, abi.Endpoint)
    return found


def test_a_changed_set_gets_a_new_number_and_the_others_keep_theirs() -> None:
    first = snapshot(policy("api", "api", rule(INGRESS, app("web"))))
    desired, _, allocation = compiled(first)
    assert compiled(first, allocation)[0] == desired
    assert compiled(first, identity.Allocation.from_json(allocation.to_json()))[0] == desired
    second = snapshot(policy("api", "api", rule(INGRESS, app("api"))))
    changed, _, later = compiled(second, allocation)
    assert _endpoint(changed, later, "n/web") == _endpoint(desired, allocation, "n/web")
    old, new = _endpoint(desired, allocation, "n/api"), _endpoint(changed, later, "n/api")
    assert dataclasses.replace(new, set_id=old.set_id) == old
    assert new.set_id not in {key.set_id for key in desired["policy"] if isinstance(key, abi.PolicyKey)}


def test_two_rules_for_one_key() -> None:
    again = dataclasses.replace(rule(INGRESS, app("web")), path="spec.ingress[1]")
    denied = rule(INGRESS, app("web"), deny=True)
    desired, _, allocation = compiled(snapshot(policy("p", "api", again, rule(INGRESS, app("web")))))
    web = _endpoint(desired, allocation, "n/web").identity
    set_id = _endpoint(desired, allocation, "n/api").set_id
    key = abi.PolicyKey(set_id, web, 0, 0, INGRESS, 0)
    value = desired["policy"][key]
    assert isinstance(value, abi.PolicyValue)
    assert value.rule_id == allocation.rules["MeshNetworkPolicy/n/p#spec.ingress[0]"]
    desired, _, allocation = compiled(snapshot(policy("p", "api", again, denied)))
    value = desired["policy"][dataclasses.replace(key, set_id=_endpoint(desired, allocation, "n/api").set_id)]
    assert isinstance(value, abi.PolicyValue)
    assert (value.verdict, value.rank) == (abi.Verdict.DENY, abi.Rank.DENY)


def test_services() -> None:
    tcp = model.ServicePort(80, "http", "http")
    udp = model.ServicePort(53, "dns", 5353, abi.Proto.UDP)
    chosen = model.Service("n", "api", ("10.9.0.1", "fd09::1"), (tcp, udp), {"app": "api"})
    fixed = model.Service("n", "out", ("10.9.0.2",), (model.ServicePort(443),), {}, ("192.0.2.1", "192.0.2.2"))
    nobody = model.Service("n", "none", ("10.9.0.3",), (model.ServicePort(1),), {"app": "nobody"})
    headless = model.Service("n", "headless", (), (model.ServicePort(1),), {"app": "api"})
    desired, found, _ = compiled(snapshot(services=(chosen, fixed, headless, nobody)))
    table = {}
    for key, value in desired["services"].items():
        assert isinstance(key, abi.ServiceKey) and isinstance(value, abi.Service)
        backends = [desired["backends"][abi.BackendKey(value.id, i)] for i in range(value.backends)]
        targets = [f"{record.unpack_addr(b.addr)} {b.port}" for b in backends if isinstance(b, abi.Backend)]
        table[record.unpack_addr(key.addr), key.port, key.proto] = (found.services[value.id].name, targets)
    assert {s.ips for s in found.services.values() if s.name == "api"} == {("10.9.0.1",), ("fd09::1",)}
    assert table == {
        # The pod of node2 has no port called http, the one here listens on 8080.
        ("10.9.0.1", 80, 6): ("api", ["10.0.0.2 8080"]),
        ("10.9.0.1", 53, 17): ("api", ["10.0.0.2 5353", "10.0.1.1 5353"]),
        ("fd09::1", 80, 6): ("api", []),
        ("fd09::1", 53, 17): ("api", []),
        ("10.9.0.2", 443, 6): ("out", ["192.0.2.1 443", "192.0.2.2 443"]),
        ("10.9.0.3", 1, 6): ("none", []),
    }
    assert len(desired["backends"]) == 5


def test_a_pod_that_was_not_found_gets_no_calls_and_no_endpoint_but_keeps_its_identity() -> None:
    service = model.Service("n", "web", ("10.9.0.1",), (model.ServicePort(80),), {"app": "web"})
    desired, found, _ = compiler.compile_state(snapshot(services=(service,)), identity.Allocation(), {}, NODE)
    assert not desired["endpoints"] and not desired["backends"] and not desired["policy"]
    assert abi.IpcacheKey(128, addr("10.0.0.1")) in desired["ipcache"]
    assert str(found.endpoint_by_ip("10.0.0.1")) == "n/web"


def test_ten_thousand_ranges_compile_in_about_a_second() -> None:
    ranges = tuple(model.CidrPeer(peers.parse_prefix(f"192.{i >> 8}.{i & 255}.0/24")) for i in range(10_000))
    allow = model.Rule(EGRESS, abi.Verdict.ALLOW, ranges, (model.PortSpec(abi.Proto.TCP, 443, 443),), "spec.egress[0]")
    snap = snapshot(policy("big", "api", allow))
    start = time.perf_counter()
    desired, _, _ = compiled(snap)
    took = time.perf_counter() - start
    assert len(desired["policy"]) > 10_000
    assert took < 5  # a second on a quiet machine: this catches a wrong order of growth, not a slow day


def test_a_thousand_pods_with_policies_of_their_own() -> None:
    pods = tuple(
        model.Workload("n", f"p{i}", {"app": f"a{i}"}, "x", (f"10.1.{i >> 8}.{i & 255}",)) for i in range(1000)
    )
    policies = tuple(policy(f"q{i}", f"a{i}", rule(INGRESS, app(f"a{(i + 1) % 1000}"))) for i in range(1000))
    facts = {("n", f"p{i}"): compiler.EndpointFacts(i + 1, i + 1, i + 1) for i in range(1000)}
    start = time.perf_counter()
    desired, _, _ = compiler.compile_state(model.Snapshot(pods, policies=policies), identity.Allocation(), facts, NODE)
    assert time.perf_counter() - start < 5
    assert len(desired["policy"]) == 4000


def test_every_reserved_label_that_an_address_has_may_be_written() -> None:
    """The entities that nobody is are those that this mesh has none of, or that no node and no API server is given."""
    given = snapshot()
    desired, _, allocation = compiler.compile_state(given, identity.Allocation(), FACTS, NODE)
    known = {value.identity for value in desired["ipcache"].values() if isinstance(value, abi.IpcacheValue)}
    table = identity.Identities(given, allocation)

    def may_match(peer: model.Peer) -> bool:
        found = table.select(peer)
        return found is None or bool(found & known)

    assert {name for name, entity in peers.ENTITIES.items() if not may_match(entity)} == {
        "none", "remote-node", "kube-apiserver", "health", "init", "ingress",
    }  # fmt: skip
    labels = {label for number in known for label in table.labels[number] if label.startswith("reserved:")}
    assert labels <= {f"reserved:{name}" for name in selectors.RESERVED}


def test_an_address_that_a_pod_of_this_node_has_too_is_no_other_nodes() -> None:
    twice = dataclasses.replace(FAR, ips=(*FAR.ips, API.ips[0], "10.0.0.254"))
    desired, _, _ = compiled(model.Snapshot((API, twice, WEB)))
    marked = {key.addr for key, value in desired["ipcache"].items() if value.flags}  # type: ignore[attr-defined]
    assert marked == {addr("10.0.1.1")}
