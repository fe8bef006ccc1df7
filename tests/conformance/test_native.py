"""Every conformance case against the programs' own C, over compiled entries."""

import pytest

from control import compile as compiler
from control import identity
from loader import abi
from tests.conformance import case
from tests.native import native

CASES = case.cases()


@pytest.mark.parametrize("one", CASES, ids=str)
def test_case(one: case.Case) -> None:
    facts = {
        (w.namespace, w.name): compiler.EndpointFacts(1000 + i, 2000 + i, 3000 + i, True)
        for i, w in enumerate(one.snapshot.workloads)
    }
    node = compiler.NodeInfo("node", one.node_ips, one.node_cidr)
    desired, names, _ = compiler.compile_state(one.snapshot, identity.Allocation(), facts, node)
    kernel = native.Kernel.of(desired)
    wrong = []
    for check in one.checks:
        pair = kernel.ask_pair(check.source, check.destination, check.proto, check.port)
        for end, wanted, answer in (("egress", check.egress, pair.egress), ("ingress", check.ingress, pair.ingress)):
            if wanted is not None and said(answer) != wanted:
                wrong.append(f"{check}: {end} should be {wanted.name}, is {said(answer).name}")
        denying = [answer for answer in (pair.egress, pair.ingress) if answer.verdict == abi.Verdict.DENY]
        auditing = any(answer.audited for answer in (pair.egress, pair.ingress))
        if auditing != check.audited:
            wrong.append(f"{check}: audited is {auditing}")
        if check.rule and not check.audited:
            deciding = denying[0] if denying else pair.ingress if pair.dst_endpoint else pair.egress
            if str(names.rule(deciding.rule_id)) != check.rule:
                wrong.append(f"{check}: decided by {names.rule(deciding.rule_id)}, not by {check.rule}")
    assert not wrong


def said(answer: native.Answer) -> abi.Verdict:
    """Return what policy said: what the proxy must look at is refused for that reason while there is no proxy."""
    if answer.reason == abi.DropReason.PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL:
        return abi.Verdict.PROXY
    return abi.Verdict(answer.verdict)
