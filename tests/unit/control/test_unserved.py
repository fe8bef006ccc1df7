"""What is told offline of rules that mean what not every node serves, and of two policies at odds over a port."""

import json
from pathlib import Path

import pytest
from click import testing

from control.cli.main import cli
from control.source import directory, manifests, unlearned, unserved

POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: %s, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: %s}}, %s}
"""
WEB = """
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: []}
"""
API_SERVER = """
apiVersion: v1
kind: Service
metadata: {name: kubernetes, namespace: default}
spec: {endpoints: [192.0.2.1]}
"""
ENDPOINTS = """
apiVersion: v1
kind: Endpoints
metadata: {name: kubernetes, namespace: default}
subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 6443}]}]
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kubernetes, namespace: default, labels: {kubernetes.io/service-name: kubernetes}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1]}]
ports: [{name: https, port: 6443}]
"""
RULE = "CiliumNetworkPolicy shop/p spec."
MISSING = f"needs the node proxy ({unserved.REMEDY})"


def advice(path: Path, *documents: str) -> list[str]:
    (path / "a.yaml").write_text("---".join(documents))
    result = manifests.load([path])
    assert result.problems == ()
    return [f"{a.path}: {a.message}" for a in result.advice]


def asking(what: str) -> str:
    return f"egress: [{{toPorts: [{{ports: [{{port: '80', protocol: TCP}}], {what}}}]}}]"


@pytest.mark.parametrize(
    ("what", "field"),
    [
        ("rules: {http: [{}]}", "rules.http"),
        ("rules: {dns: [{matchName: a.b}]}", "rules.dns"),
        ("serverNames: [a.b]", "serverNames"),
    ],
)
def test_what_needs_the_proxy(tmp_path: Path, what: str, field: str) -> None:
    assert advice(tmp_path, POLICY % ("p", "web", asking(what))) == [f"{RULE}egress[0]: {field} {MISSING}"]


@pytest.mark.parametrize("what", ["rules: {http: []}", "rules: {kafka: [{topic: a}]}"])
def test_what_lets_nothing_through_is_told_of_once(tmp_path: Path, what: str) -> None:
    (only,) = advice(tmp_path, POLICY % ("p", "web", asking(what)))
    assert "so this item lets nothing through" in only


def test_each_kind_that_needs_the_proxy_is_told_of_once_a_policy(tmp_path: Path) -> None:
    port = "{toPorts: [{ports: [{port: '%d', protocol: TCP}], %s}]}"
    asked = ["serverNames: [a.b]", "serverNames: [b.c]", "rules: {http: [{}]}"]
    rules = ", ".join(port % (443 + number, each) for number, each in enumerate(asked))
    assert advice(tmp_path, POLICY % ("p", "web", f"egress: [{rules}]")) == [
        f"{RULE}egress[0]: serverNames {MISSING}",
        f"{RULE}egress[2]: rules.http {MISSING}",
    ]


NAMES = """
apiVersion: sockmesh.io/v1
kind: MeshNetworkPolicy
metadata: {name: n, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  egress: [{toEntities: [all]}, {toFQDNs: [{matchName: a.example}, {matchPattern: b.*}]}]
  egressDeny: [{toFQDNs: [{matchName: a.example}]}]
"""
DNS = asking("rules: {dns: [{matchPattern: '*'}]}").replace("'80'", "'53'")
UNLEARNED = [
    f"MeshNetworkPolicy shop/n spec.{rule} nothing without the node proxy, which learns names ({unserved.REMEDY})"
    for rule in ("egress[1]: toFQDNs allows", "egressDeny[0]: toFQDNs denies")
]


@pytest.mark.parametrize("beside", ["ingress: [{fromEntities: [all]}]", DNS])
def test_each_rule_for_names_is_told_of_whatever_others_have(tmp_path: Path, beside: str) -> None:
    told = advice(tmp_path, NAMES, POLICY % ("p", "web", beside))
    assert [line for line in told if "toFQDNs" in line] == UNLEARNED
    agent = directory.load(tmp_path, None)
    assert [f"{p.path}: {p.message}" for p in agent.problems if "toFQDNs" in p.message] == UNLEARNED
    assert not [p for p in directory.load(tmp_path, None, has_proxy=True).problems if "toFQDNs" in p.message]


@pytest.mark.parametrize("port", ["443", "80"])
def test_a_trace_to_a_name_says_who_learns_names(tmp_path: Path, port: str) -> None:
    advice(tmp_path, NAMES, WEB, POLICY % ("dns", "web", DNS))
    call = ["policy", "trace", "-f", str(tmp_path), "--from", "shop/web", "--port", port]
    found = testing.CliRunner().invoke(cli, [*call, "--to", "fqdn:a.example"])
    assert found.exit_code == 1 and found.stdout.splitlines()[-1] == f"  note    {unserved.LEARNS_NAMES}"
    found = testing.CliRunner().invoke(cli, [*call, "--to", "fqdn:c.example", "-o", "json"])
    assert found.exit_code == 0 and json.loads(found.stdout)["note"] == unserved.LEARNS_NAMES
    assert "note" not in json.loads(testing.CliRunner().invoke(cli, [*call, "--to", "192.0.2.1", "-o", "json"]).stdout)


UNSEEN = f"MeshNetworkPolicy shop/n spec.%s: {unlearned.UNSEEN} %s, {unlearned.NOT_LEARNED}"
RULES = ("egress[1]", "egressDeny[0]")


@pytest.mark.parametrize("pods", [(), (WEB,)])
def test_names_of_pods_whose_queries_the_proxy_does_not_see(tmp_path: Path, pods: tuple[str, ...]) -> None:
    for beside, is_seen in (
        ("egress: [{toEntities: [all]}]", False),
        (DNS, True),
        (f"{DNS}, enableDefaultDeny: {{egress: false}}", False),
        (f"{DNS}, egressDeny: [{PLAIN_53}]", False),
        (f"{DNS}, egressDeny: [{PLAIN_53.replace('53', '54')}]", True),
        (f"{DNS}, egressDeny: [{PLAIN_53.replace('toPorts', 'toEntities: [all], toPorts')}]", False),
        (DNS.replace("'53'", "'1053'"), False),
    ):
        told = advice(tmp_path, NAMES, POLICY % ("dns", "web", beside), *pods)
        found = [line for line in told if unlearned.UNSEEN in line]
        assert found == ([] if is_seen else [UNSEEN % (rule, "these pods") for rule in RULES])
        call = ["policy", "trace", "-f", str(tmp_path), "--from", "shop/web", "--port", "443", "--to", "fqdn:b.example"]
        if pods:
            note = testing.CliRunner().invoke(cli, call).stdout.splitlines()[-1]
            assert (f"{unlearned.UNSEEN} shop/web, {unlearned.NOT_LEARNED}" in note) != is_seen
    # A rule for others does not help, nor does one for some of them.
    told = advice(tmp_path, NAMES, POLICY % ("dns", "db", DNS), *pods)
    assert UNSEEN % (RULES[0], "these pods") in told
    other = WEB.replace("name: web", "name: other").replace("app: web", "app: web, tier: b")
    some = (POLICY % ("dns", "web", DNS)).replace("app: web", "tier: b")
    assert UNSEEN % (RULES[0], "some of these pods") in advice(tmp_path, NAMES, some, WEB, other)


KUBE_DNS = """
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {selector: {k8s-app: kube-dns}, ports: [{port: 53, protocol: UDP, targetPort: %s}]}
"""
PLAIN_53 = "{toPorts: [{ports: [{port: '53', protocol: TCP}]}]}"


@pytest.mark.parametrize(
    ("beside", "services", "is_seen"),
    [
        (DNS, (), True),
        (DNS.replace("'53'", "'80'"), (), False),
        (DNS.replace("'53'", "'8053'"), (), False),
        (DNS.replace("'53'", "'8053'"), (KUBE_DNS % 8053,), True),
        (DNS.replace("'53'", "dns"), (), True),  # of pods that are not declared
        (DNS.replace("'53'", "http"), (WEB.replace("[]", "[{ports: [{name: http, containerPort: 80}]}]"),), False),
        # In rules a port name is none of pods on their node's network.
        (
            DNS.replace("'53'", "dns"),
            (
                WEB.replace("[]", "[{ports: [{name: dns, containerPort: 80}]}]"),
                WEB.replace("name: web", "name: at-node").replace(
                    "[]", "[{ports: [{name: dns, containerPort: 53}]}], hostNetwork: true"
                ),
            ),
            False,
        ),
        (DNS.replace("{toPorts", "{toEndpoints: [], toPorts"), (), False),
        (DNS.replace("{toPorts", "{toEntities: [none], toPorts"), (), False),
        (DNS.replace("{toPorts", "{toEntities: [health, init], toPorts"), (), False),
        (DNS.replace("{toPorts", "{toEntities: [health, world], toPorts"), (), True),
        (DNS.replace("{toPorts", "{toFQDNs: [{matchName: dns.example}], toPorts"), (), False),
        (DNS.replace("'53', protocol: TCP}", "'53', protocol: TCP}, {port: '53', protocol: UDP}"), (), True),
        (f"{DNS[:-1]}, {PLAIN_53}]", (), False),
    ],
)
def test_where_the_proxy_sees_queries(tmp_path: Path, beside: str, services: tuple[str, ...], is_seen: bool) -> None:
    told = advice(tmp_path, NAMES, POLICY % ("dns", "web", beside), *services)
    mine = [line for line in told if unlearned.UNSEEN in line and "shop/n " in line]
    assert mine == ([] if is_seen else [UNSEEN % (rule, "these pods") for rule in RULES])
    # A trace says the same of one of the pods.
    if not any("name: web\n" in each or "name: web," in each for each in services):
        advice(tmp_path, NAMES, POLICY % ("dns", "web", beside), WEB, *services)
    call = ["policy", "trace", "-f", str(tmp_path), "--from", "shop/web", "--port", "443", "--to", "fqdn:b.example"]
    note = testing.CliRunner().invoke(cli, call).stdout.splitlines()[-1]
    assert (f"{unlearned.UNSEEN} shop/web, {unlearned.NOT_LEARNED}" in note) != is_seen


@pytest.mark.parametrize(
    ("labels", "is_seen"),
    [
        ("tier: b", True),  # these may be the same pods
        ("app: web, tier: b", True),
        ("app: db", False),
    ],
)
def test_without_pods_who_may_be_meant_is(tmp_path: Path, labels: str, is_seen: bool) -> None:
    told = advice(tmp_path, NAMES, (POLICY % ("dns", "web", DNS)).replace("app: web", labels))
    found = [line for line in told if unlearned.UNSEEN in line]
    assert found == ([] if is_seen else [UNSEEN % (rule, "these pods") for rule in RULES])


@pytest.mark.parametrize("pods", [(), (WEB,)])
def test_names_that_no_rule_lets_pods_ask_for(tmp_path: Path, pods: tuple[str, ...]) -> None:
    for let, *refused in (
        ("matchName: A.example", "b.*", ""),
        ("matchPattern: '*.example'", "", ""),  # b.example is one of b.*
        ("matchName: b.example", "a.example", "a.example"),
        ("matchPattern: '*.c.example'", "a.example", "a.example"),
        ("matchName: c.org", "a.example, b.*", "a.example"),
    ):
        told = advice(tmp_path, NAMES, POLICY % ("dns", "web", DNS.replace("matchPattern: '*'", let)), *pods)
        assert [line for line in told if unlearned.REFUSED in line] == [
            f"MeshNetworkPolicy shop/n spec.{rule}: {unlearned.REFUSED} these pods lets {names} through, "
            "so the proxy learns no address of it from them"
            for rule, names in zip(RULES, refused, strict=True)
            if names
        ]
        assert not [line for line in told if unlearned.UNSEEN in line]


def test_entities_that_are_nobody(tmp_path: Path) -> None:
    rules = "ingressDeny: [{fromEntities: [health]}], egress: [{toEntities: [kube-apiserver, world]}]"
    assert advice(tmp_path, POLICY % ("p", "web", rules)) == [
        f"{RULE}ingressDeny[0]: entity health: nobody is that here, so this rule denies nothing",
        f"{RULE}egress[0]: entity kube-apiserver: no endpoints of the service default/kubernetes say where that is, "
        "so this rule allows nothing there",
    ]
    again = "matchExpressions: [{key: 'reserved:ingress', operator: Exists}]"
    rules = f"ingress: [{{fromEndpoints: [{{matchLabels: {{'reserved:ingress': ''}}, {again}}}]}}]"
    assert advice(tmp_path, POLICY % ("p", "web", rules), WEB) == [
        f"{RULE}ingress[0]: reserved:ingress: nobody is that here, so this rule allows nothing",
    ]
    rules = "egress: [{toEntities: [kube-apiserver, world, host]}]"
    assert advice(tmp_path, POLICY % ("p", "web", rules), API_SERVER) == []


@pytest.mark.parametrize(
    ("peer", "called"),
    [
        ("fromEntities: [unmanaged]", "entity unmanaged"),
        ("fromEndpoints: [{matchLabels: {'reserved:unmanaged': ''}}]", "reserved:unmanaged"),
    ],
)
def test_who_is_unmanaged_only_an_agent_knows(tmp_path: Path, peer: str, called: str) -> None:
    assert advice(tmp_path, POLICY % ("p", "web", f"ingress: [{{{peer}}}]"), WEB) == [
        f"{RULE}ingress[0]: {called}: nobody is that where the agent has no --cluster-cidr, so this rule allows nothing"
    ]


@pytest.mark.parametrize("listed", [ENDPOINTS, SLICE])
def test_the_addresses_of_the_api_server_without_its_service(tmp_path: Path, listed: str) -> None:
    rules = "egress: [{toEntities: [kube-apiserver]}]"
    assert advice(tmp_path, POLICY % ("p", "web", rules), listed, WEB) == []
    command = ["policy", "trace", "-f", str(tmp_path), "--from", "shop/web", "--port", "443", "--to"]
    assert testing.CliRunner().invoke(cli, [*command, "192.0.2.1"]).exit_code == 0
    assert testing.CliRunner().invoke(cli, [*command, "192.0.2.2"]).exit_code == 1
    assert advice(tmp_path, POLICY % ("p", "web", rules), listed.replace("default", "other"), WEB) != []


@pytest.mark.parametrize(
    ("other", "app", "clash"),
    [
        (asking("rules: {dns: [{matchName: a.b}]}"), "web", True),
        (asking("serverNames: [a.b]"), "web", True),
        (asking("serverNames: [a.b]").replace("{toPorts", "{toEntities: [world], toPorts"), "web", True),
        (asking("serverNames: [a.b]").replace("'80'", "'81'"), "web", False),
        (asking("rules: {http: [{path: /}]}"), "web", False),
        (asking("rules: {dns: [{matchName: a.b}]}"), "db", False),
    ],
)
def test_two_policies_that_ask_two_protocols_of_a_port(tmp_path: Path, other: str, app: str, clash: bool) -> None:
    told = advice(tmp_path, POLICY % ("a", "web", asking("rules: {http: [{}]}")), POLICY % ("p", app, other))
    found = [line for line in told if "speaks one protocol" in line]
    assert len(found) == clash
    assert not found or found[0].startswith(f"{RULE}egress[0]: ")
    assert not found or "on port 80/TCP, for which CiliumNetworkPolicy shop/a has rules.http: " in found[0]


OF_CL = "ingress: [{fromEndpoints: [{matchLabels: {app: cl}}], toPorts: [{ports: [{port: '80', protocol: TCP}], %s}]}]"
GET, SNI = "rules: {http: [{method: GET}]}", "serverNames: [a.org]"
PLAIN = "ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: '80', endPort: 90}]}]}]"
NAMING = WEB.replace("[]", "[{ports: [{name: http, containerPort: 80}]}]")


@pytest.mark.parametrize(
    ("labels", "old", "new", "clash"),
    [
        ("app: web", "", "", True),
        ("tier: t", "", "", True),
        ("app: db", "", "", False),
        ("app: web", "'80'", "'80', endPort: 90", True),
        ("app: web", "'80'", "'81', endPort: 90", False),
        ("app: web", "{matchLabels: {app: cl}}", "{}", True),
        ("app: web", "{matchLabels: {app: cl}}", "{matchLabels: {app: db}}", False),
        ("app: web", "'80'", "http", True),  # a declared pod calls that so
        ("app: web", "'80'", "dns", False),
    ],
)
def test_rules_of_two_kinds_that_meet(tmp_path: Path, labels: str, old: str, new: str, clash: bool) -> None:
    other = (POLICY % ("p", "web", (OF_CL % SNI).replace(old, new))).replace("app: web", labels)
    told = advice(tmp_path, NAMING, POLICY % ("a", "web", OF_CL % GET), other)
    found = [line for line in told if "speaks one protocol" in line]
    port = "http/TCP" if new == "http" else "80-90/TCP" if "endPort" in new else "80/TCP"
    where = f"{RULE}ingress[0]: serverNames on port {port}, for which CiliumNetworkPolicy shop/a has rules.http: "
    assert [line.startswith(where) for line in found] == [True] * clash


@pytest.mark.parametrize(
    ("labels", "more", "shut"),
    [
        ("app: web", "", "ap"),  # neither lets anything through
        ("", "", "a"),  # what is for more pods lets those through of others
        ("tier: t", "", ""),
        ("", ", enableDefaultDeny: {ingress: false}", "p"),  # a spec that refuses nothing shuts nothing
        (
            "app: web",
            "}\n---" + (POLICY % ("plain", "web", PLAIN)).removesuffix("}\n"),
            "",
        ),  # for some it may let all through
    ],
)
def test_what_another_kind_of_rules_shuts_needs_no_proxy(tmp_path: Path, labels: str, more: str, shut: str) -> None:
    other = (POLICY % ("p", "web", OF_CL % SNI)).replace("app: web", labels)
    other = other.removesuffix("}\n") + more + "}\n"
    told = advice(tmp_path, WEB, POLICY % ("a", "web", OF_CL % GET), other)
    assert [name for name in "ap" if not any(f"shop/{name} " in line and MISSING in line for line in told)] == list(
        shut
    )
    pairs = testing.CliRunner().invoke(cli, ["policy", "connectivity", "-f", str(tmp_path)]).stderr
    said = next((line for line in pairs.splitlines() if "among these" in line), "")
    assert [name for name in "ap" if f"shop/{name} " not in said] == list(shut)


@pytest.mark.parametrize("peers", ["[{}]", "[{matchLabels: {app: db}}]"])
def test_rules_of_two_kinds_that_meet_in_one_spec(tmp_path: Path, peers: str) -> None:
    second = (OF_CL % SNI).removeprefix("ingress: [").replace("[{matchLabels: {app: cl}}]", peers)
    told = advice(tmp_path, WEB, POLICY % ("p", "web", f"{(OF_CL % GET)[:-1]}, {second}"))
    found = [line for line in told if "speaks one protocol" in line]
    where = f"{RULE}ingress[1]: serverNames on port 80/TCP, for which spec.ingress[0] has rules.http: "
    assert [line.startswith(where) for line in found] == [True] * (peers == "[{}]")


def test_two_specs_of_one_policy_that_ask_two_protocols_of_a_port(tmp_path: Path) -> None:
    rules = [asking("rules: {dns: [{matchName: a.b}]}"), asking("rules: {http: [{}]}")]
    specs = ", ".join(f"{{endpointSelector: {{}}, {rule}}}" for rule in rules)
    head = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: p, namespace: shop}\n"
    told = advice(tmp_path, f"{head}specs: [{specs}]\n")
    assert [line for line in told if "speaks one protocol" in line] == [
        "CiliumNetworkPolicy shop/p specs[1].egress[0]: rules.http on port 80/TCP, for which specs[0] has rules.dns: "
        "a port speaks one protocol (one kind of rules for the same endpoints and port)"
    ]


def test_a_trace_says_what_needs_the_proxy(tmp_path: Path) -> None:
    advice(tmp_path, POLICY % ("p", "web", asking("rules: {http: [{path: /}]}")), WEB)
    call = ["policy", "trace", "-f", str(tmp_path), "--from", "shop/web", "--to", "192.0.2.9", "--port", "80"]
    found = testing.CliRunner().invoke(cli, call)
    assert found.exit_code == 0 and found.stdout.splitlines()[-1] == f"  note    {unserved.NEEDS_PROXY}"
    assert json.loads(testing.CliRunner().invoke(cli, [*call, "-o", "json"]).stdout)["note"] == unserved.NEEDS_PROXY
    refused = testing.CliRunner().invoke(cli, [*call, "--path", "/x"])
    assert refused.exit_code == 1 and unserved.NEEDS_PROXY not in refused.stdout


AUDITED = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {sockmesh.io/audit: "true"}}
"""
EVERYWHERE = """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: all}
spec: {endpointSelector: {matchLabels: {"k8s:io.kubernetes.pod.namespace": shop, app: web}}, %s}
"""


def test_an_audited_rule_for_queries_leads_nobody_to_the_proxy(tmp_path: Path) -> None:
    everywhere = EVERYWHERE % "egress: [{toFQDNs: [{matchName: b.example}]}]"
    dns = POLICY % ("dns", "web", DNS)
    rule = "CiliumClusterwideNetworkPolicy all spec.egress[0]"
    unseen = f"{rule}: {unlearned.UNSEEN} these pods, {unlearned.NOT_LEARNED}"
    assert unseen not in advice(tmp_path, everywhere, dns, WEB)
    assert unseen in advice(tmp_path, everywhere, dns, WEB, AUDITED)


def test_an_audited_rule_for_other_bytes_shuts_nothing(tmp_path: Path) -> None:
    everywhere = EVERYWHERE % asking("rules: {http: [{}]}")
    names = POLICY % ("p", "web", asking("serverNames: [a.example]"))
    missing = f"CiliumClusterwideNetworkPolicy all spec.egress[0]: rules.http {MISSING}"
    assert missing not in advice(tmp_path, everywhere, names, WEB)
    assert missing in advice(tmp_path, everywhere, names, WEB, AUDITED)
