"""What stands in for a policy that has one mistake selects all that the policy was meant to select, wherever it is."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path as File
from typing import Any

import pytest

from control import compile as compiler
from control import evaluate, identity
from control.policy import field, parse, selectors
from control.source import directory
from loader import abi
from tests.unit.control.test_directory import POLICY, WORKLOAD, write

Json = dict[str, Any]
Path = tuple[Any, ...]

SELECTOR = {"matchLabels": {"app": "db"}, "matchExpressions": [{"key": "tier", "operator": "In", "values": ["x"]}]}
RULE = {"fromEndpoints": [{"matchLabels": {"app": "web"}}], "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}
CILIUM = {"endpointSelector": SELECTOR, "ingress": [RULE], "enableDefaultDeny": {"ingress": True}}
MEANT = [
    f"k8s:{key}={value}" for key, value in {"app": "db", "tier": "x", "io.kubernetes.pod.namespace": "shop"}.items()
]


def document(kind: tuple[str, str], **spec: Any) -> Json:
    metadata = {"name": "p", "labels": {"a": "b"}} | ({} if kind[1] in parse.CLUSTER_WIDE else {"namespace": "shop"})
    return {"apiVersion": kind[0], "kind": kind[1], "metadata": metadata, **spec}


DOCUMENTS = [
    *(document(kind, spec=CILIUM) for kind in sorted(parse.CILIUM)),
    *(document(kind, spec=CILIUM | {"audit": False}) for kind in sorted(parse.OWN)),
    document(min(parse.CILIUM), specs=[{"endpointSelector": {}, "egress": [{}]}, CILIUM]),
    document(parse.KUBERNETES, spec={"podSelector": SELECTOR, "policyTypes": ["Ingress"], "ingress": [{"from": []}]}),
]


def paths(value: Any, above: Path = ()) -> Iterator[Path]:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*above, key)
        yield from paths(child, (*above, key))


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def edited(whole: Json, path: Path, edit: Callable[[Any, Any], None]) -> Json:
    """Return a copy in which `edit` has been done to what holds the last key of a path, and that key."""
    out = copy.deepcopy(whole)
    edit(at(out, path[:-1]), path[-1])
    return out


def rename(to: str) -> Callable[[Any, Any], None]:
    return lambda holder, key: holder.__setitem__(to, holder.pop(key))


def mistyped(whole: Json) -> Iterator[Json]:
    for path in paths(whole):
        if isinstance(key := path[-1], str):
            for wrong in {key + "s", key[:-1], key.swapcase(), key.capitalize()} - {key}:
                yield edited(whole, path, rename(wrong))


def moved(whole: Json) -> Iterator[Json]:
    """Yield it with one key wrongly indented: under what is above it, or beside it or beside what is above it."""
    for path in paths(whole):
        for target in [(), *paths(whole)]:
            if target == path or target[:-1] != path[: len(target)][:-1] or not isinstance(path[-1], str):
                continue
            out = copy.deepcopy(whole)
            holder, place = at(out, path[:-1]), at(out, target)
            if isinstance(place, dict) and path[-1] not in place:
                place[path[-1]] = holder.pop(path[-1])
                yield out


def missing(whole: Json) -> Iterator[Json]:
    for path in paths(whole):
        yield edited(whole, path, lambda holder, key: holder.pop(key))


def replaced(whole: Json) -> Iterator[Json]:
    for path in paths(whole):
        for other in (None, [], {}, "x", 5, True, [None], {"x": "y"}):
            yield edited(whole, path, lambda holder, key, other=other: holder.__setitem__(key, other))  # type: ignore[misc]


@pytest.mark.parametrize("mistakes", [mistyped, moved, missing, replaced])
@pytest.mark.parametrize("whole", DOCUMENTS, ids=lambda whole: f"{whole['kind']}-{list(whole)[-1]}")
def test_a_mistake_anywhere_leaves_nobody_open(whole: Json, mistakes: Callable[[Json], Iterator[Json]]) -> None:
    for broken in mistakes(whole):
        kind = broken.get("apiVersion"), broken.get("kind")
        if kind not in [*parse.KINDS]:
            continue  # whatever it is, it is not taken for a policy: the whole file closes everybody
        place = field.Field(field.Node.of(broken), "", field.Report("x"))
        if parse.parse_policy(place, *kind) is None:
            found = parse.stand_in(place, kind[1])
            assert found is None or any(selectors.holds(s.subject, MEANT) for s in found.sections), broken


HOST = int(abi.ReservedIdentity.HOST)


@pytest.mark.parametrize(
    ("rules", "may"),
    [
        ("ingress: [{fromEntities: [all]}]", True),
        ("egressDeny: [{toEntities: [all]}]", True),
        ("ingressDeny: [{fromEntities: [all]}]", False),
        ("ingressDeny: [{fromEntities: [host]}]", False),
        ("ingressDeny: [{toPorts: [{ports: [{port: '80'}]}]}]", False),
        ("ingress: [{toPorts: [{ports: [{port: '80', protocol: TCP}], rules: {http: [{}]}}]}]", False),
    ],
)
def test_the_node_reaches_what_a_stand_in_closes_unless_another_policy_may_mean_it(
    tmp_path: File, rules: str, may: bool
) -> None:
    other = POLICY.format("q", "").partition("spec:")[0] + f"spec: {{endpointSelector: {{}}, {rules}}}"
    write(tmp_path, a=WORKLOAD.format("web", "10.0.0.1"), b=POLICY.format("p", "nonsense: 1"), c=other)
    result = directory.load(tmp_path, None)
    assert {problem.effect for problem in result.problems if problem.file == "b.yaml"} == {directory.CLOSES}
    facts = {(w.namespace, w.name): compiler.EndpointFacts(1, 2, 3, True) for w in result.snapshot.workloads}
    node = compiler.NodeInfo("far", ("10.0.0.254",))
    view = evaluate.View(compiler.compile_state(result.snapshot, identity.Allocation(), facts, node)[0])
    endpoint = view.endpoint("10.0.0.1")
    assert endpoint is not None
    for peer in filter(None, {*abi.ReservedIdentity, endpoint.identity}):
        asked = [view.decide(endpoint, direction, peer, abi.Proto.TCP, 80) for direction in abi.Direction]
        assert [decision.allowed for decision in asked] == [peer == HOST and may, False]
