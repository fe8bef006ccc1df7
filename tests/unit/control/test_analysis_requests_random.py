"""Random changes of rules for requests: what allows takes none away, and what opens some is told of."""

import copy
import dataclasses
import itertools
import random

import pytest

from control import model, policy_set
from control.analysis import trace, world
from control.analysis.call import Call
from control.analysis.change import beside
from control.analysis.change.diff import difference
from control.analysis.connectivity import analyse
from control.policy import request
from loader import abi
from tests.unit.control.test_analysis_connectivity import Doc
from tests.unit.control.test_analysis_diff_random import read

TCP = abi.Proto.TCP
EGRESS, INGRESS = abi.Direction.EGRESS, abi.Direction.INGRESS
PODS = tuple(model.Workload("x", app, {"app": app}, ips=(f"10.1.3.{i}",), kind="Pod") for i, app in enumerate("abc"))
OTHERS = ("x/b", "x/c", "host", "192.0.2.9")
REQUESTS = tuple(request.Request(method, path) for method in ("GET", "PUT") for path in ("/a", "/b"))
HTTP: tuple[list[Doc], ...] = ([{"method": "GET"}], [{"path": "/a"}], [{}], [{"method": "PUT"}, {"path": "/a"}])

WITHIN: tuple[list[Doc], ...] = (
    [{"path": "/.*"}],
    [{"path": "/[ab]", "method": "GET"}],
    [{"path": "/a"}],
    [{"method": "GET|PUT"}],
    [{"path": "/b?"}],
)


def a_rule(
    given: random.Random, way: str, nothing: float = 0.2, http: tuple[list[Doc], ...] = HTTP, names: float = 0
) -> Doc:
    """Return a rule, often for anybody or the same pod; `nothing`: how often one for requests lets none through,
    `names`: how often one is for TLS server names instead.
    """
    peers: tuple[Doc, ...] = (
        {},
        {},
        {f"{way}Endpoints": [{"matchLabels": {"app": "b"}}]},
        {f"{way}Endpoints": [{"matchLabels": {"app": "b"}}]},
        {f"{way}Endpoints": [{}]},
        {f"{way}Entities": [given.choice(("all", "world", "cluster"))]},
    )
    ports = given.choice(({"port": "80"}, {"port": "80"}, {"port": "80", "endPort": 90}, {"port": "85"}))
    item: Doc = {"ports": [{**ports, "protocol": "TCP"}]}
    if given.random() < names:
        item["serverNames"] = [given.choice(("shop.org", "*.shop.org"))]
    elif given.random() < 0.6:
        item["rules"] = {"http": [] if given.random() < nothing else given.choice(http)}
    return {**given.choice(peers), "toPorts": [item]}


def a_policy(given: random.Random, name: str, **spec: object) -> Doc:
    key, way = given.choice((("ingress", "from"), ("egress", "to")))
    spec |= {"endpointSelector": given.choice(({"matchLabels": {"app": "a"}}, {}))}
    spec |= {key: [a_rule(given, way) for _ in range(given.choice((1, 2, 3)))]}
    if "enableDefaultDeny" not in spec and given.random() < 0.2:
        spec["enableDefaultDeny"] = {key: False}
    metadata = {"name": name, "namespace": "x"}
    return {"apiVersion": "sockmesh.io/v1", "kind": "MeshNetworkPolicy", "metadata": metadata, "spec": spec}


def changed(given: random.Random, documents: list[Doc]) -> list[Doc]:
    """Return the policies with one more, one less, or one whose rules are others."""
    out = copy.deepcopy(documents)
    place = given.randrange(len(out))
    spec = out[place]["spec"]
    key, way = next((key, way) for key, way in (("ingress", "from"), ("egress", "to")) if key in spec)
    match given.choice(("more", "less", "rule", "rule", "rule", "drop", "default")):
        case "more":
            out.append(a_policy(given, "new"))
        case "less":
            del out[place]
        case "rule":
            spec[key].append(a_rule(given, way, nothing=0.6))
        case "drop":
            spec[key] = spec[key][1:] or [a_rule(given, way)]
        case "default":
            spec["enableDefaultDeny"] = {key: given.random() < 0.5}
    return out


def snapshot(documents: list[Doc]) -> model.Snapshot:
    return model.Snapshot(PODS, policies=read(documents))


