"""Documents drawn at random: a right one gives what it was written from, a wrong one is refused and never opens."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from control import model
from control.policy import peers, selectors
from loader import abi
from tests.unit.control.documents import ALLOW, CNP, DENY, IN, MESH, OUT, PROXY, document, read

Drawn = tuple[Any, Any]  # as it is written, and what it means
HERE = selectors.in_namespace("n")
LISTS = {"ingress": (IN, ALLOW), "ingressDeny": (IN, DENY), "egress": (OUT, ALLOW), "egressDeny": (OUT, DENY)}
PORTLESS = ["VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH"]
few = settings(max_examples=60, deadline=None)

names = st.sampled_from(["a", "b-c", "web", "x1"])
hosts = st.sampled_from(["a.example.com", "b.c", "_x.y"])
patterns = st.sampled_from(["*", "*.example.com", "**.c", "a*.b"])


def pairs(written: st.SearchStrategy[Any], means: Any) -> st.SearchStrategy[Drawn]:
    return written.map(lambda value: (value, means(value)))


def lists(of: st.SearchStrategy[Drawn], least: int = 1) -> st.SearchStrategy[Drawn]:
    drawn = st.lists(of, min_size=least, max_size=3)
    return drawn.map(lambda items: ([w for w, _ in items], tuple(m for _, m in items)))


@st.composite
def label_selectors(draw: st.DrawFn) -> Drawn:
    labels: dict[str, str] = draw(st.dictionaries(names, names, max_size=2))
    wanted = [model.Requirement("any", k, model.Operator.IN, (v,)) for k, v in sorted(labels.items())]
    written: dict[str, Any] = {"matchLabels": labels}
    if draw(st.booleans()):
        key, operator = draw(names), draw(st.sampled_from(list(model.Operator)))
        values = draw(st.lists(names, min_size=1, max_size=2)) if operator.value in ("In", "NotIn") else []
        written["matchExpressions"] = [{"key": key, "operator": operator.value, "values": values}]
        wanted.append(model.Requirement("any", key, operator, tuple(values)))
    return written, model.Selector(tuple(wanted))


prefixes = pairs(
    st.tuples(st.sampled_from(["10.0.0.0", "192.0.2.128"]), st.integers(8, 32)).map(lambda p: f"{p[0]}/{p[1]}"),
    peers.parse_prefix,
)
fqdns = pairs(hosts.map(lambda n: {"matchName": n}), lambda w: model.NamePeer(w["matchName"])) | pairs(
    patterns.map(lambda n: {"matchPattern": n}), lambda w: model.NamePeer(pattern=w["matchPattern"])
)
PEERS: dict[str, st.SearchStrategy[Drawn]] = {
    "Endpoints": label_selectors().map(lambda d: (d[0], d[1].with_requirements(HERE))),
    "Nodes": label_selectors().map(lambda d: (d[0], model.NodePeer(d[1]))),
    "CIDR": prefixes.map(lambda d: (d[0], model.CidrPeer(d[1]))),
    "CIDRSet": prefixes.map(lambda d: ({"cidr": d[0]}, model.CidrPeer(d[1])))
    | pairs(names.map(lambda n: {"cidrGroupRef": n}), lambda w: model.CidrGroupPeer(w["cidrGroupRef"])),
    "Entities": pairs(st.sampled_from([e.value for e in model.Entity]), model.Entity),
    "Services": pairs(
        names.map(lambda n: {"k8sService": {"serviceName": n}}),
        lambda w: model.ServicePeer("", w["k8sService"]["serviceName"]),
    ),
    "FQDNs": fqdns,
}


@st.composite
def plain_ports(draw: st.DrawFn) -> Drawn:
    proto = draw(st.sampled_from(["TCP", "UDP", "SCTP", *PORTLESS]))
    if proto in PORTLESS:
        return {"protocol": proto}, model.PortSpec(abi.Proto[proto])
    first, size = draw(st.integers(1, 60000)), draw(st.integers(0, 2))
    written = {"port": str(first), "protocol": proto} | ({"endPort": first + size} if size else {})
    return written, model.PortSpec(abi.Proto[proto], first, first + size)


tcp_port = pairs(
    st.integers(1, 65535).map(lambda n: {"port": str(n), "protocol": "TCP"}),
    lambda w: model.PortSpec(abi.Proto.TCP, int(w["port"]), int(w["port"])),
)
headers = pairs(st.sampled_from(["X-A", "X-B"]), model.HeaderMatch) | pairs(
    st.sampled_from(["X-A", "X-B"]).map(lambda n: f"{n}: v"), lambda w: model.HeaderMatch(w[:3], "v")
)


@st.composite
def http_rules(draw: st.DrawFn) -> Drawn:
    parts = draw(st.fixed_dictionaries({}, optional={"method": names, "path": names, "host": hosts}))
    written, wanted = draw(lists(headers, 0))
    return parts | ({"headers": written} if written else {}), model.HttpRule(**parts, headers=wanted)


@st.composite
def port_items(draw: st.DrawFn, with_l7: bool, egress: bool) -> Drawn:
    """One item of `toPorts`: what it says, and its ports and L7 rules. Only one kind, so that none is mixed."""
    if not with_l7 or draw(st.booleans()):
        ports, specs = draw(lists(plain_ports()))
        return {"ports": ports}, (specs, None)
    ports, specs = draw(lists(tcp_port))
    if egress:
        rules, wanted = draw(lists(fqdns))
        return {"ports": ports, "rules": {"dns": rules}}, (specs, model.L7Rules(dns=wanted))
    rules, wanted = draw(lists(http_rules()))
    return {"ports": ports, "rules": {"http": rules}}, (specs, model.L7Rules(http=wanted))


@st.composite
def rule_items(draw: st.DrawFn, key: str) -> Drawn:
    """One item of a list of rules, and what its rules say."""
    direction, verdict = LISTS[key]
    way = "from" if direction == IN else "to"
    written: dict[str, Any] = {}
    who = None
    if draw(st.booleans()):
        kind = draw(st.sampled_from([k for k in PEERS if way == "to" or k not in ("Services", "FQDNs")]))
        written[way + kind], who = draw(lists(PEERS[kind]))
    if not draw(st.booleans()):
        return written, [(direction, verdict, () if who is None else who, None, None)]
    written["toPorts"], items = draw(lists(port_items(verdict == ALLOW, direction == OUT)))
    groups: dict[model.L7Rules | None, dict[model.PortSpec, None]] = {}
    for specs, asked in items:
        groups.setdefault(asked, {}).update(dict.fromkeys(specs))
    return written, [
        (direction, PROXY if asked else verdict, who, tuple(specs), asked) for asked, specs in groups.items()
    ]


@st.composite
def specs(draw: st.DrawFn) -> Drawn:
    keys = draw(st.lists(st.sampled_from(list(LISTS)), min_size=1, max_size=2, unique=True))
    written, wanted = {}, []
    for key in LISTS:
        if key in keys:
            items = draw(st.lists(rule_items(key), min_size=1, max_size=2))
            written[key] = [w for w, _ in items]
            wanted += [rule for _, rules in items for rule in rules]
    return written, wanted


@few
@given(specs())
def test_a_right_document_gives_what_it_was_written_from(drawn: Drawn) -> None:
    policy, problems, advice = read(document(drawn[0], MESH))
    assert policy is not None, problems
    expected = ("is taken as", "is empty", "names nobody")  # of addresses, and of what does nothing
    assert [told for told in advice if not any(words in told for words in expected)] == []
    assert [(r.direction, r.verdict, r.peers, r.ports, r.l7) for r in policy.sections[0].rules] == drawn[1]


# --- mutations -------------------------------------------------------------------------------------------------------

FREE = ("matchLabels", "labels", "annotations")  # any key is right there
WRONG = {dict: "x", list: {"x": 1}, str: 1.5, int: "x!", bool: "x"}
NARROWING = ("values", "matchExpressions", "headers", "except")  # to take one away says that more is meant


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything in a document."""
    if at:
        yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*at, key))


