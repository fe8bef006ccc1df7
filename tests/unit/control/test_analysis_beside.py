"""What a change may open and no pair shows."""

import dataclasses
from typing import Any

import pytest

from control import model
from control.analysis.change import beside
from control.policy import field
from control.source import objects
from tests.unit.control.test_analysis_connectivity import Doc, workload

WEB = {"fromEndpoints": [{"matchLabels": {"app": "web"}}]}
PLAIN: Doc = {"ports": [{"port": "80", "protocol": "TCP"}]}
ALLOWED = {**WEB, "toPorts": [PLAIN]}
OTHERS: Doc = {"fromEndpoints": [{"matchLabels": {"app": "batch"}}]}
DENIED: Doc = {"ingressDeny": [{"icmps": [{"fields": [{"type": 8}]}]}]}
GRE: Doc = {"toPorts": [{"ports": [{"port": "0", "protocol": "GRE"}]}]}
ICMP: Doc = {"fromEntities": ["world"], "icmps": [{"fields": [{"type": 8}]}]}


def http(*paths: str) -> Doc:
    return {**WEB, "toPorts": [PLAIN | {"rules": {"http": [{"method": "GET", "path": path} for path in paths]}}]}


def http_of(app: str, method: str, port: str = "80") -> Doc:
    """Return a rule for requests of some pods by their method, at one port or a range ("80-90")."""
    first, _, last = port.partition("-")
    ports = {"port": first, "protocol": "TCP"} | ({"endPort": int(last)} if last else {})
    peers = {"fromEndpoints": [{"matchLabels": {"app": app}}]} if app else {}
    return {**peers, "toPorts": [{"ports": [ports], "rules": {"http": [{"method": method}]}}]}


ANYBODY = http_of("", "GET")


def ingress(*items: Doc) -> Doc:
    return {"ingress": list(items)}


def dns(name: str) -> Doc:
    ports = {"ports": [{"port": "53", "protocol": "UDP"}], "rules": {"dns": [{"matchPattern": name}]}}
    return {"egress": [{"toPorts": [ports]}]}


def names(name: str) -> Doc:
    return {"egress": [{"toFQDNs": [{"matchPattern" if "*" in name else "matchName": name}]}]}


