"""What a kind may say, the metadata of rule sets, groups of addresses, and what stands in for what cannot be read."""

from typing import Any

import pytest
import yaml

from control import model
from control.policy import cidrgroup, field, parse
from tests.unit.control.documents import CCNP, CLUSTER_MESH, CNP, IN, MESH, document, problems, read, section

Prefix = model.Prefix
TEN = Prefix(4, 10 << 24, 8)


@pytest.mark.parametrize("kind", [CCNP, CLUSTER_MESH])
def test_exactly_one_selector_is_present(kind: str) -> None:
    raw = document({"ingress": [{}]}, kind)
    del raw["spec"]["endpointSelector"]
    assert read(raw)[1] == [
        "spec: endpointSelector is missing ({} selects every endpoint, or nodeSelector)"
    ]  # fmt: skip
    raw["spec"] |= {"endpointSelector": {}, "nodeSelector": {}}
    assert read(raw)[1] == ["spec.nodeSelector: cannot be combined with endpointSelector (use two of specs)"]
    raw["spec"]["nodeSelector"] = None
    assert read(raw)[1] == []


@pytest.mark.parametrize("kind", [CNP, MESH])
def test_host_policies_are_cluster_wide(kind: str) -> None:
    assert problems("{nodeSelector: {}, ingress: [{}]}", kind) == [
        "spec.nodeSelector: is for cluster-wide kinds only (endpointSelector)"
    ]


@pytest.mark.parametrize(
    ("item", "peer"),
    [
        ("cidr: 10.0.0.0/8, except: [10.1.0.0/16]", model.CidrPeer(TEN, (Prefix(4, (10 << 24) + (1 << 16), 16),))),
        ("cidrGroupRef: g", model.CidrGroupPeer("g")),
        ("cidrGroupRef: g, except: [10.0.0.0/8]", model.CidrGroupPeer("g", None, (TEN,))),
        ("cidrGroupSelector: {}", model.CidrGroupPeer("", model.Selector())),
        (
            "cidrGroupSelector: {matchLabels: {a: b}}",
            model.CidrGroupPeer(
                "", model.Selector((model.Requirement("k8s", "a", model.Operator.IN, ("b",)),))
            ),
        ),
    ],
)  # fmt: skip
def test_sets_of_addresses(item: str, peer: model.Peer) -> None:
    assert section(f"{{ingress: [{{fromCIDRSet: [{{{item}}}]}}]}}")[0].rules[0].peers == (peer,)


ONE = ": must have one of cidr, cidrGroupRef, cidrGroupSelector"


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ("except: [10.0.0.0/8]", ONE),
        ("cidr: 10.0.0.0/8, cidrGroupSelector: {}", f"{ONE}, has cidr, cidrGroupSelector"),
        ("cidr: 10.0.0.1", '.cidr: invalid "10.0.0.1" (an address range, 10.0.0.1/32 for this one address)'),
        ("cidr: 10.0.0.0/8, except: ['fd00::/8']", ".except[0]: fd00::/8 is not inside 10.0.0.0/8"),
        ("cidrGroupRef: G", '.cidrGroupRef: invalid "G" (at most 253 lower-case letters, digits, dashes and dots)'),
    ],
)
def test_sets_of_addresses_that_are_refused(item: str, problem: str) -> None:
    assert problems(f"{{ingress: [{{fromCIDRSet: [{{{item}}}]}}]}}") == [f"spec.ingress[0].fromCIDRSet[0]{problem}"]


def test_a_bare_address_is_a_range_of_one() -> None:
    peers = section("{ingress: [{fromCIDR: [10.0.0.0, 10.0.0.0/8]}]}")[0].rules[0].peers
    assert peers == (model.CidrPeer(Prefix(4, 10 << 24, 32)), model.CidrPeer(TEN))


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("fromCIDR: [10.1.2.3/8]", "fromCIDR[0]: 10.1.2.3/8 is taken as 10.0.0.0/8, the range around that address"),
        ("fromCIDR: ['FD00::1/16']", "fromCIDR[0]: FD00::1/16 is taken as fd00::/16, the range around that address"),
        (
            "fromCIDR: [10.0.0.0/8, 10.1.2.3]",
            "fromCIDR[1]: 10.1.2.3 is taken as 10.1.2.3/32 (later versions of Cilium take a range only)",
        ),
        ("fromCIDRSet: [{cidr: 10.0.0.0/8, except: [10.1.2.3/16]}]", "fromCIDRSet[0].except[0]: 10.1.2.3/16 is taken "
         "as 10.1.0.0/16, the range around that address"),
        ("fromCIDR: [10.0.0.0/8, 10.1.2.3/32, 'FD00::/16', 0.0.0.0/0]", ""),
    ],
)  # fmt: skip
def test_what_a_range_is_taken_for_is_told_where_it_says_more(rule: str, told: str) -> None:
    _, problems, advice = read(document(yaml.safe_load(f"{{ingress: [{{{rule}}}]}}")))
    assert (problems, advice) == ([], [f"spec.ingress[0].{told}"] if told else [])


def test_groups_of_a_cloud_select_nobody_and_cannot_be_denied() -> None:
    groups = "[{aws: {region: r, labels: {a: b}, securityGroupsIds: [sg-1], securityGroupsNames: [n]}}]"
    found, advice = section(f"{{ingress: [{{fromGroups: {groups}}}]}}")
    assert found.rules[0].peers == () and found.default_deny == {IN}
    assert advice == ["spec.ingress[0].fromGroups[0]: groups of a cloud are not known here: this selects nobody"]
    assert problems(f"{{ingressDeny: [{{fromGroups: {groups}}}]}}") == [
        "spec.ingressDeny[0].fromGroups[0]: groups of a cloud are not known here: to deny them would deny nothing "
        "(use CIDRSet)"
    ]


