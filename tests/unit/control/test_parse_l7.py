"""What a rule asks of the bytes: read whole, refused where Cilium refuses it, and never less than is written."""

from unittest import mock

import pytest

from control import model
from control.policy import field
from loader import abi
from tests.unit.control.documents import ALLOW, CCNP, CNP, OUT, PROXY, problems, section

TCP, UDP = abi.Proto.TCP, abi.Proto.UDP
WEB = "ports: [{port: '80', protocol: TCP}]"
SPECS = (model.PortSpec(TCP, 80, 80),)
NOTHING = model.L7Rules(http=())


def egress(*items: str) -> str:
    return f"{{egress: [{{toPorts: [{', '.join('{' + item + '}' for item in items)}]}}]}}"


def rules(*items: str) -> tuple[list[tuple[object, ...]], list[str]]:
    found, advice = section(egress(*items))
    assert {rule.direction for rule in found.rules} == {OUT}
    return [(r.verdict, r.ports, r.l7) for r in found.rules], advice


HeaderMatch, Mismatch = model.HeaderMatch, model.Mismatch


@pytest.mark.parametrize(
    ("request_", "rule"),
    [
        ("{}", model.HttpRule()),
        ("{method: GET, path: '/a/.*', host: a.b}", model.HttpRule("GET", "/a/.*", "a.b")),
        ("{path: '', method: null}", model.HttpRule()),
        ("{headers: [X-A, 'X-B: c: d ']}", model.HttpRule(headers=(HeaderMatch("X-A"), HeaderMatch("X-B", "c: d")))),
        ("{headerMatches: [{name: A}, {name: B, value: c, mismatch: REPLACE}]}",
         model.HttpRule(headers=(HeaderMatch("A"), HeaderMatch("B", "c", Mismatch.REPLACE)))),
        ("{headerMatches: [{name: A, value: '', secret: {name: s}}, {name: B, secret: {name: s, namespace: m}}]}",
         model.HttpRule(headers=(HeaderMatch("A", secret="n/s"), HeaderMatch("B", secret="m/s")))),
    ],
)  # fmt: skip
def test_http_rules(request_: str, rule: model.HttpRule) -> None:
    found, advice = rules(f"{WEB}, rules: {{http: [{request_}]}}")
    assert (found, advice) == ([(PROXY, SPECS, model.L7Rules(http=(rule,)))], [])


@pytest.mark.parametrize(
    ("host", "is_told"),
    [
        ("Shop", True), ("[A-Z]hop", True), ("sho(P|Q)+", True), ("(A|B)?c", False), ("(?i)Shop", False),
        ("shop|Shop", False), ("[A-Z]*", False), ("[^a]+", False), ("\\D", False), ("", False),
    ],
)  # fmt: skip
def test_a_host_that_only_capitals_match_is_told_of(host: str, is_told: bool) -> None:
    found, advice = rules(f"{WEB}, rules: {{http: [{{host: '{host}'}}]}}")
    assert found == [(PROXY, SPECS, model.L7Rules(http=(model.HttpRule(host=host),)))]
    words = f'"{host}" never matches: hosts are compared in lower case (write it so)'
    assert advice == ([f"spec.egress[0].toPorts[0].rules.http[0].host: {words}"] if is_told else [])


def test_the_secrets_of_a_cluster_wide_policy_are_in_the_namespace_default() -> None:
    spec = egress(f"{WEB}, rules: {{http: [{{headerMatches: [{{name: A, secret: {{name: s}}}}]}}]}}")
    wanted = model.L7Rules(http=(model.HttpRule(headers=(HeaderMatch("A", secret="default/s"),)),))
    assert section(spec, CCNP)[0].rules[0].l7 == wanted


