"""Policies from documents: each mistake named with its path, and nothing ever wider than it was written."""

import json
from typing import Any

import pytest
import yaml

from control import model
from control.policy import field, parse, selectors
from loader import abi

HEAD = "apiVersion: {}\nkind: {}\nmetadata: {{name: p, namespace: n}}\nspec:\n"
CILIUM = HEAD.format("cilium.io/v2", "CiliumNetworkPolicy") + "  endpointSelector: {}\n"
KUBERNETES = HEAD.format("networking.k8s.io/v1", "NetworkPolicy") + "  podSelector: {}\n"


def read(text: str) -> tuple[model.Policy | None, list[str]]:
    raw: Any = yaml.safe_load(text)
    report = field.Report("web.yaml")
    policy = parse.parse_policy(field.Field(field.Node.of(raw), "", report), raw["apiVersion"], raw["kind"])
    return policy, [str(problem) for problem in report.problems]


BAD_CILIUM = {
    "  ingress: [{fromEndpoints: [{matchExpressions: [{key: a, operator: IsIn, values: [b]}]}]}]":
        'spec.ingress[0].fromEndpoints[0].matchExpressions[0].operator: unknown "IsIn" '
        "(In, NotIn, Exists, DoesNotExist)",
    "  ingress: [{fromEndpoints: [{matchExpressions: [{key: a, operator: In}]}]}]":
        "spec.ingress[0].fromEndpoints[0].matchExpressions[0]: operator In needs values",
    "  ingress: [{fromEndpoints: [{matchExpressions: [{key: a, operator: In, values: []}]}]}]":
        "spec.ingress[0].fromEndpoints[0].matchExpressions[0]: operator In needs values",
    "  ingress: [{fromEndpoints: [{matchExpressions: [{key: a, operator: Exists, values: [b]}]}]}]":
        "spec.ingress[0].fromEndpoints[0].matchExpressions[0]: operator Exists takes no values",
    "  ingress: [{fromEndpoints: [{matchLabels: {a: 1}}]}]":
        "spec.ingress[0].fromEndpoints[0].matchLabels.a: must be a string (in quotes), is a number",
    "  ingress: [{fromEndpoints: [{matchLabels: {a: null}}]}]":
        "spec.ingress[0].fromEndpoints[0].matchLabels.a: must be a string, is nothing",
    "  ingress: [{fromEndpoints: [null]}]": "spec.ingress[0].fromEndpoints[0]: must be a mapping, is nothing",
    "  ingress: [null]": "spec.ingress[0]: must be a mapping, is nothing",
    "  ingress: {}": "spec.ingress: must be a list, is a mapping\nspec: must have at least one rule (ingress, "
        "ingressDeny, egress, egressDeny)",
    "  ingress: []": "spec: must have at least one rule (ingress, ingressDeny, egress, egressDeny)",
    "  ingress: [{fromEndpoints: [{}], fromCIDR: [10.0.0.0/8]}]":
        "spec.ingress[0].fromCIDR: combining fromEndpoints and fromCIDR is not supported yet (use two rules)",
    "  egress: [{toCIDR: [10.0.0.0/33]}]":
        'spec.egress[0].toCIDR[0]: invalid "10.0.0.0/33" (an address range such as 10.0.0.0/8 or fd00::/8)',
    "  egress: [{toCIDR: [10.0.0.0/0.0.0.255]}]":
        'spec.egress[0].toCIDR[0]: invalid "10.0.0.0/0.0.0.255" (an address range such as 10.0.0.0/8 or fd00::/8)',
    **{
        f"  egress: [{{toCIDR: ['{text}']}}]":
            f'spec.egress[0].toCIDR[0]: invalid "{text}" (an address range such as 10.0.0.0/8 or fd00::/8)'
        for text in ("10.0.0.0/08", "0.0.0.0/00", "fd00::/008", "010.0.0.0/8")
    },
    "  egress: [{toCIDR: ['::ffff:10.0.0.0/104']}]":
        'spec.egress[0].toCIDR[0]: invalid "::ffff:10.0.0.0/104" (write IPv4 ranges in dotted form)',
    "  egress: [{toCIDRSet: [{cidr: 10.0.0.0/8, except: [11.0.0.0/16]}]}]":
        "spec.egress[0].toCIDRSet[0].except[0]: 11.0.0.0/16 is not inside 10.0.0.0/8",
    "  egress: [{toCIDRSet: [{except: [11.0.0.0/16]}]}]":
        "spec.egress[0].toCIDRSet[0]: must have one of cidr, cidrGroupRef, cidrGroupSelector",
    "  egress: [{toEntities: [word]}]":
        'spec.egress[0].toEntities[0]: unknown "word" (all, none, world, world-ipv4, world-ipv6, host, '
        "remote-node, kube-apiserver, cluster, cluster-mesh, unmanaged, health, init, ingress)",
    "  ingressDeny: [{fromEndpoints: [{matchLabels: {'reserved:strange': ''}}]}]":
        'spec.ingressDeny[0].fromEndpoints[0].matchLabels.reserved:strange: "reserved:strange" is unknown: nobody has '
        "it (reserved:host, reserved:world, reserved:world-ipv4, reserved:world-ipv6, reserved:unmanaged, "
        "reserved:health, reserved:init, reserved:remote-node, reserved:kube-apiserver, reserved:ingress)",
    "  ingress: [{toPorts: [{ports: [{port: '80', endPort: 79}]}]}]":
        "spec.ingress[0].toPorts[0].ports[0].endPort: 79 is no end for port 80 "
        "(a range begins at 1 or more and ends after it)",
    "  ingress: [{toPorts: [{ports: [{port: '0', endPort: 79}]}]}]":
        "spec.ingress[0].toPorts[0].ports[0].endPort: 79 is no end for port 0 "
        "(a range begins at 1 or more and ends after it)",
    "  ingress: [{toPorts: [{ports: [{port: '65536'}]}]}]":
        'spec.ingress[0].toPorts[0].ports[0].port: invalid "65536" (a number from 0 to 65535)',
    "  ingress: [{toPorts: [{ports: [{port: 80}]}]}]":
        'spec.ingress[0].toPorts[0].ports[0].port: must be a string, is a number (write it in quotes: "80")',
    "  ingress: [{toPorts: [{ports: [{port: a--b}]}]}]":
        'spec.ingress[0].toPorts[0].ports[0].port: invalid "a--b" '
        "(a port number, or a port name of at most 15 letters, digits and single dashes)",
    "  ingress: [{toPorts: [{ports: [{port: '80', protocol: tcp}]}]}]":
        'spec.ingress[0].toPorts[0].ports[0].protocol: unknown "tcp" '
        "(ANY, TCP, UDP, SCTP, VRRP, IGMP, GRE, IPIP, IPV6, ESP, AH)",
    "  ingress: [{toPorts: [{ports: [{port: '80', protocol: GRE}]}]}]":
        "spec.ingress[0].toPorts[0].ports[0].port: GRE has no ports (port \"0\", or none)",
    "  ingress: [{toPorts: [{ports: []}]}]":
        'spec.ingress[0].toPorts[0].ports: must name a port (port "0" means all ports of a protocol)',
    "  ingress: [{toPorts: [{}]}]":
        'spec.ingress[0].toPorts[0]: ports is missing (port "0" means all ports of a protocol)',
    "  ingress: [{toPorts: [{ports: [{port: '1'}]}], icmps: [{fields: [{type: 8}]}]}]":
        "spec.ingress[0].icmps: cannot be combined with toPorts (use two rules)",
    "  ingress: [{icmps: [{fields: [{type: 256}]}]}]":
        'spec.ingress[0].icmps[0].fields[0].type: invalid "256" (a number from 0 to 255)',
    "  ingress: [{authentication: {mode: sometimes}}]":
        'spec.ingress[0].authentication.mode: unknown "sometimes" (disabled, required, test-always-fail)',
    "  ingress: [{fromRequires: [{}]}]":
        "spec.ingress[0].fromRequires: is no longer part of the language (use fromEndpoints with matchExpressions)",
    "  ingress: [{fromGroups: [{}]}]": "spec.ingress[0].fromGroups[0]: aws is missing",
    "  egressDeny: [{toFQDNs: [{matchName: a.b}]}]":
        "spec.egressDeny[0].toFQDNs: is for allow rules only in this kind (MeshNetworkPolicy has it in egressDeny too)",
    "  egressDeny: [{authentication: {mode: disabled}}]":
        "spec.egressDeny[0].authentication: unknown key (icmps, toCIDR, toCIDRSet, toEndpoints, toEntities, toFQDNs, "
        "toGroups, toNodes, toPorts, toRequires, toServices)",
    "  ingress: [{toEndpoints: [{}]}]":
        "spec.ingress[0].toEndpoints: unknown key: did you mean fromEndpoints? (authentication, fromCIDR, fromCIDRSet, "
        "fromEndpoints, fromEntities, fromGroups, fromNodes, fromRequires, icmps, toPorts)",
    "  egress: [{toCIDRSet: [{cidrGroupRef: x, cidr: 10.0.0.0/8}]}]":
        "spec.egress[0].toCIDRSet[0]: must have one of cidr, cidrGroupRef, cidrGroupSelector, has cidr, cidrGroupRef",
    "  nodeSelector: {}\n  ingress: [{}]": "spec.nodeSelector: is for cluster-wide kinds only (endpointSelector)",
    "  audit: true\n  ingress: [{}]":
        "spec.audit: unknown key: a MeshNetworkPolicy or ClusterMeshNetworkPolicy has it, and for all policies of a "
        'namespace its annotation sockmesh.io/audit: "true"',
    "  enableDefaultDeny: {ingress: maybe}\n  ingress: [{}]":
        "spec.enableDefaultDeny.ingress: must be true or false, is a string",
    "  log: {value: 0123456789012345678901234567890123456789}\n  ingress: [{}]":
        "spec.log.value: is 40 characters long (at most 32)",
    "  ingress: [{fromEndpoints: [{matchLabels: {'nosuch:a': b}}]}]":
        "spec.ingress[0].fromEndpoints[0].matchLabels.nosuch:a: invalid label key",
}  # fmt: skip


