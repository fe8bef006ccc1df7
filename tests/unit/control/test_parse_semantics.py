"""The numbered points of the language's semantics that are about reading: whole rules, from what is written."""

import pytest

from control import model
from control.policy import field, parse, selectors
from loader import abi
from tests.unit.control.documents import (
    ALLOW,
    CCNP,
    CLUSTER_MESH,
    CNP,
    DENY,
    IN,
    MESH,
    OUT,
    PROXY,
    document,
    problems,
    read,
    section,
)  # fmt: skip

TCP, UDP, SCTP = abi.Proto.TCP, abi.Proto.UDP, abi.Proto.SCTP
HERE = selectors.in_namespace("n")
HTTP_80 = (model.PortSpec(TCP, 80, 80),)


def rules(spec: str, kind: str = CNP) -> list[tuple[object, ...]]:
    """Return what each rule says besides its place."""
    found, _ = section(spec, kind)
    return [(r.direction, r.verdict, r.peers, r.ports, r.l7) for r in found.rules]


def label(source: str, key: str, *values: str) -> model.Requirement:
    return model.Requirement(source, key, model.Operator.IN, values)


@pytest.mark.parametrize(
    ("spec", "directions", "default_deny"),
    [
        ("{ingress: [{}]}", {IN}, {IN}),
        ("{egress: [{}], ingressDeny: [{}]}", {IN, OUT}, {IN, OUT}),
        ("{egress: [{}], enableDefaultDeny: {egress: false}}", {OUT}, set()),
        ("{egress: [{}], enableDefaultDeny: {ingress: true}}", {OUT}, {IN, OUT}),
        ("{egress: [{}], enableDefaultDeny: {ingress: false, egress: true}}", {OUT}, {OUT}),
        ("{egress: [{}], enableDefaultDeny: {egress: null}}", {OUT}, {OUT}),
    ],
)
def test_point_1_default_deny_follows_the_rules_of_each_direction(
    spec: str, directions: set[abi.Direction], default_deny: set[abi.Direction]
) -> None:
    found, _ = section(spec)
    assert (set(found.directions), set(found.default_deny)) == (directions, default_deny)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("{egress: [{toEndpoints: []}]}",
         ["egress[0].toEndpoints: is empty, which is nobody, so this rule allows nothing"]),
        ("{ingressDeny: [{fromCIDR: []}]}",
         ["ingressDeny[0].fromCIDR: is empty, which is nobody, so this rule denies nothing"]),
        ("{ingressDeny: [{}]}",
         ["ingressDeny[0]: names nobody, so it denies nothing (fromEntities: [all] is everybody)"]),
        ("{egressDeny: [{}]}", ["egressDeny[0]: names nobody, so it denies nothing (toEntities: [all] is everybody)"]),
        ("{egress: [{toEndpoints: [{}], icmps: []}]}",
         ["egress[0].icmps: is empty, which counts as not given: it names no port and no type"]),
        ("{egress: [{toEndpoints: [{}], toPorts: []}]}",
         ["egress[0].toPorts: is empty, which counts as not given: it names no port and no type"]),
        ("{egress: [{}], ingress: []}", ["ingress: is empty, so it closes nothing (ingress: [{}] does)"]),
        ("{egress: [{}], egressDeny: []}", ["egressDeny: is empty, so it denies nothing"]),
        ("{egress: [{}], ingress: [], enableDefaultDeny: {ingress: true}}", []),
        ("{ingress: [{}], egress: [{toEndpoints: [{}]}]}", []),
    ],
)  # fmt: skip
def test_what_does_nothing_is_told_of(spec: str, told: list[str]) -> None:
    assert section(spec)[1] == [f"spec.{line}" for line in told]


