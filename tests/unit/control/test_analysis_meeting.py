"""An index of places says what looking at each of them says, in fewer steps."""

import random
import time

import pytest

from control import model
from control.analysis.change import beside, meeting
from control.analysis.change.written import Place
from control.policy import apart
from loader import abi
from tests.unit.control.test_analysis_beside import ingress, snapshot
from tests.unit.control.test_analysis_connectivity import Doc

TCP, UDP, ANY = abi.Proto.TCP, abi.Proto.UDP, abi.Proto.ANY
PORTS = (
    None,
    model.PortSpec(TCP, 80, 80),
    model.PortSpec(TCP, 80, 90),
    model.PortSpec(UDP, 85, 90),
    model.PortSpec(ANY),
    model.PortSpec(TCP, name="http"),
)


def selector(*values: tuple[str, ...]) -> model.Selector:
    return model.Selector(
        tuple(model.Requirement("any", f"k{i}", model.Operator.IN, each) for i, each in enumerate(values) if each)
    )


SELECTORS = (selector(), selector(("a",)), selector(("a", "b")), selector((), ("a",)), selector(("b",), ("a",)))
RANGES = (model.CidrPeer(model.Prefix(4, 10 << 24, 8)), model.CidrPeer(model.Prefix(4, 10 << 24 | 1 << 16, 16)))
PEERS = (None, *SELECTORS, *RANGES, *model.Entity)


def places(given: random.Random, count: int) -> list[Place]:
    def one() -> Place:
        way = given.choice(list(abi.Direction))
        return Place(given.random() < 0.2, given.choice(SELECTORS), way, given.choice(PEERS), given.choice(PORTS))

    return [one() for _ in range(count)]


@pytest.mark.parametrize("fits", [meeting.MEETS, meeting.INCLUDES, meeting.INCLUDES_BY_PEER])
@pytest.mark.parametrize("seed", range(20))
def test_an_index_answers_as_each_place_does(seed: int, fits: meeting.Fits) -> None:
    given = random.Random(seed)
    there = {place: given.choice("xyz") for place in places(given, given.choice((0, 3, 80)))}
    index = meeting.Index(there, fits)
    for asked in places(given, 60):
        said = [
            word
            for place, word in there.items()
            if all(fit(one, other) for fit, one, other in zip(fits, place, asked, strict=True))
        ]
        assert list(index.said(asked)) == list(dict.fromkeys(said))
        assert index.has(asked) == bool(said)


def test_what_no_index_can_answer_in_time_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {place: number for number, place in enumerate(places(random.Random(1), 80))}
    asked = places(random.Random(2), 80)
    monkeypatch.setattr(meeting, "MAX_COMPARED", 20)
    with pytest.raises(model.TooMuch, match="more than can be compared"):
        [meeting.of(there, meeting.MEETS).has(place) for place in asked]
    monkeypatch.undo()
    monkeypatch.setattr(meeting, "MAX_FOUND", 10)
    index = meeting.Index(there, meeting.MEETS)
    with pytest.raises(model.TooMuch, match="fewer or wider rules"):
        [list(index.said(place)) for place in asked]


def test_many_rules_for_requests_beside_plain_ones_are_compared_at_once() -> None:
    """5,000 places that are bound, and as many plain ones; each with each it was most of a minute."""
    peers = [{"matchLabels": {f"a{i}": "x"}} for i in range(50)]
    ports: list[Doc] = [
        {"ports": [{"port": str(first + i), "protocol": "TCP"} for i in range(20)]} for first in range(1, 101, 20)
    ]
    http = {"rules": {"http": [{"method": "GET"}]}}
    bound: Doc = {"fromEndpoints": peers, "toPorts": [each | http for each in ports]}
    plain: Doc = {"fromEndpoints": peers, "toPorts": ports}
    one, both = snapshot(ingress(bound)), snapshot(ingress(bound, plain))
    before = time.process_time()
    opened, closed = beside.opened(one, both), beside.opened(both, one)
    assert time.process_time() - before < 5
    assert (len(opened), closed) == (5000, ())


def requirement(source: str, key: str, value: str) -> model.Requirement:
    return model.Requirement(source, key, model.Operator.IN, (value,))


def test_a_key_of_any_source_is_a_pods_own_label() -> None:
    namespace = requirement("k8s", model.NAMESPACE_KEY, "shop")
    plain, sourced = requirement("any", "app", "web"), requirement("k8s", "app", "db")
    pods = model.Selector((plain, namespace)), model.Selector((sourced, namespace))
    assert apart.selectors(*pods) and apart.selectors(pods[0], model.Selector((sourced,)))
    # What is no pod may have one label of several sources.
    assert not apart.selectors(model.Selector((plain,)), model.Selector((sourced,)))
    assert not apart.selectors(pods[0], model.Selector((requirement("any", "app", "web"), namespace)))
