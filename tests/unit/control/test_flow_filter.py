"""Each filter flag against flows it wants and flows it does not; the algebra of repeats and --not by hypothesis."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.flow import filter as flow_filter
from control.flow import labels
from control.flow.filter import Term

FLOW: dict[str, Any] = {
    "uuid": "u-1",
    "verdict": "DROPPED",
    "drop_reason": 133,
    "drop_reason_desc": "POLICY_DENIED",
    "IP": {"source": "10.0.0.1", "destination": "10.1.0.2", "ipVersion": "IPv4"},
    "l4": {"TCP": {"source_port": 40212, "destination_port": 8080, "flags": {"SYN": True, "ACK": True}}},
    "source": {"ID": 1, "identity": 256, "namespace": "shop", "labels": ["k8s:app=web", "k8s:tier=front"],
               "pod_name": "web-7d9f", "workloads": [{"name": "web", "kind": "Deployment"}]},
    "destination": {"identity": 2, "labels": ["reserved:world"]},
    "destination_service": {"name": "api", "namespace": "back"},
    "node_name": "worker-1",
    "event_type": {"type": 1, "sub_type": 133},
    "traffic_direction": "EGRESS",
    "extensions": {"@type": "x", "value": {"sockmesh": {"event": "drop"}}},
}  # fmt: skip


def passes(*terms: Term, flow: dict[str, Any] | None = None) -> bool:
    return flow_filter.predicate(terms)(FLOW if flow is None else flow)


@pytest.mark.parametrize(
    ("flag", "yes", "no"),
    [
        ("verdict", ["DROPPED", "dropped"], ["FORWARDED", "AUDIT"]),
        ("drop-reason-desc", ["POLICY_DENIED", "policy_denied", "133"], ["POLICY_DENY", "181"]),
        ("traffic-direction", ["egress", "EGRESS"], ["ingress"]),
        ("protocol", ["tcp", "TCP"], ["udp", "icmp"]),
        ("ip-version", ["4", "v4", "IPv4"], ["6"]),
        ("tcp-flags", ["syn", "SYN,ACK", "ack, syn"], ["fin", "syn,fin"]),
        ("type", ["drop"], ["trace", "policy-verdict", "trace-sock", "l7", "open", "close", "trace:to-endpoint"]),
        ("uuid", ["u-1"], ["u-", "u-2"]),
        ("node-name", ["worker-1", "worker-*", "*"], ["worker", "other-*"]),
        ("ip", ["10.0.0.1", "10.1.0.2", "10.0.0.0/8", "10.0.0.9/24"], ["10.0.0.2", "fd00::/8"]),
        ("from-ip", ["10.0.0.1", "10.0.0.0/16", "::ffff:10.0.0.1", "::ffff:10.0.0.0/112"],
         ["10.1.0.2", "::ffff:10.1.0.2", "::10.0.0.1", "::/0"]),
        ("to-ip", ["10.1.0.2"], ["10.0.0.1", "10.0.0.0/16"]),
        ("port", ["8080", "40212", "8000-8999"], ["80", "9000-9999"]),
        ("from-port", ["40212"], ["8080"]),
        ("to-port", ["8080"], ["40212"]),
        ("identity", ["256", "2", "world", "reserved:world"], ["257", "host", "unknown"]),
        ("from-identity", ["256"], ["world"]),
        ("to-identity", ["WORLD"], ["256"]),
        ("label", ["app=web", "app", "reserved:world", "k8s:app=web", "app in (web, x),tier=front", "app=web,!x"],
         ["app=api", "reserved:host", "cidr:app=web", "app=web,tier=back"]),
        ("from-label", ["app", "app!=api", "any:app==web", "x notin (y)"], ["!app", "app!=web", "world"]),
        ("to-label", ["!app", "app!=web", "world"], ["app"]),
        ("namespace", ["shop", "back", "sh*"], ["sho"]),
        ("from-namespace", ["shop"], ["back"]),
        ("to-namespace", ["back"], ["shop"]),
        ("pod", ["web", "shop/web", "shop/", "web-7d9f", "shop/*7d*"], ["api", "other/web", "7d"]),
        ("from-pod", ["shop/web"], ["api"]),
        ("to-pod", [], ["shop/web", "shop/"]),
        ("service", ["api", "ap", "back/api", "back/", "*p*"], ["shop/api", "web", "pi"]),
        ("from-service", [], ["api", "web", "shop/"]),
        ("to-service", ["back/api", "api"], ["shop/", "web"]),
    ],
)  # fmt: skip
def test_each_flag(flag: str, yes: list[str], no: list[str]) -> None:
    assert {value: passes(Term(flag, value)) for value in yes + no} == dict.fromkeys(yes, True) | dict.fromkeys(
        no, False
    )


def test_no_flag_is_without_a_test() -> None:
    tests = test_each_flag, test_filters_of_requests
    tested = [row for test in tests for row in test.pytestmark[0].args[1]]  # type: ignore[attr-defined]
    assert {flag for flag, _, _ in tested} == set(flow_filter.FLAGS)


@pytest.mark.parametrize(
    ("event", "event_type", "wanted"),
    [
        ("open", {"type": 5}, {"open", "policy-verdict"}),
        ("audit", {"type": 5}, {"audit", "policy-verdict"}),
        ("close", {"type": 7}, {"close", "trace-sock"}),
        ("periodic", {"type": 4, "sub_type": 5}, {"periodic", "trace", "trace:from-endpoint"}),
        ("close", {"type": 4}, {"close", "trace", "trace:to-endpoint"}),
        ("stuck", {"type": 7}, {"stuck", "trace-sock"}),
        ("policy_reset", {"type": 1, "sub_type": 133}, {"policy-reset", "drop"}),
    ],
)
def test_types(event: str, event_type: dict[str, int], wanted: set[str]) -> None:
    flow = FLOW | {"event_type": event_type, "extensions": {"value": {"sockmesh": {"event": event}}}}
    every = [*flow_filter.TYPES, *flow_filter.OUR_TYPES, "trace:to-endpoint", "trace:from-endpoint"]
    assert {value for value in every if passes(Term("type", value), flow=flow)} == wanted


@pytest.mark.parametrize(
    ("number", "labels", "names"),
    [
        (10, ["reserved:world", "reserved:world-ipv6"], {"world", "world-ipv6"}),
        (1 << 24, ["cidr:10.0.0.0/8", "reserved:world", "reserved:world-ipv4"], {"world", "world-ipv4"}),
        (7, ["reserved:kube-apiserver", "reserved:remote-node"], {"kube-apiserver", "remote-node"}),
        (256, ["k8s:app=world"], set[str]()),
    ],
)
def test_an_identity_by_name_is_whom_policies_mean_by_it(number: int, labels: list[str], names: set[str]) -> None:
    """Nothing has the number of `world` where addresses of both families are told apart."""
    flow = FLOW | {"destination": {"identity": number, "labels": labels}}
    every = ("world", "world-ipv4", "world-ipv6", "host", "kube-apiserver", "remote-node", "unknown")
    assert {name for name in every if passes(Term("to-identity", name), flow=flow)} == names
    assert passes(Term("to-identity", str(number)), flow=flow)
    assert not passes(Term("to-identity", "2"), flow=flow)


@pytest.mark.parametrize(
    ("flag", "value", "facts"),
    [
        ("type", "policy_reset", {"extensions": {"value": {"sockmesh": {"event": "policy_reset"}}}}),
        ("type", "trace:from_endpoint", {"event_type": {"type": 4, "sub_type": 5}}),
        ("type", "policy_verdict", {"event_type": {"type": 5}}),
        ("drop-reason-desc", "policy-denied", {"drop_reason_desc": "POLICY_DENIED"}),
        ("identity", "remote_node", {"source": {"identity": 6}}),
    ],
)
def test_words_may_be_written_with_either_dash(flag: str, value: str, facts: dict[str, Any]) -> None:
    assert passes(Term(flag, value), flow=FLOW | facts)


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("verdict", "NO", '--verdict: unknown "NO" (FORWARDED, DROPPED, ERROR, AUDIT, REDIRECTED, TRACED, TRANSLATED)'),
        ("ip", "10.0.0", '--ip: "10.0.0" is neither an address nor a range (10.0.0.1, 10.0.0.0/8, fd00::/8)'),
        ("port", "http", '--port: "http" is not a port (80) or a range of ports (8000-8999)'),
        ("to-port", "70000", '--to-port: "70000": ports go from 0 to 65535, the lower one first'),
        ("port", "9-8", '--port: "9-8": ports go from 0 to 65535, the lower one first'),
        ("protocol", "http", '--protocol: unknown "http" (tcp, udp, sctp, icmp, icmpv4, icmpv6)'),
        ("type", "trace:x", '--type: unknown "x" (to-endpoint, from-endpoint)'),
        ("type", "drop:x", '--type: "drop:x": only trace has sub types'),
        ("type", "open:x", '--type: "open:x": open has no sub types'),
        ("tcp-flags", "syn,x", '--tcp-flags: unknown "x" (FIN, SYN, RST, PSH, ACK, URG, ECE, CWR, NS)'),
        ("label", "a=b=c", '--label: "a=b=c" is not a label selector '
         "(k=v, k!=v, k, !k, k in (a,b), k notin (a,b))"),
        ("label", "a in (b,)", '--label: "a in (b,)": an empty value in the list'),
        ("pod", "a/b/c", '--pod: "a/b/c" is not a name, namespace/name or namespace/'),
        ("ip-version", "5", '--ip-version: unknown "5" (4, 6)'),
        ("colour", "red", "--colour: there is no such filter"),
    ],
)  # fmt: skip
def test_bad_values_say_what_is_allowed(flag: str, value: str, message: str) -> None:
    with pytest.raises(flow_filter.FilterInvalid) as caught:
        flow_filter.predicate([Term(flag, value)])
    assert str(caught.value) == message


@pytest.mark.parametrize("flag", ["verdict", "identity", "drop-reason-desc", "traffic-direction", "type", "label"])
def test_an_empty_value_is_bad(flag: str) -> None:
    with pytest.raises(flow_filter.FilterInvalid):
        flow_filter.predicate([Term(flag, "")])


@pytest.mark.parametrize(
    ("text", "have", "holds"),
    [
        ("a.b/c-d=x_y", {"k8s:a.b/c-d=x_y"}, True),
        ("a=", {"k8s:a="}, True),
        ("a", {"k8s:a"}, True),
        ("a=", {"k8s:a=1"}, False),
        ("cidr:10.0.0.0/8", {"cidr:10.0.0.0/8"}, True),
        ("cidr:fd00::/8", {"cidr:fd00::/8"}, True),
        ("k8s:a", {"container:a=1"}, False),
        ("a in (1,2), b notin (3)", {"k8s:a=2", "k8s:b=4"}, True),
        ("a in (1,2), b notin (3)", {"k8s:a=2", "k8s:b=3"}, False),
        ("! a", set(), True),
        ("a!=1", set(), True),
        ("a == 1", {"a=1"}, True),
    ],
)
def test_label_selectors(text: str, have: set[str], holds: bool) -> None:
    assert labels.selector(text)(frozenset(have)) is holds


def some(values: list[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


ENDS = st.fixed_dictionaries(
    {},
    optional={
        "identity": some([1, 2, 256, 257]), "namespace": some(["shop", "back"]), "pod_name": some(["web", "api"]),
        "labels": st.lists(some(["k8s:app=web", "k8s:app=api", "k8s:x=y"]), max_size=2),
    },
)  # fmt: skip
PORTS = st.fixed_dictionaries({}, optional={"source_port": some([80, 90]), "destination_port": some([80, 443])})
FLOWS = st.fixed_dictionaries(
    {},
    optional={
        "verdict": some(["FORWARDED", "DROPPED"]), "source": ENDS, "destination": ENDS,
        "IP": st.fixed_dictionaries({"source": some(["10.0.0.1", "fd00::1"]), "destination": some(["10.0.0.2"])}),
        "l4": st.one_of(st.fixed_dictionaries({"TCP": PORTS}), st.fixed_dictionaries({"UDP": PORTS})),
        "traffic_direction": some(["INGRESS", "EGRESS"]), "event_type": some([{"type": 4}, {"type": 7}, {}]),
    },
)  # fmt: skip
TERMS = some(
    [
        Term(flag, value)
        for flag, values in {
            "verdict": ["DROPPED", "FORWARDED"], "from-pod": ["web", "shop/web"], "pod": ["api"], "to-port": ["80"],
            "port": ["443", "90"], "ip": ["10.0.0.0/24", "fd00::1"], "to-label": ["app=web", "app!=web"],
            "label": ["x"], "namespace": ["shop"], "identity": ["world"], "type": ["trace", "trace-sock"],
            "protocol": ["tcp", "udp"], "traffic-direction": ["ingress"],
        }.items()
        for value in values
    ]
)  # fmt: skip


@given(FLOWS, st.lists(TERMS, max_size=6), st.lists(TERMS, max_size=3))
def test_repeats_are_alternatives_flags_add_up_not_removes(
    flow: dict[str, Any], wanted: list[Term], unwanted: list[Term]
) -> None:
    before = copy.deepcopy(flow)
    terms = wanted + [Term(term.flag, term.value, negated=True) for term in unwanted]
    alone = {term: passes(term, flow=flow) for term in [*wanted, *unwanted]}
    flags = {term.flag for term in wanted}
    expected = all(any(alone[t] for t in wanted if t.flag == flag) for flag in flags)
    expected = expected and not any(alone[t] for t in unwanted)
    assert passes(*terms, flow=flow) is expected
    assert passes(*reversed(terms), flow=flow) is expected
    assert flow == before


@given(FLOWS, some(["ip=10.0.0.0/24", "port=80", "pod=web", "namespace=shop", "label=app=web", "identity=256"]))
def test_the_plain_form_is_either_end(flow: dict[str, Any], term: str) -> None:
    flag, _, value = term.partition("=")
    either, source, destination = (passes(Term(p + flag, value), flow=flow) for p in ("", "from-", "to-"))
    assert either is (source or destination)


REQUEST: dict[str, Any] = {
    "event_type": {"type": 129},
    "l7": {"type": "RESPONSE", "http": {"code": 404, "method": "GET", "url": "http://api.shop/v1/items?id=7",
           "headers": [{"key": "x-request-id", "value": "a:b"}]}},
    "trace_context": {"parent": {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"}},
    "extensions": {"value": {"sockmesh": {"event": "request"}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("flag", "yes", "no"),
    [
        ("http-method", ["GET", "get"], ["POST", "GE"]),
        ("http-status", ["404", "4+", "40+"], ["200", "5+", "41+", "400"]),
        ("http-path", ["^/v1/items$", "items", ""], ["id=7", "api", "^v1"]),
        ("http-url", ["^http://api[.]shop/", "id=7", ""], ["https", "^/v1"]),
        ("http-header", ["x-request-id:a:b", "X-Request-Id:a:b"], ["x-request-id:a", "x-request-id:", "y:a:b"]),
        ("trace-id", ["4bf92f3577b34da6a3ce929d0e0e4736"], ["4bf92f"]),
        ("type", ["l7", "request"], ["drop", "open"]),
    ],
)
def test_filters_of_requests(flag: str, yes: list[str], no: list[str]) -> None:
    assert [value for value in yes if not passes(Term(flag, value), flow=REQUEST)] == []
    assert [value for value in no if passes(Term(flag, value), flow=REQUEST)] == []
    assert flag == "type" or not any(passes(Term(flag, value)) for value in yes)  # a flow that is no request


@pytest.mark.parametrize(
    ("flag", "value"),
    [("http-status", "abc"), ("http-status", "600"), ("http-status", "+"), ("http-path", "("), ("http-header", "x")],
)
def test_values_that_no_request_has(flag: str, value: str) -> None:
    with pytest.raises(flow_filter.FilterInvalid, match=f"--{flag}: "):
        flow_filter.predicate([Term(flag, value)])