def test_dns_rules_are_of_tcp_and_udp() -> None:
    wanted = model.L7Rules(dns=(model.NamePeer("a.b"), model.NamePeer(pattern="*.c")))
    asked = "rules: {dns: [{matchName: A.b.}, {matchPattern: '*.c'}]}"
    both = (model.PortSpec(TCP, 53, 53), model.PortSpec(UDP, 53, 53))
    assert rules(f"ports: [{{port: '53'}}], {asked}") == ([(PROXY, both, wanted)], [])
    assert rules(f"ports: [{{port: '53', protocol: UDP}}], {asked}") == ([(PROXY, both[1:], wanted)], [])


def test_server_names_are_of_tcp() -> None:
    wanted = model.L7Rules(server_names=("a.b", "*.c"))
    asked = "serverNames: [A.b, '*.c']"
    assert rules(f"{WEB}, {asked}") == ([(PROXY, SPECS, wanted)], [])
    assert rules(f"ports: [{{port: '80'}}], {asked}") == (
        [(PROXY, SPECS, wanted)],
        [
            "spec.egress[0].toPorts[0].ports[0]: server names are of TCP: other protocols are not allowed by this item"
        ],
    )  # fmt: skip


TLS_ADVICE = "TLS is not ended or begun here, so this item allows nothing"
KAFKA_ADVICE = "Kafka rules are not served here, so this item lets nothing through"
OTHER_ADVICE = "rules of other protocols are not served here, so this item lets nothing through"


