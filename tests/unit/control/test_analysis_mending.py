"""Changes of what rules do to the headers of requests that they let through."""

import copy
import itertools
import random
from typing import Any

import pytest

from control import model, policy_set
from control.analysis import world
from control.analysis.change import beside, mending
from control.analysis.change.diff import difference
from l7proxy.policy import book, requests
from loader import abi
from tests.unit.control.test_analysis_connectivity import Doc
from tests.unit.control.test_analysis_diff_random import read
from tests.unit.control.test_analysis_requests_random import PODS

EGRESS, INGRESS = abi.Direction.EGRESS, abi.Direction.INGRESS
FIELDS: tuple[requests.Fields, ...] = ((), ((b"x-team", b"a"),), ((b"x-team", b"b"),))


def mends(value: str = "a", mismatch: str = "REPLACE", name: str = "X-Team") -> Doc:
    return {"headerMatches": [{"name": name, "value": value} | ({"mismatch": mismatch} if mismatch else {})]}


def of(path: str, *more: Doc) -> Doc:
    out: Doc = {"path": path, "headerMatches": [each for item in more for each in item["headerMatches"]]}
    return out if more else {"path": path}


def item(http: list[Doc], port: str = "80", **peers: object) -> Doc:
    first, _, last = port.partition("-")
    ports: Doc = {"port": first, "protocol": "TCP"} | ({"endPort": int(last)} if last else {})
    return {**peers, "toPorts": [{"ports": [ports]} | ({"rules": {"http": http}} if http else {})]}


def policy(*items: Doc, name: str = "p", way: str = "ingress", **spec: Any) -> Doc:
    metadata = {"name": name, "namespace": "x"}
    spec = {"endpointSelector": {"matchLabels": {"app": "a"}}, way: list(items)} | spec
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}


def opened(old: list[Doc], new: list[Doc]) -> list[str]:
    both = (model.Snapshot(PODS, policies=read(documents)) for documents in (old, new))
    return [each.what for each in beside.opened(*both)]


def ingress(*http: Doc) -> list[Doc]:
    return [policy(item(list(http)))]


