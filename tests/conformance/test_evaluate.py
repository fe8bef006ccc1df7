"""Every conformance case against the Python evaluator, over compiled entries."""

import pytest

from control import compile as compiler
from control import evaluate, identity, policy_set
from control.policy import meaning, peers, refer, request, resolve
from loader import abi
from tests.conformance import case

CASES = case.cases()


@pytest.mark.parametrize("one", CASES, ids=str)
def test_case(one: case.Case) -> None:
    assert one.problems == one.expected_problems
    facts = {
        (w.namespace, w.name): compiler.EndpointFacts(1000 + i, 2000 + i, 3000 + i, True)
        for i, w in enumerate(one.snapshot.workloads)
    }
    node = compiler.NodeInfo("node", one.node_ips, one.node_cidr)
    desired, names, allocation = compiler.compile_state(one.snapshot, identity.Allocation(), facts, node)
    view = evaluate.View(desired)
    wrong = []
    for check in one.checks:
        pair = evaluate.evaluate_pair(view, check.source, check.destination, check.proto, check.port)
        for end, wanted, found in (("egress", check.egress, pair.egress), ("ingress", check.ingress, pair.ingress)):
            if wanted is not None and (found is None or found.verdict != wanted):
                wrong.append(f"{check}: {end} should be {wanted.name}: {found}")
        refusing = [d for d in (pair.egress, pair.ingress) if d is not None and not d.allowed]
        deciding = refusing[0] if refusing else pair.ingress or pair.egress
        if check.rule:
            rule = names.rule(deciding.rule_id) if deciding else None
            if str(rule) != check.rule:
                wrong.append(f"{check}: decided by {rule}, not by {check.rule}")
        audited = any(d is not None and d.audited for d in (pair.egress, pair.ingress))
        if audited != check.audited:
            wrong.append(f"{check}: audited is {audited}")
        if check.requests:
            sets = policy_sets(one, allocation)
            ends = ((pair.egress, pair.destination_identity), (pair.ingress, pair.source_identity))
            looking = [
                policy_set.rules_at(sets[found.key.set_id].l7, found.key.direction, peer_id, check.proto, check.port)
                for found, peer_id in ends
                if found and found.key and found.verdict == abi.Verdict.PROXY
            ]
            for asked in check.requests:
                passes = all(lets_through(rules, asked) for rules in looking)
                if not looking or passes != asked.allowed:
                    wrong.append(f"{check}: {asked} passes: {passes}, with {len(looking)} looking")
    assert not wrong


def policy_sets(one: case.Case, allocation: identity.Allocation) -> dict[int, policy_set.PolicySet]:
    """Return the policy sets of a case by their numbers."""
    snapshot = refer.written_out(one.snapshot)
    cluster = tuple(map(peers.parse_prefix, one.node_cidr))
    identities = identity.Identities(snapshot, allocation, cluster)
    known = policy_set.Meaning(identities, meaning.named_ports(snapshot, identities), allocation.rules)
    resolved = resolve.resolve(snapshot, identities, identities.of_workload.values())
    sets = [
        policy_set.compile_set(resolved[identities.of_workload[str(w)]], w.ports, known) for w in snapshot.workloads
    ]
    return {allocation.sets[each.digest]: each for each in sets}


def lets_through(rules: policy_set.L7, asked: case.Asked) -> bool:
    if isinstance(asked.what, request.Request):
        return request.http_allowed(rules, asked.what)
    return {"dns": request.name_allowed, "tls": request.server_allowed}[asked.kind](rules, asked.what)


def test_there_are_cases() -> None:
    assert len(CASES) > 60
    assert len({str(one) for one in CASES}) == len(CASES)