def snapshot(*specs: Doc, name: str = "p", kind: str = "CiliumNetworkPolicy", **subject: Any) -> model.Snapshot:
    report = field.Report("t.yaml")
    metadata = {"name": name} | ({"namespace": "shop"} if kind == "CiliumNetworkPolicy" else {})
    subject = subject or {"endpointSelector": {"matchLabels": {"app": "api"}}}
    document = {
        "apiVersion": "cilium.io/v2", "kind": kind, "metadata": metadata, "specs": [subject | spec for spec in specs]
    }  # fmt: skip
    parsed = objects.read_documents([field.Node.of(document)] if specs else [], report)
    assert not report.problems
    policies = tuple(p.obj for p in parsed if isinstance(p.obj, model.Policy))
    return model.Snapshot((workload("api"), workload("web")), policies=policies)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (ingress(http("/a")), ingress(ALLOWED), "any request, ingress from app=web namespace=shop, TCP 80"),
        (ingress(http("/a")), ingress(http("/a"), ALLOWED), "any request, ingress from app=web namespace=shop, TCP 80"),
        (
            ingress(http("/a")),
            ingress({"fromEntities": ["all"]}),
            "any request, ingress from app=web namespace=shop, TCP 80",
        ),
        (
            ingress(http("/a")),
            ingress(http("/a", "/b")),
            "http requests GET /b, ingress from app=web namespace=shop, TCP 80",
        ),
        (
            ingress(http("/a")),
            ingress(http("/.*")),
            "http requests GET /.*, ingress from app=web namespace=shop, TCP 80",
        ),
        (dns("a.com"), dns("*"), "DNS queries for *, egress, UDP 53"),
        (names("a.com"), names("b.com"), "egress, DNS name b.com, all ports"),
    ],
)
def test_what_may_be_opened(old: Doc, new: Doc, what: str) -> None:
    before, after = snapshot(old), snapshot(new)
    assert {each.what for each in beside.opened(before, after)} == {what}
    assert {(each.where, each.source.split(":")[0]) for each in beside.opened(before, after)} == {
        ("CiliumNetworkPolicy shop/p", "t.yaml")
    }
    # What it is called does not matter.
    for one, renamed in ((before, snapshot(old, name="other")), (after, snapshot(new, name="other"))):
        assert beside.opened(one, renamed) == ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ingress(ALLOWED), ingress(http("/a"))),
        (ingress(http("/a", "/b")), ingress(http("/b"))),
        (ingress(http("/a"), ALLOWED), ingress(ALLOWED, http("/a"))),
        (ingress(ANYBODY, ALLOWED, http()), ingress(ANYBODY, ALLOWED)),
        (ingress(http("/a")), ingress({})),
        (ingress(ALLOWED), ingress(ALLOWED, ICMP, GRE)),
        (ingress(ALLOWED) | {"ingressDeny": [OTHERS]}, ingress(ALLOWED)),
        (names("a.com"), {"egress": [{}]}),
    ],
)
def test_what_opens_nothing(old: Doc, new: Doc) -> None:
    assert beside.opened(snapshot(old), snapshot(new)) == ()


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (ingress(ALLOWED), ingress(http("/a")), {"all but some requests, ingress from app=web namespace=shop, TCP 80"}),
        (
            ingress(http("/a"), ALLOWED),
            ingress(http("/a")),
            {"all but some requests, ingress from app=web namespace=shop, TCP 80"},
        ),
        (
            ingress(http("/a", "/b")),
            ingress(http("/b")),
            {"http requests GET /a, ingress from app=web namespace=shop, TCP 80"},
        ),
        (dns("*"), dns("a.com"), {"DNS queries for *, egress, UDP 53"}),
        (names("b.com"), names("a.com"), {"egress, DNS name b.com, all ports"}),
        (ingress(ALLOWED), ingress(ALLOWED) | DENIED, {"denied now: ingress, ICMP type 8"}),
        (ingress(http("/a")), ingress(http("/a")), set()),
    ],
)
def test_what_may_be_closed(old: Doc, new: Doc, what: set[str]) -> None:
    assert {each.what for each in beside.closed(snapshot(old), snapshot(new))} == what


def server_names(name: str = "shop.org", **of: Any) -> Doc:
    return {**of, "toPorts": [PLAIN | {"serverNames": [name]}]}


NODES: Doc = {"fromNodes": [{"matchLabels": {"zone": "a"}}]}


@pytest.mark.parametrize(("peers", "words"), [(OTHERS, "app=batch namespace=shop"), (NODES, "nodes zone=a")])
def test_rules_that_another_kind_of_bytes_shut(peers: Doc, words: str) -> None:
    """Whom no pair shows, and where both are still there in other words, nothing is opened."""
    asks = {**peers, "toPorts": http("/a")["toPorts"]}
    one, two = snapshot(ingress(asks)), snapshot(ingress(asks), ingress(server_names(**peers)))
    what = f"http requests, ingress from {words}, TCP 80"
    told = [each.what for each in beside.opened(two, one)]
    assert told == [f"no longer shut by rules for another kind of bytes: {what}"]
    assert f"shut now by rules for another kind of bytes: {what}" in [each.what for each in beside.closed(one, two)]
    wider = snapshot(ingress(asks), ingress(server_names()))
    assert [each.what for each in beside.opened(two, wider)] == ["TLS name shop.org, ingress, TCP 80"]


def test_who_is_denied_by_default_now() -> None:
    """Of pods that no file declares, too: there may be some."""
    closed = beside.closed(snapshot(), snapshot({"ingress": [{}]}, endpointSelector={"matchLabels": {"app": "new"}}))
    assert [(each.what, each.where) for each in closed] == [
        ("ingress of app=new namespace=shop, denied by default now", "CiliumNetworkPolicy shop/p")
    ]


