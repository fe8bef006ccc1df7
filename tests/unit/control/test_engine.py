"""What is kept up to date one object at a time equals what is resolved from scratch, in whatever order it happens."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from control import identity, model
from control.policy import engine, refer, resolve, selectors
from loader import abi

NAMESPACES = ("n", "m")
KEYS, VALUES = ("app", "tier"), ("a", "b")


def requirement(source: str) -> st.SearchStrategy[model.Requirement]:
    named = st.builds(
        model.Requirement, st.just(source), st.sampled_from(KEYS),
        st.sampled_from((model.Operator.IN, model.Operator.NOT_IN)),
        st.lists(st.sampled_from(VALUES), min_size=1, max_size=2, unique=True).map(tuple),
    )  # fmt: skip
    bare = st.builds(
        model.Requirement, st.just(source), st.sampled_from((*KEYS, model.NAMESPACE_LABEL_PREFIX + "team")),
        st.sampled_from((model.Operator.EXISTS, model.Operator.DOES_NOT_EXIST)),
    )  # fmt: skip
    return named | bare


selector = st.lists(requirement("k8s") | requirement("any"), max_size=2).map(lambda found: model.Selector(tuple(found)))
labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
workloads = st.builds(
    model.Workload, st.sampled_from(NAMESPACES), st.sampled_from("pqr"), labels, st.sampled_from(("x", "y"))
)  # fmt: skip
namespaces = st.builds(
    model.Namespace, st.sampled_from(NAMESPACES), st.dictionaries(st.just("team"), st.sampled_from(VALUES))
)  # fmt: skip


@st.composite
def policies(draw: st.DrawFn) -> model.Policy:
    namespace = draw(st.sampled_from((*NAMESPACES, "")))
    sections = []
    for index in range(draw(st.integers(1, 2))):
        peer = draw(st.none() | selector.map(lambda s: (selectors.scope_peer(s, namespace),)))
        direction = draw(st.sampled_from(list(abi.Direction)))
        verdict = draw(st.sampled_from((abi.Verdict.ALLOW, abi.Verdict.DENY)))
        rule = model.Rule(direction, verdict, peer, None, f"specs[{index}].x[0]")
        closes = frozenset((direction,)) if draw(st.booleans()) else frozenset()
        subject = selectors.scope_subject(draw(selector), namespace)
        section = model.Section(
            f"specs[{index}]", subject, frozenset((direction,)), closes, (rule,), draw(st.booleans())
        )
        sections.append(section)
    return model.Policy("MeshNetworkPolicy", namespace, draw(st.sampled_from("uv")), tuple(sections))


event = st.tuples(st.sampled_from(("put", "put", "remove")), workloads | namespaces | policies())


def name(obj: model.Workload | model.Namespace | model.Policy) -> str:
    own = obj.name if isinstance(obj, model.Namespace) else obj.key if isinstance(obj, model.Policy) else str(obj)
    return f"{type(obj).__name__} {own}"


def agree(kept: engine.Engine, numbers: dict[engine.Labels, int], there: dict[str, object]) -> None:
    snapshot = refer.written_out(
        model.Snapshot(
            workloads=tuple(o for o in there.values() if isinstance(o, model.Workload)),
            namespaces=tuple(o for o in there.values() if isinstance(o, model.Namespace)),
            policies=tuple(o for o in there.values() if isinstance(o, model.Policy)),
        )
    )
    allocation = identity.allocate(identity.Allocation(), snapshot)
    full = identity.Identities(snapshot, allocation)
    by_labels = {labels: number for number, labels in full.labels.items() if number in full.pods}
    ours = {numbers[labels]: number for labels, number in by_labels.items()}
    assert set(kept.identities()) == set(ours)
    assert {str(w): ours[kept.number(w)] for w in snapshot.workloads} == full.of_workload
    wanted = resolve.resolve(snapshot, full, full.pods)
    assert {ours[number]: kept.policy(number) for number in kept.identities()} == wanted
    for policy in snapshot.policies:
        for section in policy.sections:
            for each in (section.subject, *(p for r in section.rules for p in r.peers or ())):
                if isinstance(each, model.Selector):
                    assert {ours[n] for n in kept.select(each)} == (full.select(each) or frozenset()) & full.pods


@given(st.lists(event, max_size=30))
@settings(deadline=None, max_examples=150)
def test_any_order_of_events_gives_what_a_full_resolve_gives(
    events: list[tuple[str, model.Workload | model.Namespace | model.Policy]],
) -> None:
    numbers: dict[engine.Labels, int] = {}
    kept = engine.Engine(lambda labels: numbers.setdefault(labels, 1000 + len(numbers)))
    there: dict[str, object] = {}
    for what, obj in events:
        if what == "put":
            kept.put(obj)
            there[name(obj)] = obj
        elif name(obj) in there:
            kept.remove(there.pop(name(obj)))  # type: ignore[arg-type]
        agree(kept, numbers, there)


def test_a_pod_of_known_labels_resolves_nothing_anew() -> None:
    kept = engine.Engine(lambda labels: hash(labels))
    pod = model.Workload("n", "p", {"app": "a"}, "x")
    subject = selectors.scope_subject(model.Selector(), "n")
    section = model.Section("spec", subject, frozenset(), frozenset(abi.Direction), ())
    kept.put(pod)
    kept.put(model.Policy("MeshNetworkPolicy", "n", "q", (section,)))
    before = kept.policy(kept.number(pod))
    twin = dataclasses.replace(pod, name="twin")
    kept.put(twin)
    assert kept.number(twin) == kept.number(pod)
    assert kept.policy(kept.number(twin)) is before