@pytest.mark.parametrize("body", BAD_CILIUM)
def test_bad_cilium_policies(body: str) -> None:
    policy, problems = read(CILIUM + body)
    assert policy is None
    wanted = [f"web.yaml: {line}" for line in BAD_CILIUM[body].split("\n")]
    assert len(problems) == len(wanted)
    assert all(found.startswith(want) for found, want in zip(problems, wanted, strict=True)), problems


BAD_KUBERNETES = {
    "  ingress: [{from: [{}]}]":
        "spec.ingress[0].from[0]: must have at least one of podSelector, namespaceSelector, ipBlock",
    "  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]":
        "spec.ingress[0].from[0]: ipBlock cannot be combined with a selector",
    "  ingress: [{ports: [{port: 0}]}]":
        "spec.ingress[0].ports[0].port: invalid 0 (a number from 1 to 65535; leave port out for all ports)",
    "  ingress: [{ports: [{port: http, endPort: 90}]}]":
        "spec.ingress[0].ports[0].endPort: needs a port number, not a name",
    "  ingress: [{ports: [{endPort: 90}]}]": "spec.ingress[0].ports[0].endPort: needs a port",
    "  ingress: [{ports: [{port: 90, endPort: 80}]}]": "spec.ingress[0].ports[0].endPort: 80 is below port 90",
    "  ingress: [{to: [{podSelector: {}}]}]": "spec.ingress[0].to: unknown key (from, ports)",
    "  policyTypes: [ingress]": 'spec.policyTypes[0]: unknown "ingress" (Ingress, Egress)',
    "  policyTypes: [Ingress, Egress, Ingress]": "spec.policyTypes: has 3 items (at most 2)",
    "  ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]":
        "spec.ingress[0].from[0].ipBlock.except[0]: 10.0.0.0/8 leaves nothing of 10.0.0.0/8 "
        "(a smaller range inside it)",
    "  ingress: [{ports: [{port: HTTP}]}]":
        'spec.ingress[0].ports[0].port: invalid "HTTP" '
        "(a port number, or a port name of at most 15 letters, digits and single dashes, in lower case)",
    '  ingress: [{from: [{podSelector: {matchLabels: {"k8s:app": web}}}]}]':
        'spec.ingress[0].from[0].podSelector.matchLabels.k8s:app: invalid label key "k8s:app": k8s: in front of a key '
        "is for selectors of endpoints in Cilium's language (write app)",
    '  ingress: [{from: [{namespaceSelector: {matchLabels: {"reserved:host": ""}}}]}]':
        'spec.ingress[0].from[0].namespaceSelector.matchLabels.reserved:host: invalid label key "reserved:host": '
        "reserved: in front of a key is for selectors of endpoints in Cilium's language (of the object's own labels "
        "only)",
    '  ingress: [{from: [{podSelector: {matchLabels: {"x:app": web}}}]}]':
        'spec.ingress[0].from[0].podSelector.matchLabels.x:app: invalid label key "x:app" (an optional DNS name and /, '
        "then at most 63 letters, digits, - _ and ., beginning and ending with a letter or digit)",
    "  audit: true": "spec.audit: unknown key: a MeshNetworkPolicy or ClusterMeshNetworkPolicy has it, and for all "
        'policies of a namespace its annotation sockmesh.io/audit: "true"',
}  # fmt: skip