ANY_REQUEST = "any request, ingress"
OF_WEB = f"{ANY_REQUEST} from app=web namespace=shop"


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        # A plain rule for anybody, where rules for anybody are bound: whoever has rules of its own is free, too.
        ([ANYBODY, http("/a")], [{"toPorts": [PLAIN]}], {f"{ANY_REQUEST}, TCP 80", f"{OF_WEB}, TCP 80"}),
        # One for a range frees what is bound at a port of it.
        (
            [http_of("", "GET", "85"), http_of("web", "GET", "80-90")],
            [{**WEB, "toPorts": [{"ports": [{"port": "80", "endPort": 90, "protocol": "TCP"}]}]}],
            {f"{ANY_REQUEST}, TCP 85", f"{OF_WEB}, TCP 80-90"},
        ),
        # A plain rule was there, beside what is bound for anybody: with one for requests it comes before that.
        ([ANYBODY, ALLOWED], [http()], {f"{ANY_REQUEST}, TCP 80"}),
        ([ANYBODY, ALLOWED], [http("/b")], {f"{ANY_REQUEST}, TCP 80"}),
    ],
)
def test_rules_that_let_any_request_pass_free_what_they_meet(old: list[Doc], new: list[Doc], what: set[str]) -> None:
    """And the rule that is new is the one that is named."""
    before, more = snapshot(ingress(*old)), snapshot(ingress(*new), name="more")
    after = dataclasses.replace(before, policies=(*before.policies, *more.policies))
    assert {each.what for each in beside.opened(before, after)} == what
    assert {each.where for each in beside.opened(before, after)} == {"CiliumNetworkPolicy shop/more"}
    assert beside.opened(after, after) == ()


def test_a_policy_that_refuses_nothing_frees_what_its_rules_for_requests_meet() -> None:
    before = snapshot(ingress(ANYBODY, ALLOWED))
    more = snapshot(ingress(http("/b")) | {"enableDefaultDeny": {"ingress": False}}, name="more")
    after = dataclasses.replace(before, policies=(*before.policies, *more.policies))
    assert [(each.what, each.where) for each in beside.opened(before, after)] == [
        (f"{ANY_REQUEST}, TCP 80", "CiliumNetworkPolicy shop/more")
    ]


def test_whom_two_rules_select_is_free_and_nobody_else() -> None:
    """A plain rule beside one for requests is for those whom both select."""

    def bound(app: str) -> model.Snapshot:
        return snapshot(ingress(http("/a")), name=app, endpointSelector={"matchLabels": {"app": app}})

    before = snapshot(ingress(ANYBODY, ALLOWED), endpointSelector={})
    one = dataclasses.replace(before, policies=(*before.policies, *bound("api").policies))
    two = dataclasses.replace(one, policies=(*one.policies, *bound("db").policies))
    assert ANY_REQUEST in str(beside.opened(before, one))
    assert ANY_REQUEST in str(beside.opened(one, two))
    assert beside.opened(two, two) == ()


def test_a_deny_cuts_off_the_own_node_too() -> None:
    old, new = snapshot(ingress(ALLOWED) | DENIED), snapshot(ingress(ALLOWED))
    assert [each.what for each in beside.opened(old, new)] == ["no longer denied: ingress, ICMP type 8"]


def test_an_allow_that_opens_nothing_where_nothing_was_refused() -> None:
    assert beside.opened(snapshot(), snapshot(names("a.com"))) == ()


def test_a_policy_for_requests_that_goes_or_is_no_longer_enforced() -> None:
    old = snapshot(ingress(http("/a")))
    assert [each.what for each in beside.opened(old, snapshot())] == [
        "any request, ingress from app=web namespace=shop, TCP 80"
    ]
    audited = dataclasses.replace(old, namespaces=(model.Namespace("shop", audit=True),))
    assert [each.what for each in beside.opened(old, audited)] == [
        "any request, ingress from app=web namespace=shop, TCP 80"
    ]
    assert beside.opened(audited, old) == ()


