"""bpf/verdict.h and bpf/policy.h against their Python twin: any entries, any question, the same answer."""

import dataclasses

from hypothesis import given, settings
from hypothesis import strategies as st

from control import evaluate
from loader import abi
from tests.native import native

# Few of each, so that entries meet questions and each other.
PEERS = st.sampled_from([0, 1, 2, 777])
PROTOS = st.sampled_from([0, 1, 6, 17])
PORTS = st.sampled_from([0, 1, 80, 81, 95, 443, 0x8000, 0xFFFF])
PLENS = st.sampled_from([0, 1, 8, 12, 15, 16])
DIRECTIONS = st.sampled_from(list(abi.Direction))
RANKS = st.sampled_from([0, 1, 2, 100, 254])
VERDICTS = st.sampled_from(list(abi.Verdict))
RULES = st.sampled_from([0, 1, 2, 0xFFFFFFFF])
SETS = st.sampled_from([1, 2])


def masked(port: int, plen: int) -> int:
    return port >> (16 - plen) << (16 - plen)


@st.composite
def entries(draw: st.DrawFn) -> dict[abi.PolicyKey, abi.PolicyValue]:
    out = {}
    for _ in range(draw(st.integers(0, 24))):
        proto, plen = draw(PROTOS), draw(PLENS)
        if not proto:
            plen = 0
        port = masked(draw(PORTS), plen)
        key = abi.PolicyKey(draw(SETS), draw(PEERS), port, proto, int(draw(DIRECTIONS)), plen)
        present, audit_present = draw(st.sampled_from([(1, 0), (0, 1), (1, 1)]))
        out[key] = abi.PolicyValue(
            int(draw(VERDICTS)),
            draw(RANKS),
            int(draw(VERDICTS)),
            draw(RANKS),
            draw(RULES),
            draw(RULES),
            present,
            audit_present,
        )
    return out


@settings(max_examples=500, deadline=None)
@given(
    entries(), SETS, st.integers(0, 0x1FFFF), DIRECTIONS, PEERS, st.sampled_from([1, 6, 17, 132]), PORTS, st.booleans()
)
def test_same_answer_as_python(
    policy: dict[abi.PolicyKey, abi.PolicyValue],
    set_id: int,
    plens: int,
    direction: abi.Direction,
    peer: int,
    proto: int,
    port: int,
    has_audit: bool,
) -> None:
    flags = int(abi.EndpointFlag.ENROLLED | (abi.EndpointFlag.HAS_AUDIT if has_audit else 0))
    endpoint = abi.Endpoint(1, set_id, flags, 0, plens, plens, 0, 0)
    if has_audit:  # such a set always says what happens to the rest
        default = abi.PolicyKey(set_id, 0, 0, 0, int(direction), 0)
        old = policy.get(default, abi.PolicyValue(0, 0, int(abi.Verdict.DENY), 0, 0, 3, 0, 1))
        policy = {**policy, default: dataclasses.replace(old, audit_present=1)}
    found = native.Kernel({"policy": dict(policy)}).ask(endpoint, direction, peer, proto, port)
    wanted = evaluate.lookup(policy, set_id, plens, direction, peer, proto, port)
    audited = has_audit and wanted.audited
    assert found.verdict == wanted.verdict
    assert found.audited == audited
    assert found.rule_id == (wanted.audit_rule_id if audited else wanted.rule_id)
    if wanted.allowed:
        assert found.reason == abi.DropReason.NONE
    else:
        by_deny = wanted.found and wanted.rank == abi.Rank.DENY
        assert found.reason == (abi.DropReason.POLICY_DENY if by_deny else abi.DropReason.POLICY_DENIED)


@settings(max_examples=60, deadline=None)
@given(entries(), SETS, st.integers(0, 0x1FFFF), DIRECTIONS, PEERS, st.sampled_from([6, 17]), PORTS)
def test_policy_decides_nothing_for_an_end_that_is_not_ready(
    policy: dict[abi.PolicyKey, abi.PolicyValue],
    set_id: int,
    plens: int,
    direction: abi.Direction,
    peer: int,
    proto: int,
    port: int,
) -> None:
    kernel = native.Kernel({"policy": dict(policy)})
    for endpoint in (
        abi.Endpoint(1, set_id, 0, 0, plens, plens, 0, 0),
        abi.Endpoint(1, 0, int(abi.EndpointFlag.ENROLLED), 0, plens, plens, 0, 0),
    ):
        answer = kernel.ask(endpoint, direction, peer, proto, port)
        assert (answer.verdict, answer.reason) == (abi.Verdict.DENY, abi.DropReason.DROP_EP_NOT_READY)


def test_a_zeroed_value_denies() -> None:
    key = abi.PolicyKey(1, 0, 0, 0, int(abi.Direction.INGRESS), 0)
    zeroed = abi.PolicyValue.unpack(bytes(abi.PolicyValue.SIZE))
    endpoint = abi.Endpoint(1, 1, int(abi.EndpointFlag.ENROLLED), 0, 0, 0, 0, 0)
    answer = native.Kernel({"policy": {key: zeroed}}).ask(endpoint, abi.Direction.INGRESS, 2, 6, 80)
    assert answer.verdict == abi.Verdict.DENY