UNNAMED = "does nothing: policyTypes does not name %s"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"policyTypes": ["Ingress"], "egress": [{}]}, [f"spec.egress: {UNNAMED % 'Egress'}"]),
        ({"policyTypes": ["Ingress"], "egress": []}, []),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, [f"spec.ingress: {UNNAMED % 'Ingress'}"]),
        ({"egress": []},
         ["spec.egress: is empty and closes nothing: policyTypes is not given (it must name Egress for that)"]),
        ({"egress": [{}]}, []),
        ({"ingress": []}, []),
        ({"policyTypes": ["Ingress", "Egress"], "ingress": [], "egress": []}, []),
        ({"policyTypes": ["Egress"], "egress": []}, []),
    ],
)  # fmt: skip
def test_rules_of_kubernetes_for_a_direction_that_is_not_named(spec: dict[str, object], told: list[str]) -> None:
    raw = document({"podSelector": {}}, CNP)
    raw |= {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}, **spec}}
    policy, wrong, advice = read(raw)
    assert (policy is not None, wrong, advice) == (True, [], told)


def test_point_2_a_deny_only_rule_switches_default_deny_on_too() -> None:
    assert section("{ingressDeny: [{fromEntities: [world]}]}")[0].default_deny == {IN}
    off = "{ingressDeny: [{fromEntities: [world]}], enableDefaultDeny: {ingress: false}}"
    assert section(off)[0].default_deny == frozenset()


@pytest.mark.parametrize(
    ("item", "peers", "ports"),
    [
        ("{}", (), None),
        ("{toPorts: [{ports: [{port: '80', protocol: TCP}]}]}", None, HTTP_80),
        ("{icmps: [{fields: [{type: 8}]}]}", None, (model.PortSpec(abi.Proto.ICMP, 8, 8),)),
        ("{fromEndpoints: [], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}", (), HTTP_80),
        ("{fromEndpoints: [{}]}", (model.Selector((HERE,)),), None),
        ("{fromNodes: []}", (), None),
        ("{fromNodes: [{}]}", (model.NodePeer(model.Selector()),), None),
        ("{fromGroups: []}", (), None),
        ("{fromCIDRSet: []}", (), None),
    ],
)
def test_point_6_absent_empty_and_the_empty_selector(item: str, peers: object, ports: object) -> None:
    assert rules(f"{{ingress: [{item}]}}") == [(IN, ALLOW, peers, ports, None)]


@pytest.mark.parametrize("key", ["toServices", "toFQDNs", "toNodes", "toGroups"])
def test_point_6_an_empty_list_of_any_kind_selects_nothing(key: str) -> None:
    assert rules(f"{{egress: [{{{key}: []}}]}}") == [(OUT, ALLOW, (), None, None)]


def test_point_6_the_empty_selector_of_a_cluster_wide_policy_is_every_endpoint() -> None:
    everyone = model.Selector((selectors.IS_ENDPOINT,))
    assert rules("{ingress: [{fromEndpoints: [{}]}]}", CCNP) == [(IN, ALLOW, (everyone,), None, None)]


def test_point_7_the_subject_is_in_the_policys_namespace_whatever_it_says() -> None:
    spec = "{endpointSelector: {matchLabels: {'k8s:io.kubernetes.pod.namespace': other, a: b}}, ingress: [{}]}"
    assert section(spec)[0].subject == model.Selector((label("any", "a", "b"), HERE))


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("a", ("any", "a")),
        ("any:a", ("any", "a")),
        ("k8s:a", ("k8s", "a")),
        ("reserved:kube-apiserver", ("reserved", "kube-apiserver")),
        ("cidr:10.0.0.0/8", ("cidr", "10.0.0.0/8")),
        ("fqdn:a.example.com", ("fqdn", "a.example.com")),
        ("cidrgroup:team", ("cidrgroup", "team")),
    ],
)
def test_point_8_sources_of_label_keys(key: str, found: tuple[str, str]) -> None:
    policy, _ = section(f"{{ingress: [{{fromEndpoints: [{{matchLabels: {{'{key}': ''}}}}]}}]}}", CCNP)
    ((peer,),) = (rule.peers or () for rule in policy.rules)
    assert isinstance(peer, model.Selector)
    assert peer.requirements[0] == model.Requirement(*found, model.Operator.IN, ("",))


@pytest.mark.parametrize("name", selectors.RESERVED)
def test_point_8_every_reserved_label_can_be_asked_for_and_is_in_no_namespace(name: str) -> None:
    wanted = model.Selector((label("reserved", name, ""),))
    spec = f"{{ingressDeny: [{{fromEndpoints: [{{matchLabels: {{'reserved:{name}': ''}}}}]}}]}}"
    assert rules(spec) == [(IN, DENY, (wanted,), None, None)]