def at(value: Any, way: tuple[Any, ...]) -> Any:
    for key in way:
        value = value[key]
    return value


@few
@given(specs(), st.data())
def test_a_mistyped_key_is_refused(drawn: Drawn, data: st.DataObject) -> None:
    raw = document(drawn[0])
    keys = [way for way in places(raw) if isinstance(way[-1], str) and not set(FREE) & set(way[:-1])]
    keys = [way for way in keys if way not in (("apiVersion",), ("kind",), ("metadata", "namespace"))]
    *before, key = data.draw(st.sampled_from(keys))
    parent = at(raw, tuple(before))
    parent[key + data.draw(st.sampled_from("sX_ "))] = parent.pop(key)
    assert read(raw | {"apiVersion": "cilium.io/v2", "kind": CNP})[0] is None


@few
@given(specs(), st.data())
def test_a_value_of_another_type_is_refused(drawn: Drawn, data: st.DataObject) -> None:
    raw = document(drawn[0])
    *before, key = data.draw(st.sampled_from([way for way in places(raw) if way not in (("apiVersion",), ("kind",))]))
    parent = at(raw, tuple(before))
    parent[key] = WRONG[type(parent[key])]
    assert read(raw)[0] is None


def opened(policy: model.Policy) -> set[tuple[object, ...]]:
    """Return all that a policy allows, in pieces that add up."""
    out: set[tuple[object, ...]] = set()
    for rule in policy.sections[0].rules:
        asked: tuple[object, ...] = (None,)
        if rule.l7:
            asked = (*(rule.l7.http or ()), *(rule.l7.dns or ()))
        for who in (None,) if rule.peers is None else rule.peers:
            for spec in (None,) if rule.ports is None else rule.ports:
                out |= {(rule.direction, who, spec, each) for each in asked if rule.verdict != DENY}
    return out