@pytest.mark.parametrize(
    ("asked", "rule", "advice"),
    [
        ("rules: {kafka: [{role: produce, topic: t}]}", (PROXY, SPECS, NOTHING), f".rules.kafka: {KAFKA_ADVICE}"),
        ("rules: {kafka: []}", (PROXY, SPECS, NOTHING), f".rules.kafka: {KAFKA_ADVICE}"),
        ("rules: {l7proto: r2d2, l7: [{cmd: READ}]}", (PROXY, SPECS, NOTHING), f".rules.l7proto: {OTHER_ADVICE}"),
        ("rules: {l7proto: r2d2}", (PROXY, SPECS, NOTHING), f".rules.l7proto: {OTHER_ADVICE}"),
        ("rules: {http: []}", (PROXY, SPECS, NOTHING),
         ".rules.http: is empty, so this item lets nothing through ([{}] lets every request through)"),
        ("rules: {}", (ALLOW, SPECS, None), ".rules: is empty: nothing is asked of what is sent to these ports"),
        ("terminatingTLS: {secret: {name: s}}", (ALLOW, (), None), f".terminatingTLS: {TLS_ADVICE}"),
        ("originatingTLS: {secret: {name: s}, trustedCA: ca.crt}", (ALLOW, (), None), f".originatingTLS: {TLS_ADVICE}"),
        ("terminatingTLS: {secret: {name: s}}, serverNames: [a], rules: {http: [{}]}", (ALLOW, (), None),
         f".terminatingTLS: {TLS_ADVICE}"),
        ("listener: {name: l, envoyConfig: {kind: CiliumEnvoyConfig, name: e}, priority: 1}", (ALLOW, (), None),
         ".listener: there is no Envoy here to listen, so this item allows nothing"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_told_of_and_lets_nothing_through(
    asked: str, rule: tuple[object, ...], advice: str
) -> None:
    assert rules(f"{WEB}, {asked}") == ([rule], [f"spec.egress[0].toPorts[0]{advice}"])


def test_what_is_not_served_takes_nothing_from_other_items() -> None:
    found, _ = rules(f"{WEB}, terminatingTLS: {{secret: {{name: s}}}}", "ports: [{port: '81', protocol: TCP}]")
    assert found == [(ALLOW, (model.PortSpec(TCP, 81, 81),), None)]
    found, _ = rules(f"{WEB}, listener: {{name: l, envoyConfig: {{name: e}}}}", f"{WEB}, serverNames: [a]")
    assert found == [(PROXY, SPECS, model.L7Rules(server_names=("a",)))]


HEADER = '("Name" for a header with any value, or "Name: Value")'


@pytest.mark.parametrize(
    ("item", "wrong"),
    [
        (f"{WEB}, rules: {{http: [{{}}], dns: [{{matchName: a}}]}}",
         [".rules: must have one kind of rules, has http, dns (use two items of toPorts)"]),
        (f"{WEB}, rules: {{l7: [{{}}]}}", [".rules.l7: needs l7proto"]),
        (f"{WEB}, rules: {{http: [{{path: '/(a'}}]}}",
         ['.rules.http[0].path: "/(a" is no regular expression: ")" is missing']),
        (f"{WEB}, rules: {{http: [{{method: '(?=a)'}}]}}",
         ['.rules.http[0].method: "(?=a)" lookahead is not allowed']),
        (f"{WEB}, rules: {{http: [{{host: '(a)\\1'}}]}}",
         ['.rules.http[0].host: "(a)\\\\1" back-references are not allowed']),
        (f"{WEB}, rules: {{http: [{{path: '.{{1000}}'}}, {{path: '(abcde){{999}}'}}]}}",
         ['.rules.http[1].path: "(abcde){999}" needs 4995 states (at most 4000; what is repeated counts each time)']),
        (f"{WEB}, rules: {{http: [{{Path: a}}]}}",
         [".rules.http[0].Path: unknown key: did you mean path? (headerMatches, headers, host, method, path)"]),
        (f"{WEB}, rules: {{http: [{{headers: ['A b', 'A:', ': b', '']}}]}}",
         [f'.rules.http[0].headers[{i}]: invalid "{h}" {HEADER}' for i, h in enumerate(["A b", "A:", ": b", ""])]),
        (f"{WEB}, rules: {{http: [{{headerMatches: [{{value: a}}, {{name: A, mismatch: log}}]}}]}}",
         [".rules.http[0].headerMatches[0]: name is missing",
          '.rules.http[0].headerMatches[1].mismatch: unknown "log" (LOG, ADD, DELETE, REPLACE)']),
        (f"{WEB}, rules: {{http: [{{headerMatches: [{{name: A, secret: {{namespace: m}}}}]}}]}}",
         [".rules.http[0].headerMatches[0].secret: name is missing"]),
        ("ports: [{port: '80'}], rules: {http: [{}]}",
         [".ports[0]: http rules cannot be used with protocol ANY (write protocol: TCP)"]),
        ("ports: [{port: '80', protocol: UDP}], rules: {kafka: [{}]}",
         [".ports[0]: kafka rules cannot be used with protocol UDP (TCP)"]),
        ("ports: [{port: '443', protocol: UDP}], serverNames: [a]",
         [".ports[0]: serverNames rules cannot be used with protocol UDP (TCP)"]),
        ("ports: [{port: '53', protocol: SCTP}], rules: {dns: [{matchName: a}]}",
         [".ports[0]: dns rules cannot be used with protocol SCTP (TCP, UDP, ANY)"]),
        ("ports: [{port: '53', endPort: 54, protocol: UDP}], rules: {dns: [{matchName: a}]}",
         [".ports[0]: DNS rules cannot be used with a range of ports (name each port)"]),
        ("ports: [{port: '0', protocol: TCP}], rules: {http: [{}]}",
         [".ports[0]: http rules cannot be used with port 0 (name the ports)"]),
        (f"{WEB}, serverNames: []", ['.serverNames: must have at least one name (["*"] is every name)']),
        (f"{WEB}, serverNames: [a, A.]", ['.serverNames[1]: "a" is given twice']),
        (f"{WEB}, serverNames: [a], rules: {{http: [{{}}]}}",
         [".serverNames: cannot be combined with rules (use two items, or terminatingTLS)"]),
        (f"{WEB}, terminatingTLS: {{trustedCA: a}}", [".terminatingTLS: secret is missing"]),
        (f"{WEB}, listener: {{name: l, envoyConfig: {{kind: X, name: e}}, priority: 101}}, rules: {{http: [{{}}]}}",
         [".listener: cannot be combined with rules (use two items)",
          '.listener.priority: invalid "101" (a number from 1 to 100)',
          '.listener.envoyConfig.kind: unknown "X" (CiliumEnvoyConfig, CiliumClusterwideEnvoyConfig)']),
        ("rules: {http: [{}]}", [': ports is missing (port "0" means all ports of a protocol)']),
    ],
)  # fmt: skip
def test_items_that_are_refused(item: str, wrong: list[str]) -> None:
    assert problems(egress(item)) == [f"spec.egress[0].toPorts[0]{each}" for each in wrong]


@pytest.mark.parametrize(
    "asked",
    [
        "http: [{many}]", "dns: [{many}]", "kafka: [{many}]", "l7proto: a, l7: [{many}]",
        "http: [{{headers: [{many}]}}]", "http: [{{headerMatches: [{many}]}}]",
    ],
)  # fmt: skip
def test_what_nobody_would_be_told_of_is_not_read(asked: str) -> None:
    wrong = "{path: '(', matchName: '(', topic: 1, name: '('}"
    item = asked.format(many=", ".join([wrong] * 500))
    with mock.patch.object(field.Field, "problem", autospec=True, side_effect=field.Field.problem) as problem:
        problems(egress(f"{WEB}, rules: {{{item}}}"))
    assert problem.call_count < 150


def test_dns_rules_and_listeners_are_for_egress_only() -> None:
    item = f"{WEB}, rules: {{dns: [{{matchName: a}}]}}"
    assert problems(egress(item).replace("egress", "ingress")) == [
        "spec.ingress[0].toPorts[0].rules.dns: DNS rules are for egress only"
    ]
    item = f"{WEB}, listener: {{name: l, envoyConfig: {{name: e}}}}"
    assert problems(egress(item).replace("egress", "ingress")) == [
        "spec.ingress[0].toPorts[0].listener: is for egress only"
    ]


@pytest.mark.parametrize(
    "asked",
    ["rules: {http: [{}]}", "serverNames: [a]", "terminatingTLS: {}", "originatingTLS: {}", "listener: {}"],
)
def test_deny_rules_look_at_no_bytes(asked: str) -> None:
    spec = egress(f"{WEB}, {asked}").replace("egress", "egressDeny")
    place = f"spec.egressDeny[0].toPorts[0].{asked.split(':')[0]}"
    assert problems(spec) == [f"{place}: is for allow rules only (a deny rule has ports)"]


def test_one_kind_of_rules_for_one_port_of_a_rule_set() -> None:
    dns = "ports: [{port: '53', protocol: TCP}], rules: {dns: [{matchName: a}]}"
    http = "ports: [{port: '53', protocol: TCP}], rules: {http: [{}]}"
    clash = "has http rules on a port that has dns rules already (one kind for a port)"
    assert problems(egress(dns, http)) == [f"spec.egress[0].toPorts[1]: {clash}"]
    two = f"{{egress: [{{toPorts: [{{{dns}}}]}}, {{toEntities: [world], toPorts: [{{{http}}}]}}]}}"
    assert problems(two) == [f"spec.egress[1].toPorts[0]: {clash}"]
    assert len(rules(dns, http.replace("53", "54"))[0]) == 2


def test_server_names_and_http_go_together_for_different_peers() -> None:
    names, http = f"{WEB}, serverNames: [a]", f"{WEB}, rules: {{http: [{{}}]}}"
    assert problems(egress(names, http)) == [
        "spec.egress[0].toPorts[1]: has http rules on a port that has serverNames rules already (one kind for a port)"
    ]
    two = f"{{egress: [{{toPorts: [{{{names}}}]}}, {{toEntities: [world], toPorts: [{{{http}}}]}}]}}"
    assert len(section(two, CNP)[0].rules) == 2