@pytest.mark.parametrize("body", BAD_KUBERNETES)
def test_bad_kubernetes_policies(body: str) -> None:
    assert read(KUBERNETES + body) == (None, [f"web.yaml: {BAD_KUBERNETES[body]}"])


def test_every_problem_is_told_at_once() -> None:
    _, problems = read(CILIUM + "  ingress: [{fromCIDR: [x], toPorts: 1}, {whom: 1}]\n  egress: [{toEntities: [y]}]")
    assert [p.split(": ")[1] for p in problems] == [
        "spec.ingress[0].toPorts",
        "spec.ingress[0].fromCIDR[0]",
        "spec.ingress[1].whom",
        "spec.egress[0].toEntities[0]",
    ]


def test_a_policy_needs_a_name_and_a_selector() -> None:
    text = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {}\nspec: {ingress: [{}]}"
    assert read(text)[1] == [
        "web.yaml: metadata: name is missing",
        "web.yaml: spec: endpointSelector is missing ({} selects every endpoint)",
    ]


def test_spec_and_specs_add_up() -> None:
    policy, problems = read(CILIUM + "  ingress: [{}]\nspecs:\n- {endpointSelector: {}, egress: [{}]}")
    assert not problems and policy is not None
    assert [(s.path, s.default_deny) for s in policy.sections] == [
        ("spec", frozenset({abi.Direction.INGRESS})),
        ("specs[0]", frozenset({abi.Direction.EGRESS})),
    ]