@few
@given(specs(), st.data())
def test_one_alternative_less_never_allows_more(drawn: Drawn, data: st.DataObject) -> None:
    whole = document(drawn[0], MESH)
    ways = [w for w in places(whole) if isinstance(w[-1], int) and len(at(whole, w[:-1])) > 1]
    ways = [w for w in ways if w[-2] not in NARROWING]
    if not ways:
        return
    *before, index = data.draw(st.sampled_from(ways))
    less = copy.deepcopy(whole)
    del at(less, tuple(before))[index]
    policy, smaller = read(whole)[0], read(less)[0]
    assert policy is not None and smaller is not None
    assert opened(smaller) <= opened(policy)


unserved = st.sampled_from(
    [
        {"rules": {"kafka": [{"topic": "t"}]}},
        {"rules": {"l7proto": "x"}},
        {"terminatingTLS": {"secret": {"name": "s"}}},
        {"originatingTLS": {"secret": {"name": "s"}}},
        {"listener": {"name": "l", "envoyConfig": {"name": "e"}}},
    ]
)


@few
@given(st.lists(st.tuples(lists(tcp_port), unserved), min_size=1, max_size=3))
def test_what_is_not_served_opens_nothing(items: list[tuple[Drawn, dict[str, Any]]]) -> None:
    to_ports = [{"ports": ports, **asked} for (ports, _), asked in items]
    policy, _, advice = read(document({"egress": [{"toPorts": to_ports}]}))
    if policy is not None:  # two kinds on one port are refused
        assert opened(policy) == set() and len(advice) == len(items)
        assert policy.sections[0].default_deny == {OUT}


words = st.sampled_from(
    ["spec", "specs", "ingress", "egress", "fromEndpoints", "toFQDNs", "toPorts", "ports", "port", "rules", "http",
     "dns", "path", "matchName", "serverNames", "nodeSelector", "authentication", "mode", "icmps", "fields", "type",
     "matchLabels", "toServices", "k8sService", "cidr", "listener"]
)  # fmt: skip
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(specs(), junk, st.data())
def test_junk_anywhere_is_read_to_the_end(drawn: Drawn, value: Any, data: st.DataObject) -> None:
    raw = document(drawn[0])
    *before, key = data.draw(st.sampled_from([way for way in places(raw) if way not in (("apiVersion",), ("kind",))]))
    at(raw, tuple(before))[key] = value
    policy, problems, _ = read(raw)
    assert (policy is None) == bool(problems)
    assert all("\n" not in problem for problem in problems)
