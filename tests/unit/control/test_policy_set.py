"""What counts of the rules for a connection's bytes, whichever entry decides that the proxy is asked."""

from hypothesis import given
from hypothesis import strategies as st

from control import model, policy_set
from loader import abi

TCP, UDP = int(abi.Proto.TCP), int(abi.Proto.UDP)


def rules(method: str) -> model.L7Rules:
    return model.L7Rules(http=(model.HttpRule(method),))


def key(peer: int, port: int, plen: int, proto: int = TCP, direction: int = 0) -> abi.PolicyKey:
    return abi.PolicyKey(0, peer, port >> (16 - plen) << (16 - plen), proto, direction, plen)


KEYS = st.builds(
    key,
    st.sampled_from([0, 7, 8]),
    st.sampled_from([80, 81, 8080]),
    st.sampled_from([0, 9, 15, 16]),
    st.sampled_from([TCP, UDP]),
    st.sampled_from([0, 1]),
)


SAID = st.sampled_from([*map(rules, ("GET", "PUT", "POST", "HEAD")), *policy_set.ANYTHING]).map(lambda each: (each,))


@given(st.dictionaries(KEYS, SAID))
def test_every_rule_for_the_peer_and_port_counts(entries: dict[abi.PolicyKey, policy_set.L7]) -> None:
    meant = [
        each
        for entry, found in entries.items()
        if entry.direction == 0
        and entry.proto == TCP
        and entry.peer_id in (0, 7)
        and entry.port == 80 >> (16 - entry.plen) << (16 - entry.plen)
        for each in found
    ]
    found = policy_set.rules_at(entries, 0, 7, TCP, 80)
    assert set(found) == ({*policy_set.ANYTHING} if policy_set.ANYTHING[0] in meant else set(meant))
    assert len(found) == len(set(found))


def test_the_most_specific_rule_comes_first() -> None:
    wide, narrow, own = rules("A"), rules("B"), rules("C")
    entries = {key(0, 80, 0): (wide,), key(0, 80, 16): (narrow,), key(7, 80, 16): (own,)}
    assert policy_set.rules_at(entries, 0, 7, TCP, 80) == (own, narrow, wide)
    assert policy_set.rules_at(entries, 0, 8, TCP, 80) == (narrow, wide)
    assert policy_set.rules_at(entries, 0, 0, TCP, 81) == (wide,)