B: Doc = {"fromEndpoints": [{"matchLabels": {"app": "b"}}]}
PLAIN, MENDED, OTHERWISE = of("/a"), of("/a", mends()), of("/a", mends("b"))
WITH = "with X-Team: a (else REPLACE), ingress, TCP 80"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (ingress(MENDED, PLAIN), ingress(PLAIN, MENDED), ["/a, ingress, TCP 80"]),
        (ingress(MENDED, PLAIN), ingress(PLAIN), ["/a, ingress, TCP 80"]),
        (ingress(PLAIN), ingress(MENDED, PLAIN), [f"/a {WITH}"]),
        (ingress(PLAIN), ingress(MENDED), [f"/a {WITH}"]),
        (ingress(MENDED), ingress(PLAIN), ["/a, ingress, TCP 80"]),
        (ingress(OTHERWISE), ingress(MENDED), [f"/a {WITH}"]),
        (ingress(of("/.*")), ingress(MENDED, of("/.*")), [f"/a {WITH}"]),
        (ingress(of("/a.*", mends()), of("/.*b")), ingress(of("/.*b"), of("/a.*", mends())), ["/.*b, ingress, TCP 80"]),
        ([policy(item([]))], ingress(of("/.*", mends())), [f"/.* {WITH}"]),
        # By the names of policies, the ports, and who is meant.
        (
            [policy(item([PLAIN]), name="b"), policy(item([MENDED]), name="a")],
            [policy(item([PLAIN]), name="b"), policy(item([MENDED]), name="c")],
            ["/a, ingress, TCP 80"],
        ),
        (
            [policy(item([PLAIN]), item([MENDED], "80-90"))],
            [policy(item([PLAIN], "80-95"), item([MENDED]))],
            [f"/a {WITH}", "/a, ingress, TCP 80-95"],
        ),
        ([policy(B | item([PLAIN]), item([MENDED]))], [policy(item([MENDED]))], [f"/a {WITH}"]),
    ],
)  # fmt: skip
def test_where_headers_are_mended_otherwise(old: list[Doc], new: list[Doc], told: list[str]) -> None:
    found = [what for what in opened(old, new) if what.startswith("headers not mended as before: http requests ")]
    assert sorted(what.rpartition("requests ")[2] for what in found) == sorted(told)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ingress(MENDED, of("/b")), ingress(of("/b"), MENDED)),  # for other requests
        (ingress(PLAIN, of("/.*")), ingress(of("/.*"), PLAIN)),
        (ingress(MENDED, of("/.*", mends())), ingress(of("/.*", mends()), MENDED)),
        (ingress(of("/.*")), ingress(of("/.*"), MENDED)),  # asked by nobody
        (ingress(of("/.*"), MENDED), ingress(of("/.*"))),
        (ingress(of("/a", mends(mismatch="LOG")), PLAIN), ingress(PLAIN)),
        (ingress(of("/a", mends("a", "")), of("/a", mends("b", ""), mends(name="X-Of"))),
         ingress(of("/a", mends("b", ""), mends(name="X-Of")), of("/a", mends("a", "")))),  # of one header, two values
        (ingress(of("/a", mends(), mends(name="X-Of"))), ingress(of("/a", mends(name="x-of"), mends()))),
        ([policy(item([MENDED]), name="a"), policy(item([PLAIN]), name="b")],
         [policy(item([MENDED]), name="a2"), policy(item([PLAIN]), name="b")]),
        ([policy(item([MENDED], "80")), policy(item([PLAIN], "81"), name="b")],
         [policy(item([MENDED], "80"), name="c"), policy(item([PLAIN], "81"), name="b")]),
        # Whoever is named, and the port alone, comes first whatever the order.
        ([policy(item([MENDED]), B | item([PLAIN]))], [policy(B | item([PLAIN]), item([MENDED]))]),
        ([policy(item([MENDED]), item([PLAIN], "80-90"))], [policy(item([PLAIN], "80-90"), item([MENDED]))]),
        (ingress(MENDED, PLAIN), ingress(MENDED)),
        (ingress(MENDED, of("/b")), ingress(of("/b"))),
    ],
)  # fmt: skip
def test_where_headers_are_mended_as_before(old: list[Doc], new: list[Doc]) -> None:
    assert opened(old, new) == []


