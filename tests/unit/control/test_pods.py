"""Whom selectors select, as bits of a number: the same pods that fulfil each condition one by one."""

from hypothesis import given
from hypothesis import strategies as st

from control import identity, model
from control.policy import selectors
from control.source import pods
from loader import abi

words = st.sampled_from(["a", "b", "c"])
labels = st.dictionaries(words, words)
requirements = st.builds(
    lambda source, key, operator, values: model.Requirement(
        source, key, operator, tuple(values) if operator in (model.Operator.IN, model.Operator.NOT_IN) else ()
    ),
    st.sampled_from(["any", "k8s", "reserved"]),
    words,
    st.sampled_from(model.Operator),
    st.lists(words, min_size=1),
)
SELECTORS = st.builds(model.Selector, st.lists(requirements, max_size=3).map(tuple))


def snapshot(given: list[dict[str, str]]) -> model.Snapshot:
    ports = (model.ContainerPort("web", 80),)
    there = [model.Workload("shop", f"p{n}", labels=each, ports=ports[: n % 2]) for n, each in enumerate(given)]
    nodes = model.Workload("elsewhere", "n", labels={"a": "a"}, ports=ports, host_network=True)
    return model.Snapshot(workloads=(nodes, *there))


@given(st.lists(labels, max_size=6), st.lists(SELECTORS, max_size=3))
def test_selected_is_who_fulfils_every_condition(given: list[dict[str, str]], wanted: list[model.Selector]) -> None:
    known = pods.Pods(snapshot(given))
    each = [selectors.values_of(found) for w, found in identity.labelled(snapshot(given)) if not w.host_network]
    distinct = list({str(sorted((key, sorted(v)) for key, v in values.items())): values for values in each}.values())

    def bits(selected: list[bool]) -> int:
        return sum(yes << number for number, yes in enumerate(selected))

    assert known.all == bits([True] * len(distinct))
    for selector in wanted:
        assert known.select(selector) == bits([selectors.fulfils(selector, values) for values in distinct])
    assert known.meant(wanted) == bits([any(selectors.fulfils(s, values) for s in wanted) for values in distinct])


def test_who_is_no_pod() -> None:
    known = pods.Pods(snapshot([{"a": "a"}, {}]))
    assert (known.namespaces, known.ports) == ({"shop"}, {("web", abi.Proto.TCP): 0b10})
    everybody = model.Entity.ALL, model.Entity.CLUSTER, model.Entity.CLUSTER_MESH
    assert [known.meant([entity]) for entity in model.Entity] == [0b11 * (e in everybody) for e in model.Entity]
    outside = model.CidrPeer(model.Prefix(4, 0, 0)), model.NamePeer("a.b"), model.NodePeer(model.Selector())
    assert (known.meant(outside), known.meant(None), known.meant(())) == (0, 0b11, 0)