UNDECLARED = [
    ({"fromEntities": ["remote-node"]}, "from entity remote-node, all ports"),
    ({"fromEntities": ["ingress", "health"]}, "from entity ingress, all ports"),
    ({"fromNodes": [{"matchLabels": {"role": "edge"}}]}, "from nodes role=edge, all ports"),
    (OTHERS, "from app=batch namespace=shop, all ports"),
    ({**WEB, "toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}, "from app=web namespace=shop, TCP http"),
]


@pytest.mark.parametrize(("rule", "words"), UNDECLARED)
def test_whoever_the_files_do_not_declare(rule: Doc, words: str) -> None:
    old, new = snapshot(ingress(ALLOWED)), snapshot(ingress(ALLOWED, rule))
    assert f"ingress {words}" in [each.what for each in beside.opened(old, new)]
    assert beside.opened(new, old) == ()
    if "toPorts" not in rule:
        everybody = ingress({"fromEntities": ["all"]})
        found = beside.opened(snapshot(everybody | {"ingressDeny": [rule]}), snapshot(everybody))
        assert f"no longer denied: ingress {words}" in [each.what for each in found]


def test_a_pair_that_shows_as_much_is_enough() -> None:
    new = snapshot(ingress(WEB, {"fromEntities": ["cluster"]}))
    assert beside.opened(snapshot(ingress(WEB)), new) != ()
    old = snapshot(ingress({"fromEntities": ["cluster"], "toPorts": [PLAIN]}))
    assert beside.opened(old, new) == ()  # web may call api on all ports now


def without_workloads(*specs: Doc) -> model.Snapshot:
    return dataclasses.replace(snapshot(*specs), workloads=())


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ([ingress(ALLOWED)], [ingress({"fromEndpoints": [{}]})], ["ingress from namespace=shop, all ports"]),
        ([ingress(ALLOWED)], [], ["ingress of app=api namespace=shop, no longer denied by default"]),
        ([ingress(WEB)], [ingress(ALLOWED)], []),  # narrower
        ([ingress(ALLOWED)], [ingress(WEB)], ["ingress from app=web namespace=shop, all ports"]),
        ([ingress(WEB)], [ingress(WEB), {"egress": [{}]}], []),  # nothing was refused there before
    ],
)
def test_policies_alone_are_compared_as_they_are_written(old: list[Doc], new: list[Doc], told: list[str]) -> None:
    assert [each.what for each in beside.opened(without_workloads(*old), without_workloads(*new))] == told


def test_a_policy_for_pods_that_no_other_one_closed() -> None:
    old = without_workloads(ingress(ALLOWED))
    other = snapshot(ingress(WEB), name="q", endpointSelector={"matchLabels": {"app": "db"}}).policies
    assert beside.opened(old, dataclasses.replace(old, policies=old.policies + other)) == ()


def test_nodes() -> None:
    def host(*entities: str) -> model.Snapshot:
        spec = ingress(*({"fromEntities": [entity]} for entity in entities))
        return snapshot(spec, kind="CiliumClusterwideNetworkPolicy", nodeSelector={"matchLabels": {"role": "edge"}})

    assert [each.what for each in beside.opened(host("cluster"), host("cluster", "all"))] == [
        "ingress of nodes from entity all, all ports"
    ]
    assert beside.opened(host("cluster", "all"), host("cluster")) == ()
    assert [each.what for each in beside.opened(host("cluster"), model.Snapshot())] == [
        "ingress of nodes, no longer denied by default"
    ]
    assert beside.opened(model.Snapshot(), host("cluster")) == ()


def test_a_workload_that_moves_to_the_network_of_its_node() -> None:
    own, nodes = (model.Snapshot((workload("web", host_network=moved),)) for moved in (False, True))
    assert [(each.what, each.where) for each in beside.opened(own, nodes)] == [
        ("on the network of its node, where no policy of pods holds", "Pod shop/web")
    ]
    assert beside.opened(nodes, nodes) == beside.opened(nodes, own) == ()


@pytest.mark.parametrize(("rules", "told"), [(http("/a"), True), (ALLOWED, False)])
def test_a_workload_that_other_rules_for_requests_are_about(rules: Doc, told: bool) -> None:
    """No rule has changed, and the port was open before: no pair shows it."""

    def labelled(**labels: str) -> model.Snapshot:
        web = dataclasses.replace(workload("x"), labels=labels)
        return dataclasses.replace(snapshot(ingress(rules)), workloads=(web,))

    rule = "http requests GET /a, ingress from app=web namespace=shop, TCP 80 (CiliumNetworkPolicy shop/p)"
    what = (f"requests or names, because of its labels: {rule}", "Pod shop/x")
    changed = [labelled(app="job"), labelled(app="web"), labelled(app="api")]
    for old in changed:
        for new in changed:
            found = [(each.what, each.where) for each in beside.opened(old, new) if "undeclared" not in each.what]
            assert found == ([what] if told and old is not new else [])
    assert beside.opened(labelled(app="web"), labelled(app="web", version="2")) == ()