KINDS = {
    "toEndpoints": "[{}]", "toCIDR": "[10.0.0.0/8]", "toCIDRSet": "[{cidr: 10.0.0.0/8}]", "toEntities": "[all]",
    "toNodes": "[{}]", "toGroups": "[{aws: {region: a}}]", "toServices": "[{k8sService: {serviceName: a}}]",
    "toFQDNs": "[{matchName: a.b}]",
}  # fmt: skip


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
def test_point_9_one_kind_of_peer_in_a_rule(first: str, second: str) -> None:
    if first != second:
        order = sorted((first, second), key=list(KINDS).index)
        assert problems(f"{{egress: [{{{first}: {KINDS[first]}, {second}: {KINDS[second]}}}]}}") == [
            f"spec.egress[0].{order[1]}: combining {order[0]} and {order[1]} is not supported yet (use two rules)"
        ]


def test_point_9_icmps_and_ports_are_not_combined_and_services_and_ports_are() -> None:
    assert problems("{egress: [{icmps: [{fields: [{type: 8}]}], toPorts: [{ports: [{port: '1'}]}]}]}") == [
        "spec.egress[0].icmps: cannot be combined with toPorts (use two rules)"
    ]
    spec = (
        "{egress: [{toServices: [{k8sService: {serviceName: a}}], toPorts: [{ports: [{port: '80', protocol: TCP}]}]}]}"
    )
    assert rules(spec) == [(OUT, ALLOW, (model.ServicePeer("", "a"),), HTTP_80, None)]


@pytest.mark.parametrize(
    ("port", "ports"),
    [
        ("{port: '0'}", [(TCP, 0, 65535, ""), (UDP, 0, 65535, ""), (SCTP, 0, 65535, "")]),
        ("{port: '0', protocol: UDP}", [(UDP, 0, 65535, "")]),
        ("{port: '53', protocol: ANY}", [(TCP, 53, 53, ""), (UDP, 53, 53, ""), (SCTP, 53, 53, "")]),
        ("{port: '8000', endPort: 8010, protocol: TCP}", [(TCP, 8000, 8010, "")]),
        ("{port: '80', endPort: 0, protocol: TCP}", [(TCP, 80, 80, "")]),
        ("{port: Web-1, protocol: TCP}", [(TCP, 0, 65535, "web-1")]),
        ("{port: '0x10', protocol: TCP}", [(TCP, 0, 65535, "0x10")]),
        ("{protocol: GRE}", [(abi.Proto.GRE, 0, 65535, "")]),
        ("{port: '0', protocol: VRRP}", [(abi.Proto.VRRP, 0, 65535, "")]),
    ],
)
def test_point_11_ports(port: str, ports: list[tuple[abi.Proto, int, int, str]]) -> None:
    specs = tuple(model.PortSpec(*each) for each in ports)
    assert rules(f"{{ingress: [{{toPorts: [{{ports: [{port}]}}]}}]}}") == [(IN, ALLOW, None, specs, None)]


def test_point_11_the_end_of_a_named_port_has_no_effect_and_that_is_told() -> None:
    found, advice = section("{ingress: [{toPorts: [{ports: [{port: web, endPort: 90, protocol: TCP}]}]}]}")
    assert found.rules[0].ports == (model.PortSpec(TCP, name="web"),)
    assert advice == ['spec.ingress[0].toPorts[0].ports[0].endPort: has no effect behind the name "web"']


@pytest.mark.parametrize(
    ("port", "problem"),
    [
        ("{protocol: TCP}", ": port is missing"),
        ("{port: '1', protocol: ESP}", '.port: ESP has no ports (port "0", or none)'),
        ("{port: name, protocol: AH}", '.port: AH has no ports (port "0", or none)'),
        ("{protocol: IPIP, endPort: 9}", '.endPort: IPIP has no ports (port "0", or none)'),
        ("{port: '8', protocol: ICMP}", ".protocol: ICMP has no ports (use icmps)"),
        ("{port: '010', protocol: TCP}", '.port: invalid "010" (a number from 0 to 65535)'),
        ("{port: '', protocol: TCP}", '.port: invalid "" (a port number, or a port name of at most 15 letters, digits '
            "and single dashes)"),
    ],
)  # fmt: skip
def test_point_11_ports_that_are_refused(port: str, problem: str) -> None:
    found = problems(f"{{ingress: [{{toPorts: [{{ports: [{port}]}}]}}]}}")
    assert found == [f"spec.ingress[0].toPorts[0].ports[0]{problem}"]


