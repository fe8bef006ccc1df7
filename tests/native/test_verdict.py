"""bpf/verdict.h and bpf/policy.h against their Python twin: any entries, any question, the same answer."""

import dataclasses
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from control import evaluate
from loader import abi
from loader.record import Record
from tests.native import native

PEERS = st.sampled_from([1, 2, 777])
PROTOS = st.sampled_from([1, 6, 17, 132])
PORTS = st.sampled_from([0, 1, 80, 81, 95, 443, 0x8000, 0xFFFF])
PLENS = st.sampled_from([0, 1, 8, 12, 15, 16])
DIRECTIONS = st.sampled_from([int(direction) for direction in abi.Direction])
RANKS = st.sampled_from([0, 1, 2, 100, 254])
VERDICTS = st.sampled_from([int(verdict) for verdict in abi.Verdict])
OFTEN = st.sampled_from([True, True, True, True, False])


class Question(NamedTuple):
    set_id: int
    plens: int
    direction: int
    peer: int
    proto: int
    port: int


class Asked(NamedTuple):
    """A question, and entries most of which have something to say to it."""

    question: Question
    entries: dict[abi.PolicyKey, abi.PolicyValue]


def masked(port: int, plen: int) -> int:
    return port >> (16 - plen) << (16 - plen)


def key(draw: st.DrawFn, question: Question) -> abi.PolicyKey:
    proto = draw(st.sampled_from([question.proto, question.proto, question.proto, 0, 6]))
    plen = draw(PLENS) if proto else 0
    port = question.port if draw(OFTEN) else draw(PORTS)
    return abi.PolicyKey(
        set_id=question.set_id if draw(OFTEN) else 2,
        peer_id=draw(st.sampled_from([0, question.peer, 2])),
        port=masked(port, plen),
        proto=proto,
        direction=question.direction if draw(OFTEN) else draw(DIRECTIONS),
        plen=plen,
    )


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    plens = draw(st.sampled_from([0x1FFFF, 0x1FFFF, 0x18000, 0x11002, 0]))
    question = Question(1, plens, draw(DIRECTIONS), draw(st.sampled_from([1, 1, 2, 3])), draw(PROTOS), draw(PORTS))
    entries = {}
    for rule in range(1, draw(st.integers(0, 16)) + 1):
        present, audit_present = draw(st.sampled_from([(1, 0), (0, 1), (1, 1)]))
        entries[key(draw, question)] = abi.PolicyValue(
            draw(VERDICTS), draw(RANKS), draw(VERDICTS), draw(RANKS), rule, 100 + rule, present, audit_present
        )
    return Asked(question, entries)


def kernel(entries: dict[abi.PolicyKey, abi.PolicyValue]) -> native.Kernel:
    rows: dict[Record, Record] = dict(entries.items())
    return native.Kernel({"policy": rows})


def endpoint(question: Question, flags: abi.EndpointFlag, set_id: int = 1) -> abi.Endpoint:
    return abi.Endpoint(7, 1, set_id, int(flags), question.plens, question.plens)


@settings(max_examples=800, deadline=None)
@given(asked(), st.booleans())
def test_same_answer_as_python(case: Asked, has_audit: bool) -> None:
    question, entries = case
    flags = abi.EndpointFlag.ENROLLED
    if has_audit:  # such a set always says what happens to the rest
        flags |= abi.EndpointFlag.HAS_AUDIT
        default = abi.PolicyKey(question.set_id, 0, 0, 0, question.direction, 0)
        old = entries.get(default, abi.PolicyValue(0, 0, int(abi.Verdict.DENY), 0, 0, 99, 0, 1))
        entries[default] = dataclasses.replace(old, audit_present=1)
    found = kernel(entries).ask(endpoint(question, flags), *question[2:])
    wanted = evaluate.lookup(entries, *question)
    audited = has_audit and wanted.audited
    # What the proxy must look at is refused while there is none.
    assert found.verdict == (abi.Verdict.ALLOW if wanted.allowed else abi.Verdict.DENY)
    assert found.audited == audited
    assert found.rule_id == wanted.rule_id
    assert found.reason == (abi.DropReason.NONE if wanted.allowed else wanted.reason)


