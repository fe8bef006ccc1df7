"""What is asked of many selectors at once says what asking each of them says, in fewer steps."""

import random
import time

import pytest

from control import model
from control.analysis.change import beside, meeting, selecting
from control.policy import apart, selectors
from tests.unit.control.test_analysis_beside import snapshot
from tests.unit.control.test_analysis_connectivity import Doc

KEYS = ("a", "b", "c")


def some(given: random.Random, count: int) -> list[model.Selector]:
    def one() -> model.Requirement:
        operator = given.choice((model.Operator.IN, model.Operator.IN, *model.Operator))
        values = tuple(given.sample("xyz", given.choice((1, 1, 2)))) if "In" in operator.value else ()
        return model.Requirement(given.choice(("any", "k8s", "reserved")), given.choice(KEYS), operator, values)

    scope = (selectors.IS_ENDPOINT, selectors.in_namespace("shop"), selectors.in_namespace("bank"))
    return [
        model.Selector(
            (*(one() for _ in range(given.randrange(4))), *given.sample(scope, given.choice((0, 1, 1))))
        )
        for _ in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(20))
def test_many_selectors_at_once_answer_as_each_does(seed: int) -> None:
    given = random.Random(seed)
    there = some(given, given.choice((0, 1, 2, 5)))
    meets, covers = selecting.Meeting(there), selecting.Covering(there)
    for asked in some(given, 200):
        assert meets.has(asked) == any(not apart.selectors(asked, each) for each in there)
        assert covers.has(asked) == any(set(each.requirements) <= set(asked.requirements) for each in there)


def test_what_would_take_too_long_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "MAX_COMPARED", 20)
    meets = selecting.Meeting([model.Selector((selectors.in_namespace("shop"),))])
    with pytest.raises(model.TooMuch, match="more than can be compared"):
        [meets.has(model.Selector((selectors.in_namespace(f"bank-{i}"),))) for i in range(20)]


def test_a_thousand_policies_of_many_values_that_all_change_are_compared_in_seconds() -> None:
    """Selector by selector, and value by value, it was minutes."""

    def policies(age: str) -> model.Snapshot:
        def spec(number: int) -> Doc:
            values = [f"{age}-{number}-{i}" for i in range(60)]
            subject = {"matchExpressions": [{"key": "app", "operator": "In", "values": values}]}
            peers = [{"matchLabels": {"role": f"{age}-{number}"}}]
            return {"endpointSelector": subject, "ingress": [{"fromEndpoints": peers}]}

        return snapshot(*map(spec, range(1000)))

    old, new = policies("old"), policies("new")
    before = time.process_time()
    opened, closed = beside.opened(old, new), beside.closed(old, new)
    assert time.process_time() - before < 10
    assert len(opened) >= 1000 and len(closed) >= 1000