def test_point_11_forty_ports_are_the_most() -> None:
    of = "{{ingress: [{{toPorts: [{{ports: [{}]}}]}}]}}"
    assert section(of.format(", ".join(["{port: '1', protocol: TCP}"] * 40)))
    assert problems(of.format(", ".join(["{port: '1', protocol: TCP}"] * 41))) == [
        "spec.ingress[0].toPorts[0].ports: has 41 items (at most 40)"
    ]


def test_point_12_icmp_types_by_number_and_by_name() -> None:
    fields = "{type: 8}, {type: EchoReply}, {family: IPv6, type: EchoRequest}, {family: IPv6, type: '135'}"
    specs = ((abi.Proto.ICMP, 8), (abi.Proto.ICMP, 0), (abi.Proto.ICMPV6, 128), (abi.Proto.ICMPV6, 135))
    assert rules(f"{{ingress: [{{icmps: [{{fields: [{fields}]}}]}}]}}") == [
        (IN, ALLOW, None, tuple(model.PortSpec(proto, kind, kind) for proto, kind in specs), None)
    ]


def test_point_13_rules_for_bytes_become_rules_of_their_own_with_one_path() -> None:
    port = "ports: [{{port: '{}', protocol: TCP}}]"
    spec = (
        f"{{ingress: [{{toPorts: [{{{port.format(80)}}}, {{{port.format(81)}, rules: {{http: [{{}}]}}}},"
        f" {{{port.format(82)}}}, {{{port.format(83)}, rules: {{http: [{{}}]}}}}]}}]}}"
    )
    anything = model.L7Rules(http=(model.HttpRule(),))
    assert rules(spec) == [
        (IN, ALLOW, None, (model.PortSpec(TCP, 80, 80), model.PortSpec(TCP, 82, 82)), None),
        (IN, PROXY, None, (model.PortSpec(TCP, 81, 81), model.PortSpec(TCP, 83, 83)), anything),
    ]
    assert {rule.path for rule in section(spec)[0].rules} == {"spec.ingress[0]"}


@pytest.mark.parametrize(
    ("item", "peer"),
    [
        ("matchName: API.Example.com.", model.NamePeer(name="api.example.com")),
        ("matchPattern: '*.Example.com'", model.NamePeer(pattern="*.example.com")),
        ("matchPattern: '**.example.com.'", model.NamePeer(pattern="**.example.com")),
        ("matchPattern: '*'", model.NamePeer(pattern="*")),
        ("matchName: _a_.b-c", model.NamePeer(name="_a_.b-c")),
    ],
)
def test_point_17_names(item: str, peer: model.NamePeer) -> None:
    assert rules(f"{{egress: [{{toFQDNs: [{{{item}}}]}}]}}") == [(OUT, ALLOW, (peer,), None, None)]


NAME = "(letters, digits, - and _ with single dots between them)"
PATTERN = (
    "(letters, digits, - and _ with single dots between them; * for any of them, a leading **. for one label or more)"
)


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("{}", ": must have one of matchName, matchPattern"),
        ("{matchName: a, matchPattern: b}", ": matchName and matchPattern cannot be combined (use two items)"),
        ("{matchName: ''}", f'.matchName: invalid "" {NAME}'),
        ("{matchName: .}", f'.matchName: invalid "." {NAME}'),
        ("{matchName: a..b}", f'.matchName: invalid "a..b" {NAME}'),
        ("{matchName: '*.a'}", f'.matchName: invalid "*.a" {NAME}'),
        ("{matchName: a/b}", f'.matchName: invalid "a/b" {NAME}'),
        ("{matchName: 'ä.de'}", f'.matchName: invalid "ä.de" {NAME}'),
        ("{matchName: '\u212a.de'}", f'.matchName: invalid "\u212a.de" {NAME}'),  # in lower case it is a k
        ("{matchPattern: '*.'}", f'.matchPattern: invalid "*." {PATTERN}'),
        ("{matchPattern: '**.'}", f'.matchPattern: invalid "**." {PATTERN}'),
        ("{matchPattern: 'a[b]'}", f'.matchPattern: invalid "a[b]" {PATTERN}'),
        (f"{{matchName: {'a' * 256}}}", ".matchName: is 256 characters long (at most 255)"),
    ],
)
def test_point_17_names_that_are_refused(item: str, problem: str) -> None:
    assert problems(f"{{egress: [{{toFQDNs: [{item}]}}]}}") == [f"spec.egress[0].toFQDNs[0]{problem}"]