def test_labels_that_no_endpoint_has_are_told_of() -> None:
    spec = "{ingress: [{fromEndpoints: [{matchLabels: {'cidrgroup:a': b}}, {matchLabels: {'reserved:world': ''}}]}]}"
    assert section(spec)[1] == [
        "spec.ingress[0].fromEndpoints[0]: selects nobody: endpoints have no labels of source cidrgroup"
    ]


def test_what_was_removed_is_refused_unless_empty() -> None:
    assert section("{egress: [{toRequires: []}]}")[1] == []
    assert problems("{egress: [{toRequires: [{}]}]}") == [
        "spec.egress[0].toRequires: is no longer part of the language (use toEndpoints with matchExpressions)"
    ]


@pytest.mark.parametrize(
    ("more", "wrong"),
    [
        ("description: d, labels: [{key: a, value: b, source: k8s}], log: {value: l}", []),
        ("description: 1", ["description: must be a string (in quotes), is a number"]),
        ("labels: [{value: b}]", ["labels[0]: key is missing"]),
        ('log: {value: "a\\tb"}', ['log.value: invalid "a\\tb" (it holds U+0009, which is no character of a text)']),
        ("log: {value: " + "a" * 33 + "}", ["log.value: is 33 characters long (at most 32)"]),
        ("enableDefaultDeny: {ingres: true}",
         ["enableDefaultDeny.ingres: unknown key: did you mean ingress? (egress, ingress)"]),
        ("enableDefaultDeny: true", ["enableDefaultDeny: must be a mapping, is a boolean"]),
    ],
)  # fmt: skip
def test_what_a_rule_set_says_of_itself(more: str, wrong: list[str]) -> None:
    _, found, _ = read(document(f"{{ingress: [{{}}], {more}}}"))
    assert found == [f"spec.{each}" for each in wrong]


def read_group(text: str) -> tuple[model.CidrGroup | None, list[str]]:
    report = field.Report("g.yaml")
    raw: Any = yaml.safe_load(text)
    group = cidrgroup.read_cidr_group(field.Field(field.Node.of(raw), "", report))
    return group, [f"{p.path}: {p.message}" for p in report.problems]


GROUP = "{{apiVersion: cilium.io/v2, kind: CiliumCIDRGroup, metadata: {{name: g, labels: {{a: b}}}}, spec: {}}}"


def test_groups_of_addresses() -> None:
    ranges = (TEN, Prefix(6, 0xFD << 120, 8))
    spec = "{externalCIDRs: [10.0.0.0/8, 'fd00::/8', 10.0.0.1/8]}"
    assert read_group(GROUP.format(spec)) == (model.CidrGroup("g", {"a": "b"}, ranges, "g.yaml"), [])
    assert read_group(GROUP.format("{externalCIDRs: []}")) == (model.CidrGroup("g", {"a": "b"}, (), "g.yaml"), [])


def test_groups_of_addresses_that_are_refused() -> None:
    assert read_group(GROUP.format("{}")) == (None, ["spec: externalCIDRs is missing"])
    assert read_group(GROUP.format("{externalCIDRs: [10.0.0.0, x, null]}")) == (
        None,
        [
            'spec.externalCIDRs[0]: invalid "10.0.0.0" (an address range, 10.0.0.0/32 for this one address)',
            'spec.externalCIDRs[1]: invalid "x" (an address range such as 10.0.0.0/8 or fd00::/8)',
            "spec.externalCIDRs[2]: must be a string, is nothing",
        ],
    )
    assert read_group(GROUP.replace("name: g", "namespace: n").format("{externalCIDRs: []}"))[1] == [
        "metadata: name is missing",
        "metadata.namespace: this kind belongs to no namespace",
    ]


def stand_in(spec: str, kind: str) -> model.Policy | None:
    raw = document(spec, kind)
    return parse.stand_in(field.Field(field.Node.of(raw), "", field.Report("x")), kind)


def test_the_stand_in_of_a_host_policy_closes_no_pod() -> None:
    policy = stand_in("{nodeSelector: {}, nonsense: 1}", CCNP)
    assert policy is not None and [(s.of_nodes, s.subject) for s in policy.sections] == [(True, model.Selector())]
    assert [s.of_nodes for s in parse.deny(policy).sections] == [True]
    assert stand_in("{nodeSelector: {}, nonsense: 1}", CNP) is None
    policy = stand_in("{nodeSelector: {}, endpointSelector: {}}", CCNP)
    assert policy is not None and [s.of_nodes for s in policy.sections] == [False]


@pytest.mark.parametrize("kind", [CCNP, CLUSTER_MESH])
def test_of_a_host_policy_with_a_mistyped_selector_nobody_can_tell_whom_it_selects(kind: str) -> None:
    for odd in ("endpointSelectr: {matchLabels: {app: db}}", "endpoint: [{}]"):
        assert stand_in(f"{{nodeSelector: {{}}, {odd}, ingress: [{{}}]}}", kind) is None
    policy = stand_in("{nodeSelector: {}, audit: {}, ingress: [{}], log: {}, labels: [{}]}", kind)
    assert policy is not None and [s.of_nodes for s in policy.sections] == [True]