def test_what_is_said_of_one_snapshot() -> None:
    found = snapshot(ingress(http("/a"), ICMP, GRE), names("a.com"))
    assert beside.names(found) == ("a.com",)
    assert beside.kinds(found) == (
        "for which requests 1 of the rules' ports are open",
        "what rules say of GRE, ICMP",
    )
    assert beside.kinds(snapshot(ingress(ALLOWED))) == beside.kinds(snapshot(ingress(http()))) == ()
    # What is shut anyway is open for no requests: by a deny, or by rules for another kind of bytes.
    assert beside.kinds(snapshot(ingress(http("/a")) | {"ingressDeny": [ALLOWED]})) == ()
    by_name = ingress({**WEB, "toPorts": [PLAIN | {"serverNames": ["shop.org"]}]})
    assert beside.kinds(snapshot(ingress(http("/a")), by_name)) == ()
    assert beside.kinds(snapshot(ingress(http_of("web", "GET"), http_of("job", "GET")), by_name)) == (
        "for which requests 1 of the rules' ports are open",
    )


FOR_REQUESTS: Doc = {"toPorts": http("/a")["toPorts"]}
OWN_NODE = "any request of the own node, ingress"


@pytest.mark.parametrize(
    ("peers", "words"),
    [
        ({}, ""),
        ({"fromEntities": ["host"]}, " from entity host"),
        ({"fromEntities": ["cluster"]}, " from entity cluster"),
        ({"fromEndpoints": [{"matchLabels": {"reserved:host": ""}}]}, " from reserved:host="),
    ],
)
def test_the_own_node_is_not_refused_by_default(peers: Doc, words: str) -> None:
    """So a rule for its requests that goes leaves it all of them."""
    bound, others = {**peers, **FOR_REQUESTS}, {**OTHERS, "toPorts": [{"ports": [{"port": "81"}]}]}
    found = [each.what for each in beside.opened(snapshot(ingress(bound, others)), snapshot(ingress(others)))]
    assert found == [f"{OWN_NODE}{words}, TCP 80"]
    # Where it is bound still, or denied, that opens nothing.
    for rules in (
        ingress({"fromEntities": ["host"], **FOR_REQUESTS}, others),
        ingress(others) | {"ingressDeny": [{"fromEntities": ["host"], "toPorts": [PLAIN]}]},
    ):
        assert OWN_NODE not in str(beside.opened(snapshot(ingress(bound, others)), snapshot(rules)))


@pytest.mark.parametrize("peers", [WEB, {"fromEntities": ["world"]}, {"fromCIDR": ["10.0.0.0/8"]}])
def test_rules_for_requests_of_others_than_the_own_node(peers: Doc) -> None:
    old = snapshot(ingress({**peers, **FOR_REQUESTS}, OTHERS))
    assert OWN_NODE not in str(beside.opened(old, snapshot(ingress(OTHERS))))


def test_a_default_of_all_pods_refuses_what_a_rule_for_requests_no_longer_lets_in() -> None:
    everybody = snapshot({"ingress": [OTHERS]}, name="q", endpointSelector={}).policies
    old = snapshot(ingress(http("/a")))
    both = dataclasses.replace(old, policies=old.policies + everybody)
    assert beside.opened(both, dataclasses.replace(old, policies=everybody)) == ()
    # One of other pods does not.
    others = snapshot({"ingress": [OTHERS]}, name="q", endpointSelector={"matchLabels": {"tier": "db"}}).policies
    both = dataclasses.replace(old, policies=old.policies + others)
    assert "any request, ingress from app=web namespace=shop, TCP 80" in [
        each.what for each in beside.opened(both, dataclasses.replace(old, policies=others))
    ]