def test_point_17_names_can_be_denied_in_our_own_kinds() -> None:
    spec = "{egressDeny: [{toFQDNs: [{matchName: a.b}]}]}"
    for kind in (MESH, CLUSTER_MESH):
        assert rules(spec, kind) == [(OUT, DENY, (model.NamePeer("a.b"),), None, None)]
    for kind in (CNP, CCNP):
        assert problems(spec, kind) == [
            "spec.egressDeny[0].toFQDNs: is for allow rules only in this kind (MeshNetworkPolicy has it in egressDeny "
            "too)"
        ]


@pytest.mark.parametrize("entity", list(model.Entity))
def test_point_18_entities(entity: model.Entity) -> None:
    assert rules(f"{{ingressDeny: [{{fromEntities: [{entity.value}]}}]}}") == [(IN, DENY, (entity,), None, None)]


def test_point_19_nodes_are_selected_by_their_labels_wherever_the_policy_is() -> None:
    found = rules("{egressDeny: [{toNodes: [{matchLabels: {zone: a}}, {}]}]}")
    peers = (model.NodePeer(model.Selector((label("any", "zone", "a"),))), model.NodePeer(model.Selector()))
    assert found == [(OUT, DENY, peers, None, None)]


TEAM = model.Selector((label("k8s", "team", "a"),))


@pytest.mark.parametrize(
    ("item", "kind", "peer"),
    [
        ("{k8sService: {serviceName: db}}", CNP, model.ServicePeer("", "db")),
        ("{k8sService: {serviceName: db, namespace: m}}", CNP, model.ServicePeer("m", "db")),
        ("{k8sService: {serviceName: db, namespace: m}}", CCNP, model.ServicePeer("m", "db")),
        ("{k8sServiceSelector: {selector: {matchLabels: {team: a}}}}", CNP, model.ServicePeer("", "", TEAM)),
        ("{k8sServiceSelector: {selector: {matchLabels: {team: a}}}}", CCNP, model.ServicePeer("", "", TEAM)),
        ("{k8sServiceSelector: {selector: {}, namespace: m}}", CCNP, model.ServicePeer("m", "", model.Selector())),
    ],
)
def test_point_20_services(item: str, kind: str, peer: model.ServicePeer) -> None:
    assert rules(f"{{egress: [{{toServices: [{item}]}}]}}", kind) == [(OUT, ALLOW, (peer,), None, None)]


@pytest.mark.parametrize(
    ("item", "kind", "problem"),
    [
        ("{}", CNP, ": must have one of k8sService, k8sServiceSelector"),
        ("{k8sService: {serviceName: a}, k8sServiceSelector: {selector: {}}}", CNP,
         ": must have one of k8sService, k8sServiceSelector"),
        ("{k8sService: {namespace: m}}", CNP, ".k8sService: serviceName is missing"),
        ("{k8sServiceSelector: {namespace: m}}", CNP, ".k8sServiceSelector: selector is missing"),
    ],
)  # fmt: skip
def test_point_20_services_that_are_refused(item: str, kind: str, problem: str) -> None:
    assert problems(f"{{egress: [{{toServices: [{item}]}}]}}", kind) == [f"spec.egress[0].toServices[0]{problem}"]


def test_point_21_host_policies_select_nodes() -> None:
    found, advice = section("{nodeSelector: {matchLabels: {zone: a}}, ingress: [{fromEndpoints: [{}]}]}", CCNP)
    assert (found.of_nodes, found.subject) == (True, model.Selector((label("any", "zone", "a"),)))
    assert advice == ["spec.nodeSelector: host policies are checked, and not enforced on nodes yet"]