def passing(there: model.Snapshot) -> set[tuple[object, ...]]:
    """Return the calls and the requests that are let through between one pod and others."""
    known = world.World(there)
    ends = {name: known.end(name) for name in ("x/a", *OTHERS)}
    return {
        (source, destination, port, str(asked))
        for other in OTHERS
        for source, destination in (("x/a", other), (other, "x/a"))
        for port in (80, 85)
        for asked in (None, *REQUESTS)
        if trace.trace(
            known, Call(ends[source], ends[destination], TCP, port, asked)
        ).verdict == trace.ALLOWED
    }  # fmt: skip


@pytest.mark.parametrize("seed", (*range(150), 825, 858, 916))  # those from 150 on were missed once, and 102
def test_what_is_opened_is_never_missed(seed: int) -> None:
    given = random.Random(seed)
    documents = [a_policy(given, f"p{i}") for i in range(given.choice((1, 2, 3)))]
    old, new = snapshot(documents), snapshot(changed(given, documents))
    assert beside.opened(new, new) == ()
    if not difference(old, new).opens and not beside.opened(old, new):
        assert passing(new) - passing(old) == set()


@pytest.mark.parametrize("seed", range(250))
def test_what_is_opened_is_never_missed_where_requests_are_within_others(seed: int) -> None:
    given = random.Random(seed)
    documents = [a_policy(given, f"p{i}") for i in range(given.choice((1, 2)))]
    way = {"ingress": "from", "egress": "to"}
    for document in documents:
        for key, rules in document["spec"].items():
            if key in way:
                rules[:] = [a_rule(given, way[key], nothing=0.1, http=WITHIN) for _ in range(given.choice((1, 2)))]
    edited = copy.deepcopy(documents)
    spec = given.choice(edited)["spec"]
    key = "ingress" if "ingress" in spec else "egress"
    spec[key][given.randrange(len(spec[key]))] = a_rule(given, way[key], nothing=0.1, http=WITHIN)
    old, new = snapshot(documents), snapshot(edited)
    if not difference(old, new).opens and not beside.opened(old, new):
        assert passing(new) - passing(old) == set()


@pytest.mark.parametrize("seed", (*range(100), 144, 396, 402, 475))  # those from 100 on lost some once, and 72
def test_a_policy_that_refuses_nothing_takes_nothing_away(seed: int) -> None:
    given = random.Random(seed)
    documents = [a_policy(given, f"p{i}") for i in range(given.choice((1, 2, 3)))]
    more = a_policy(given, "more", enableDefaultDeny={"ingress": False, "egress": False})
    assert passing(snapshot(documents)) - passing(snapshot([*documents, more])) == set()


@pytest.mark.parametrize("seed", range(60))
def test_pairs_are_open_where_a_call_is_allowed(seed: int) -> None:
    """Also where rules for requests let none through, before others or beside them."""
    given = random.Random(seed)
    there = snapshot([a_policy(given, f"p{i}") for i in range(given.choice((1, 2, 3)))])
    pairs, allowed = analyse(there), passing(there)
    numbers = {str(end): number for number, end in enumerate(pairs.workloads)}
    for other in ("x/b", "x/c"):
        for source, destination in (("x/a", other), (other, "x/a")):
            ports = pairs.allowed(numbers[source], numbers[destination])
            for port in (80, 85):
                assert ((int(TCP), port) in ports) == ((source, destination, port, str(None)) in allowed)


def of_two_kinds(given: random.Random, count: int) -> list[Doc]:
    """Return policies of one rule each, for requests or for server names."""
    documents = [a_policy(given, f"p{i}") for i in range(count)]
    for document in documents:
        for key, way in (("ingress", "from"), ("egress", "to")):
            if key in document["spec"]:
                document["spec"][key] = [a_rule(given, way, names=0.4)]
    return documents