@pytest.mark.parametrize("peers", [{"fromCIDR": ["10.0.0.0/8"]}, OTHERS])
def test_rules_for_requests_beside_plain_ones_of_others(peers: Doc) -> None:
    bound = {**peers, **FOR_REQUESTS}
    assert beside.opened(snapshot(ingress(bound, ALLOWED)), snapshot(ingress(ALLOWED))) == ()
    # Who is meant by both, or may be, has all requests free then.
    for free in ({**peers, "toPorts": [PLAIN]}, {"toPorts": [PLAIN]}, {"fromEntities": ["all"]}):
        found = [each.what for each in beside.opened(snapshot(ingress(bound)), snapshot(ingress(free)))]
        assert any(what.startswith("any request, ingress from") for what in found)
    labels = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}
    if peers is OTHERS:
        free = {"fromEndpoints": [labels], "toPorts": [PLAIN]}
        assert beside.opened(snapshot(ingress(bound, ALLOWED)), snapshot(ingress(ALLOWED, free))) != ()


@pytest.mark.parametrize("peer", ({"matchLabels": {"k8s:app": "web"}}, {"matchLabels": {"any:app": "web"}}))
def test_a_plain_rule_frees_requests_only_of_the_peer_in_its_own_words(peer: Doc) -> None:
    """A selector of the source k8s is another one than of any, though pods have no other labels: requests are bound."""
    plain = {"fromEndpoints": [peer], "toPorts": [PLAIN]}
    found = beside.opened(snapshot(ingress(http("/a"), plain)), snapshot(ingress(plain)))
    was_bound = "k8s:app" in str(peer)
    assert [each.what for each in found] == ["any request, ingress from app=web namespace=shop, TCP 80"] * was_bound


def of_path(path: str, **more: object) -> Doc:
    return ingress({**WEB, "toPorts": [PLAIN | {"rules": {"http": [{"path": path, **more}]}}]})


PAIR: Doc = {"fromEndpoints": [{"matchLabels": {"app": "web", "tier": "a"}}]}
NAMED: Doc = {"ports": [{"port": "http", "protocol": "TCP"}]}


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        (of_path("/api/.*"), of_path("/api/v1/.*")),
        (of_path(""), of_path("/api/.*")),
        (of_path("/.*"), of_path("/.*", headers=["X-Team"])),
        (of_path("/.*", method="GET|PUT"), of_path("/a", method="PUT")),
        (ingress({**ANYBODY, "fromEndpoints": [{}]}), ingress(http_of("web", "GET"))),
        (ingress(http_of("web", "GET", "80-90")), ingress(http_of("web", "GET", "85"))),
        (dns("*.a.com"), dns("b.a.com")),
        (names("*.a.com"), names("b.a.com")),
        (ingress(server_names("*.a.org")), ingress(server_names("b.a.org"))),
        (of_path("/a", headers=["X-Team: a"]), of_path("/a", headers=["x-team: a", "X-Other: b"])),
        (ingress({**WEB, "toPorts": [NAMED]}), ingress({**PAIR, "toPorts": [NAMED]})),
        (ingress({"fromEndpoints": [{}], "toPorts": [NAMED]}), ingress({**WEB, "toPorts": [NAMED]})),
        ({"egress": [{"toPorts": [NAMED]}]}, {"egress": [{"toEndpoints": [{}], "toPorts": [NAMED]}]}),
    ],
)
def test_what_is_narrowed_opens_nothing_and_back_it_does(wide: Doc, narrow: Doc) -> None:
    assert beside.opened(snapshot(wide), snapshot(narrow)) == ()
    assert beside.closed(snapshot(narrow), snapshot(wide)) == ()
    assert beside.opened(snapshot(narrow), snapshot(wide)) != ()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (of_path("/api/.*"), of_path("/ap.*")),
        (of_path("/a", headers=["X-Team"]), of_path("/a", headers=["X-Other"])),
        (of_path("/a", headers=["X-Team: a"]), of_path("/a", headers=["X-Team: A"])),
        (names("a.*.com"), names("*.b.com")),
        (ingress(server_names("*.a.org")), ingress(server_names("b.b.a.org"))),
        (of_path("/a"), of_path("/a", headerMatches=[{"name": "X-Team", "value": "b", "mismatch": "REPLACE"}])),
        (of_path("/a", method="GET"), of_path("/.*", method="GET|PUT")),
        # Bound for web, though open for all: who is meant by both may not make any request.
        (
            ingress({"fromEndpoints": [{}], "toPorts": [NAMED]}, http("/a")),
            ingress({**PAIR, "toPorts": [NAMED]}, http("/a")),
        ),
        # A deny that goes is no narrowing.
        (of_path("/.*") | {"ingressDeny": [PAIR]}, of_path("/a")),
    ],
)
def test_what_is_not_plainly_narrower_may_open(old: Doc, new: Doc) -> None:
    assert beside.opened(snapshot(old), snapshot(new)) != ()


