"""Every conformance case against the Python evaluator, over compiled entries."""

import pytest

from control import compile as compiler
from control import evaluate, identity
from tests.conformance import case

CASES = case.cases()


@pytest.mark.parametrize("one", CASES, ids=str)
def test_case(one: case.Case) -> None:
    assert one.problems == one.expected_problems
    facts = {
        (w.namespace, w.name): compiler.EndpointFacts(1000 + i, 2000 + i, 3000 + i, True)
        for i, w in enumerate(one.snapshot.workloads)
    }
    node = compiler.NodeInfo("node", one.node_ips)
    desired, names, _ = compiler.compile_state(one.snapshot, identity.Allocation(), facts, node)
    view = evaluate.View(desired)
    wrong = []
    for check in one.checks:
        pair = evaluate.evaluate_pair(view, check.source, check.destination, check.proto, check.port)
        for end, wanted, found in (("egress", check.egress, pair.egress), ("ingress", check.ingress, pair.ingress)):
            if wanted is not None and (found is None or found.allowed != wanted):
                wrong.append(f"{check}: {end} should be {'allowed' if wanted else 'denied'}: {found}")
        refusing = [d for d in (pair.egress, pair.ingress) if d is not None and not d.allowed]
        deciding = refusing[0] if refusing else pair.ingress or pair.egress
        if check.rule:
            rule = names.rule(deciding.rule_id) if deciding else None
            if str(rule) != check.rule:
                wrong.append(f"{check}: decided by {rule}, not by {check.rule}")
        audited = any(d is not None and d.audited for d in (pair.egress, pair.ingress))
        if audited != check.audited:
            wrong.append(f"{check}: audited is {audited}")
    assert not wrong


def test_there_are_cases() -> None:
    assert len(CASES) > 60
    assert len({str(one) for one in CASES}) == len(CASES)