def test_what_the_api_server_adds_is_no_problem() -> None:
    text = KUBERNETES.replace("namespace: n", "namespace: n, uid: a, creationTimestamp: b, managedFields: [{}]")
    assert read(text + "status: {}")[1] == []


@pytest.mark.parametrize(
    ("body", "peers", "ports"),
    [
        ("{}", (), None),
        ("{toPorts: []}", (), None),
        ("{fromEndpoints: []}", (), None),
        ("{fromEndpoints: [], fromEntities: [all]}", (), None),
        ("{fromEntities: [all]}", (model.Entity.ALL,), None),
        ("{fromEntities: [all], toPorts: []}", (model.Entity.ALL,), None),
        ("{fromEndpoints: null, toPorts: [{ports: [{port: '1', protocol: TCP}]}]}", None,
         (model.PortSpec(abi.Proto.TCP, 1, 1),)),
    ],
)  # fmt: skip
def test_absent_is_not_empty(body: str, peers: object, ports: object) -> None:
    policy, problems = read(CILIUM + f"  ingress: [{body}]")
    assert not problems and policy is not None
    (rule,) = policy.sections[0].rules
    assert (rule.peers, rule.ports) == (peers, ports)


def stand_in(text: str) -> model.Policy | None:
    raw: Any = yaml.safe_load(text)
    return parse.stand_in(field.Field(field.Node.of(raw), "", field.Report("x")), raw["kind"])


def test_a_stand_in_denies_everything_both_ways() -> None:
    policy = stand_in(CILIUM + "  nonsense: 1")
    assert policy is not None and policy.invalid
    (section,) = policy.sections
    assert section.default_deny == set(abi.Direction)
    assert {(r.direction, r.verdict, r.peers, r.ports, r.path) for r in section.rules} == {
        (d, abi.Verdict.DENY, None, None, "invalid:n/p") for d in abi.Direction
    }