def test_so_many_rules_that_not_all_are_compared_are_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not where they are the same."""
    old = ingress(*(of(f"/{number}", mends(str(number))) for number in range(40)))
    more = [policy(*old[0]["spec"]["ingress"], item([of("/new")])), policy(item([of("/b")]), name="a")]
    assert not any(what.startswith("headers") for what in opened(old, more))
    monkeypatch.setattr(mending, "MOST_PAIRS", 100)
    assert any(what.startswith("headers") for what in opened(old, more))
    other = policy(item([of("/b")]), name="a", endpointSelector={"matchLabels": {"app": "b"}})
    assert opened(old, old) == opened([other, *old], [other, *old]) == []


# --- at random --------------------------------------------------------------------------------------------------------


def a_request(given: random.Random) -> Doc:
    more = (
        *([mends(value, mismatch)] for value in "ab" for mismatch in ("REPLACE", "ADD", "DELETE", "LOG", "")),
        *[[]] * 6,
        [mends(), mends("c", "ADD", "X-Of")],
    )
    return of(given.choice(("/a", "/b", "/.*", "/[ab]", "")), *given.choice(more))


def an_item(given: random.Random) -> Doc:
    peers: list[Doc] = [{}, {}, {"Endpoints": [{"matchLabels": {"app": "b"}}]}, {"Endpoints": [{}]}]
    found = {f"WAY{key}": value for key, value in given.choice([*peers, {"Entities": ["all"]}]).items()}
    http = [a_request(given) for _ in range(given.choice((1, 1, 2, 3)))]
    return item(http if given.random() < 0.9 else [], given.choice(("80", "80", "80-90", "85", "80-85")), **found)


def a_policy(given: random.Random, name: str) -> Doc:
    way = given.choice(("ingress", "ingress", "egress"))
    items = [an_item(given) for _ in range(given.choice((1, 2)))]
    prefix = "from" if way == "ingress" else "to"
    said = [{key.replace("WAY", prefix): value for key, value in each.items()} for each in items]
    more: Doc = {"enableDefaultDeny": {way: False}} if given.random() < 0.1 else {}
    selector = given.choice(({"matchLabels": {"app": "a"}}, {}))
    return policy(*said, name=name, way=way, endpointSelector=selector, **more)


def changed(given: random.Random, documents: list[Doc]) -> list[Doc]:
    out = copy.deepcopy(documents)
    document = given.choice(out)
    way = "ingress" if "ingress" in document["spec"] else "egress"
    items = document["spec"][way]
    https = [each["toPorts"][0]["rules"]["http"] for each in items if "rules" in each["toPorts"][0]]
    match given.choice(("name", "items", "order", "order", "drop", "add", "less", "more", "other")):
        case "name":
            document["metadata"]["name"] = given.choice(("a", "z"))
        case "items":
            given.shuffle(items)
        case "order" if https:
            given.shuffle(given.choice(https))
        case "drop" if https:
            http = given.choice(https)
            del http[: len(http) - 1]
        case "add" if https:
            http = given.choice(https)
            http.insert(given.randrange(len(http) + 1), a_request(given))
        case "less":
            out.remove(document)
        case "more":
            out.append(a_policy(given, given.choice(("a", "z"))))
        case _:
            document["spec"] = a_policy(given, "q")["spec"]
    return out


def going_on(there: model.Snapshot) -> dict[tuple[object, ...], object]:
    """Return the headers with which requests of one pod to, and from, others go on that are let through."""
    known = world.World(there)
    ends = {name: known.end(name) for name in ("x/a", "x/b", "x/c")}
    out: dict[tuple[object, ...], object] = {}
    pairs = [pair for pair in itertools.permutations(ends, 2) if "x/a" in pair]
    for (source, destination), port in itertools.product(pairs, (80, 82, 85)):
        asked: list[policy_set.L7] = []
        verdicts = set()
        for direction, here, peer in ((EGRESS, source, destination), (INGRESS, destination, source)):
            workload, number = ends[here].workload, ends[peer].identity
            assert workload is not None
            verdict = known.decide(workload, direction, number, abi.Proto.TCP, port).verdict
            verdicts.add(verdict)
            if verdict == abi.Verdict.PROXY:
                l7 = known.policy_set(workload, number).l7
                asked.append(policy_set.rules_at(l7, direction, number, abi.Proto.TCP, port))
        for path, fields in itertools.product(("/a", "/b", "/c"), FIELDS):
            decided = book.Policy(asked).decide("GET", path, "shop", fields) if asked else requests.ALLOWED
            if abi.Verdict.DENY not in verdicts and decided.allowed:
                out[source, destination, port, path, fields] = sorted(requests.mended(fields, decided.changes))
    return out


@pytest.mark.parametrize("seed", range(300))
def test_other_headers_are_never_missed(seed: int) -> None:
    given = random.Random(seed)
    documents = [a_policy(given, f"p{number}") for number in range(given.choice((1, 2, 3)))]
    old, new = (model.Snapshot(PODS, policies=read(each)) for each in (documents, changed(given, documents)))
    assert beside.opened(new, new) == ()
    if not difference(old, new).opens and not beside.opened(old, new):
        was, now = going_on(old), going_on(new)
        assert {key: value for key, value in now.items() if key not in was or was[key] != value} == {}