@settings(max_examples=100, deadline=None)
@given(asked())
def test_nothing_opens_an_end_that_is_not_ready(case: Asked) -> None:
    question, entries = case
    asks = kernel(entries)
    ready = endpoint(question, abi.EndpointFlag.ENROLLED)
    for closed, asked_for in (
        (endpoint(question, abi.EndpointFlag(0)), question),
        (endpoint(question, abi.EndpointFlag.ENROLLED, set_id=0), question),
        (ready, question._replace(peer=0)),  # nobody: its record was another's when it was read
    ):
        answer = asks.ask(closed, *asked_for[2:])
        assert (answer.verdict, answer.reason) == (abi.Verdict.DENY, abi.DropReason.DROP_EP_NOT_READY)


def test_a_zeroed_value_denies() -> None:
    question = Question(1, 0, int(abi.Direction.INGRESS), 2, 6, 80)
    zeroed = abi.PolicyValue.blank()
    asks = kernel({abi.PolicyKey(1, 0, 0, 0, question.direction, 0): zeroed})
    answer = asks.ask(endpoint(question, abi.EndpointFlag.ENROLLED), *question[2:])
    assert answer.verdict == abi.Verdict.DENY


def test_of_one_rank_the_most_specific_entry_decides() -> None:
    """Take the deciding entry away again and again: longest port prefix first, the peer's own before anybody's."""
    question = Question(1, 0x1FFFF, int(abi.Direction.EGRESS), 7, 6, 0xFFFF)
    order = [(6, plen, peer) for plen in range(16, -1, -1) for peer in (7, 0)] + [(0, 0, 7), (0, 0, 0)]
    entries = {
        abi.PolicyKey(1, peer, masked(0xFFFF, plen), proto, question.direction, plen): abi.PolicyValue(
            number % 2, 1, 1 - number % 2, 1, number, 100 + number, 1, 1
        )
        for number, (proto, plen, peer) in enumerate(order)
    }
    for number, found in enumerate(list(entries)):
        answer = kernel(entries).ask(endpoint(question, abi.EndpointFlag.ENROLLED), *question[2:])
        assert (answer.rule_id, answer.verdict) == (number, number % 2)
        del entries[found]
    assert kernel(entries).ask(endpoint(question, abi.EndpointFlag.ENROLLED), *question[2:]).verdict == 0


@settings(max_examples=400, deadline=None)
@given(asked(), asked(), st.booleans(), st.sampled_from([0, 2]), st.integers(1, 3))
def test_each_state_of_the_editions(now: Asked, to_come: Asked, has_next: bool, next_set: int, next_peer: int) -> None:
    """In force alone, with the one to come, and that one alone; a record without a next set has its own in both."""
    question = now.question
    entries = now.entries | {
        dataclasses.replace(key, set_id=2): value
        for key, value in to_come.entries.items()
        if key.set_id == to_come.question.set_id
    }
    record = dataclasses.replace(
        endpoint(question, abi.EndpointFlag.ENROLLED),
        next_set_id=next_set,
        next_ingress_plens=to_come.question.plens,
        next_egress_plens=to_come.question.plens,
    )
    later = question._replace(peer=next_peer if has_next else question.peer)
    if next_set:
        later = later._replace(set_id=2, plens=to_come.question.plens)
    old, new = evaluate.lookup(entries, *question), evaluate.lookup(entries, *later)
    asks = kernel(entries)
    for state, wanted in (
        (abi.EditionState.NOW, old),
        (abi.EditionState.BOTH, old if not old.allowed else new),
        (abi.EditionState.NEXT, new),
    ):
        asks.turn(state)
        found = asks.ask(record, *question[2:], next_peer=later.peer)
        assert (found.verdict, found.rule_id) == (int(wanted.allowed), wanted.rule_id), state
    asks.turn(abi.EditionState.NOW)