SOURCED: Doc = {"fromEndpoints": [{"matchLabels": {"k8s:app": "web"}}]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (http("/a"), http("/a") | SOURCED),
        ({**WEB, "toPorts": [NAMED]}, {**SOURCED, "toPorts": [NAMED]}),
        (http("/a"), of_path("/a", method="GET")["ingress"][0]),
    ],
)
def test_what_means_the_same_in_other_words_is_no_change(one: Doc, other: Doc) -> None:
    for old, new in ((one, other), (other, one)):
        both = snapshot(ingress(old)), snapshot(ingress(new))
        assert (beside.opened(*both), beside.closed(*both)) == ((), ())


def test_a_name_and_a_pattern_without_a_star_are_the_same() -> None:
    pattern: Doc = {"egress": [{"toFQDNs": [{"matchPattern": "a.com"}]}]}
    for old, new in ((pattern, names("a.com")), (names("a.com"), pattern)):
        both = snapshot(old), snapshot(new)
        assert (beside.opened(*both), beside.closed(*both)) == ((), ())


def test_a_policy_of_the_cluster_is_called_by_kind_and_name() -> None:
    kind = "CiliumClusterwideNetworkPolicy"
    both = snapshot(ingress(http("/a")), kind=kind), snapshot(ingress(http("/b")), kind=kind)
    assert {each.where for each in beside.opened(*both)} == {f"{kind} p"}


def network_policy(port: int | str) -> tuple[model.Policy, ...]:
    """Return the policy of Kubernetes for a database that only web may call."""
    spec: Doc = {
        "podSelector": {"matchLabels": {"app": "db"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": port}]}],
    }
    document = {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "db", "namespace": "shop"},
        "spec": spec,
    }  # fmt: skip
    report = field.Report("k8s.yaml")
    parsed = objects.read_documents([field.Node.of(document)], report)
    assert not report.problems
    return tuple(p.obj for p in parsed if isinstance(p.obj, model.Policy))


@pytest.mark.parametrize("port", [6379, "redis"])
@pytest.mark.parametrize("peer", [{"fromEntities": ["world"]}, {"fromCIDR": ["192.0.2.0/24"]}, WEB])
def test_rules_of_kubernetes_for_other_pods_free_nothing(port: int | str, peer: Doc) -> None:
    old, new = (snapshot(ingress({**peer, **http_of("", "GET", number)})) for number in ("80", "81"))
    both = [dataclasses.replace(each, policies=each.policies + network_policy(port)) for each in (old, new)]
    assert {each.where for each in beside.opened(both[0], both[1])} == {"CiliumNetworkPolicy shop/p"}
    assert {each.where for each in beside.closed(both[0], both[1])} == {"CiliumNetworkPolicy shop/p"}


@pytest.mark.parametrize(
    ("entity", "has_pods"),
    [("world", False), ("host", False), ("remote-node", False), ("cluster", True), ("all", True)],
)
def test_rules_for_pods_free_no_entity_without_pods(entity: str, has_pods: bool) -> None:
    bound = {"fromEntities": [entity], **FOR_REQUESTS}
    pods = {"fromEndpoints": [{}], "toPorts": [PLAIN]}
    found = beside.opened(snapshot(ingress(bound)), snapshot(ingress(pods)))
    assert any(each.what.startswith("any request, ingress") for each in found) == has_pods