@pytest.mark.parametrize("seed", range(100))
def test_pairs_are_open_where_a_call_is_allowed_though_kinds_of_bytes_meet(seed: int) -> None:
    given = random.Random(seed)
    there = snapshot(of_two_kinds(given, given.choice((2, 3, 4))))
    pairs, allowed = analyse(there), passing(there)
    numbers = {str(end): number for number, end in enumerate(pairs.workloads)}
    for other in ("x/b", "x/c"):
        for source, destination in (("x/a", other), (other, "x/a")):
            ports = pairs.allowed(numbers[source], numbers[destination])
            for port in (80, 85):
                assert ((int(TCP), port) in ports) == ((source, destination, port, str(None)) in allowed)


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("pods", [PODS, ()])
def test_what_is_opened_is_never_missed_where_kinds_of_bytes_meet(seed: int, pods: tuple[model.Workload, ...]) -> None:
    """Also where no file declares the pods."""
    given = random.Random(seed)
    documents = of_two_kinds(given, given.choice((2, 3, 4)))
    edited = copy.deepcopy(documents)
    place = given.randrange(len(edited))
    key, way = next((k, w) for k, w in (("ingress", "from"), ("egress", "to")) if k in edited[place]["spec"])
    if given.random() < 0.5:
        del edited[place]
    else:
        edited[place]["spec"][key] = [a_rule(given, way, names=0.3)]
    old, new = snapshot(documents), snapshot(edited)
    shown = [dataclasses.replace(each, workloads=pods) for each in (old, new)]
    if not difference(*shown).opens and not beside.opened(*shown):
        assert passing(new) - passing(old) == set()


@pytest.mark.parametrize("seed", range(100))
def test_the_proxy_is_asked_where_some_bytes_are_refused_and_nowhere_else(seed: int) -> None:
    """And pairs without a proxy are those that the kernel's entries allow."""
    given = random.Random(seed)
    there = snapshot([a_policy(given, f"p{i}") for i in range(given.choice((1, 2, 3)))])
    known, served = world.World(there), analyse(there, without_proxy=True)
    numbers = {str(end): number for number, end in enumerate(served.workloads)}
    ends = {name: known.end(name) for name in ("x/a", "x/b", "x/c")}
    for source, destination in itertools.permutations(ends, 2):
        ports = served.allowed(numbers[source], numbers[destination])
        for port in (80, 85):
            open_ways = []
            for direction, here, peer in ((EGRESS, source, destination), (INGRESS, destination, source)):
                workload = ends[here].workload
                assert workload is not None
                found = known.decide(workload, direction, ends[peer].identity, TCP, port)
                if found.verdict == abi.Verdict.PROXY:
                    l7 = known.policy_set(workload, ends[peer].identity).l7
                    rules = policy_set.rules_at(l7, direction, ends[peer].identity, TCP, port)
                    assert rules not in ((), policy_set.ANYTHING)
                open_ways.append(found.verdict == abi.Verdict.ALLOW)
            assert ((int(TCP), port) in ports) == all(open_ways), (source, destination, port)


def test_hundreds_who_are_free_at_one_port_cost_nothing_at_others() -> None:
    """Nor where a rule for anybody frees them all."""

    def http(port: int, **of: object) -> Doc:
        item = {"ports": [{"port": str(port), "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}
        return {**of, "toPorts": [item]}

    def rules(name: str, *ingress: Doc) -> Doc:
        metadata = {"name": name, "namespace": "x"}
        spec = {"endpointSelector": {"matchLabels": {"app": "a"}}, "ingress": list(ingress)}
        return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}

    def entries(*documents: Doc) -> int:
        many = (
            model.Workload("x", f"c{n}", {"app": "client", "n": str(n)}, ips=(f"10.2.{n >> 8}.{n & 255}",), kind="Pod")
            for n in range(300)
        )
        known = world.World(model.Snapshot((*PODS, *many), policies=read(list(documents))))
        workload = known.end("x/a").workload
        assert workload is not None
        return len(known.policy_set(workload).entries)

    clients = {"fromEndpoints": [{"matchLabels": {"app": "client"}}]}
    plain = {**clients, "toPorts": [{"ports": [{"port": "9090", "protocol": "TCP"}]}]}
    asking = [http(port, **clients) for port in (80, 81, 82, 9090)]
    assert entries(rules("p", *asking, plain)) == 4 * 300 + 3
    anybody = [http(port) for port in range(100, 140)]
    free = {"ports": [{"port": "1", "endPort": 1023, "protocol": "TCP"}]}
    without = entries(rules("p", *anybody, http(9090, **clients), {"toPorts": [free]}))
    assert entries(rules("p", *anybody, http(9090, **clients), plain, {"toPorts": [free]})) == without