def test_point_21_host_policies_look_into_dns_only() -> None:
    port = "ports: [{port: '53', protocol: %s}]"
    dns = f"{{nodeSelector: {{}}, egress: [{{toPorts: [{{{port % 'UDP'}, rules: {{dns: [{{matchName: a}}]}}}}]}}]}}"
    assert section(dns, CCNP)[0].rules[0].l7 == model.L7Rules(dns=(model.NamePeer("a"),))
    for asked in ("rules: {http: [{}]}", "serverNames: [a]"):
        spec = f"{{nodeSelector: {{}}, egress: [{{toPorts: [{{{port % 'TCP'}, {asked}}}]}}]}}"
        place = f"spec.egress[0].toPorts[0].{asked.split(':')[0]}"
        assert problems(spec, CLUSTER_MESH) == [f"{place}: a host policy can only have DNS rules, on egress"]


@pytest.mark.parametrize("mode", ["required", "test-always-fail"])
def test_point_22_who_must_authenticate_is_told_of_and_allowed_nothing(mode: str) -> None:
    found, advice = section(f"{{ingress: [{{fromEntities: [all], authentication: {{mode: {mode}}}}}]}}")
    assert [(rule.peers, rule.ports) for rule in found.rules] == [((), None)]
    assert found.default_deny == {IN}
    assert advice == [
        "spec.ingress[0].authentication.mode: peers do not authenticate here, so this rule allows nothing "
        "(allowed: disabled)"
    ]
    assert rules("{ingress: [{fromEntities: [all], authentication: {mode: disabled}}]}") == [
        (IN, ALLOW, (model.Entity.ALL,), None, None)
    ]


def test_point_23_audit_is_for_our_own_kinds() -> None:
    assert section("{audit: true, ingress: [{}]}", MESH)[0].audit
    assert problems("{audit: true, ingress: [{}]}")[0].startswith("spec.audit: unknown key")


NAMESPACE = "k8s:io.kubernetes.pod.namespace"


@pytest.mark.parametrize("source", ["k8s:", "any:", ""])
@pytest.mark.parametrize("kind", [CNP, MESH])
def test_a_policys_namespace_takes_the_place_of_one_in_labels_only(source: str, kind: str) -> None:
    key = f"{source}io.kubernetes.pod.namespace"
    own, other = [f"{NAMESPACE}=n"], [f"{NAMESPACE}=mon"]
    found, advice = section(f"{{endpointSelector: {{matchLabels: {{'{key}': mon}}}}, ingress: [{{}}]}}", kind)
    assert (selectors.holds(found.subject, own), selectors.holds(found.subject, other)) == (True, False)
    assert advice == [
        "spec.endpointSelector: a policy selects in its own namespace: n (the other one in matchLabels has no effect)"
    ]
    found, advice = section(f"{{endpointSelector: {{matchLabels: {{'{key}': n}}}}, ingress: [{{}}]}}", kind)
    assert selectors.holds(found.subject, own) and not advice
    for operator, values, is_met in (
        ("In", "[mon]", False), ("In", "[n, mon]", True), ("NotIn", "[n]", False), ("NotIn", "[mon]", True),
        ("Exists", "[]", True), ("DoesNotExist", "[]", False),
    ):  # fmt: skip
        asked = f"{{key: '{key}', operator: {operator}, values: {values}}}"
        found, advice = section(f"{{endpointSelector: {{matchExpressions: [{asked}]}}, ingress: [{{}}]}}", kind)
        assert (selectors.holds(found.subject, own), selectors.holds(found.subject, other)) == (is_met, False)
        assert [line.endswith("so this selects nobody") for line in advice] == [True] * (not is_met)


def test_what_stands_in_for_a_policy_selects_all_that_it_might() -> None:
    spec = f"{{endpointSelector: {{matchExpressions: [{{key: '{NAMESPACE}', operator: NotIn, values: [n]}}]}}, x: 1}}"
    raw = document(spec)
    found = parse.stand_in(field.Field(field.Node.of(raw), "", field.Report("f")), CNP)
    assert found is not None and selectors.holds(found.sections[0].subject, [f"{NAMESPACE}=n"])