def test_without_a_readable_selector_there_is_no_stand_in() -> None:
    assert stand_in(CILIUM.replace("{}", "{matchLabels: 1}")) is None
    assert stand_in(CILIUM.replace("name: p", "name: P!")) is None
    assert stand_in("kind: CiliumNetworkPolicy\nmetadata: 1\nspec: 2") is None


SPECS = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: n}\n"
RULE = "ingressDeny: [{fromEntities: [all]}]"


@pytest.mark.parametrize(
    "specs",
    [
        f"specs: [{{endpointSelector: {{matchLabel: {{a: b}}}}, {RULE}}}, {{endpointSelector: {{}}, {RULE}}}]",
        f"specs: [{{{RULE}}}, {{endpointSelector: {{}}, {RULE}}}]",
        f"specs: [{{endpointSelector: {{}}, {RULE}}}, 1]",
        f"specs: [{{endpointSelector: {{}}, {RULE}}}, null]",
        f"spec: {{endpointSelector: {{}}, {RULE}}}\nspecs: {{endpointSelector: {{}}, {RULE}}}",
        f"spec: {{endpointSelector: {{}}, {RULE}}}\nspecs: 1",
        f"spec: 1\nspecs: [{{endpointSelector: {{}}, {RULE}}}]",
        f"spec: {{{RULE}}}\nspecs: [{{endpointSelector: {{}}, {RULE}}}]",
        f"specs: [{{endpointSelector: {{}}, {RULE}}}]\nspecz: [{{endpointSelector: {{}}, {RULE}}}]",
        f"spec: {{endpointSelector: {{}}, {RULE}}}\nSpec: {{endpointSelector: {{}}, {RULE}}}",
    ],
)
def test_there_is_no_stand_in_for_what_is_only_partly_readable(specs: str) -> None:
    """Whom the other part selects, nobody can tell: closing some would leave the rest open."""
    assert read(SPECS + specs)[0] is None
    assert stand_in(SPECS + specs) is None


def test_a_stand_in_is_on_all_that_spec_and_specs_select() -> None:
    both = f"spec: {{endpointSelector: {{matchLabels: {{a: x}}}}, {RULE}}}\n" + (
        f"specs: [{{endpointSelector: {{matchLabels: {{a: y}}}}, {RULE}, nonsense: 1}}]\nspecs2: 1"
    )
    found = stand_in(SPECS + both)
    assert found is not None
    assert [section.subject.requirements[0].values for section in found.sections] == [("x",), ("y",)]


@pytest.mark.parametrize("text", ["a\\u0000", "a\\u001bb", "a\\u009b", "a\\n", "\\ud800", "a\\udfff"])
def test_no_string_holds_what_is_no_text(text: str) -> None:
    place = field.Field(field.Node(json.loads(f'"{text}"')), "spec.netns", field.Report("x"))
    assert place.text() is None
    (problem,) = place.report.problems
    assert "which is no character of a text" in problem.message and problem.message.isprintable()


def test_specs_that_are_no_list_are_not_missing_too() -> None:
    document: dict[str, object] = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "a"},
    }
    for more, told in (({"specs": {}}, "specs: must be a list, is a mapping"), ({"specs": []}, "spec is missing")):
        report = field.Report("a.yaml")
        place = field.Field(field.Node.of(document | more), "", report)
        assert parse.parse_policy(place, "cilium.io/v2", "CiliumNetworkPolicy") is None
        assert [str(problem) for problem in report.problems] == [f"a.yaml: {told}"]


def test_prose_may_have_lines() -> None:
    """An annotation, or a description."""
    place = field.Field(field.Node('{"kind": 1}\r\n\tthe end\n'), "x", field.Report("x"))
    assert place.prose() == place.node.value
    assert field.Field(field.Node("\ud800\n"), "x", place.report).prose() is None


def test_a_label_key_of_any_source_is_text() -> None:
    place = field.Field(field.Node.of({"matchLabels": {"any:x\ud800": ""}}), "", field.Report("x"))
    assert selectors.read_selector(place, selectors.sourced_key) == model.Selector()
    assert place.report.problems[0].message.startswith('invalid label key "any:x?" (')
