"""The lookup, entry by entry, and what both ends together say."""

from control import compile as compiler
from control import evaluate
from loader import abi, record

DENY, ALLOW = abi.Verdict.DENY, abi.Verdict.ALLOW
TCP = abi.Proto.TCP


def key(peer: int, proto: int = 0, port: int = 0, plen: int = 0, set_id: int = 1) -> abi.PolicyKey:
    return abi.PolicyKey(set_id, peer, port, proto, abi.Direction.INGRESS, plen)


def value(verdict: int, rank: int, rule_id: int) -> abi.PolicyValue:
    return abi.PolicyValue(verdict, rank, 0, 0, rule_id, 0, 1, 0)


def ask(entries: dict[abi.PolicyKey, abi.PolicyValue], peer: int, port: int, plens: int = 0x1FFFF) -> evaluate.Decision:
    return evaluate.lookup(entries, 1, plens, abi.Direction.INGRESS, peer, TCP, port)


def test_nothing_found_denies() -> None:
    assert ask({}, 5, 80) == evaluate.Decision(DENY, 0, 0, False, DENY, 0, False)
    assert ask({key(5, set_id=2): value(ALLOW, 1, 1)}, 5, 80).found is False


def test_the_highest_rank_decides_wherever_it_stands() -> None:
    entries = {
        key(5, TCP, 80, 16): value(ALLOW, 1, 1),
        key(0, TCP, 0, 0): value(DENY, 255, 2),
        key(0): value(ALLOW, 0, 3),
    }
    assert (ask(entries, 5, 80).verdict, ask(entries, 5, 80).rule_id) == (DENY, 2)


def test_of_equal_ranks_the_longest_port_prefix_then_the_peers_own_entry_decides() -> None:
    entries = {
        key(0, TCP, 80, 16): value(ALLOW, 1, 1),
        key(5, TCP, 80, 12): value(ALLOW, 1, 2),
        key(0, TCP, 80, 12): value(ALLOW, 1, 3),
        key(5): value(ALLOW, 1, 4),
        key(0): value(DENY, 0, 5),
    }
    assert [ask(entries, peer, port).rule_id for peer, port in ((5, 80), (5, 81), (6, 81), (5, 96), (6, 96))] == [
        1, 2, 3, 4, 5,
    ]  # fmt: skip


def test_only_prefix_lengths_that_the_endpoint_names_are_asked_for() -> None:
    entries = {key(5, TCP, 80, 16): value(ALLOW, 1, 1), key(0): value(DENY, 0, 2)}
    assert ask(entries, 5, 80, plens=1 << 16).rule_id == 1
    assert ask(entries, 5, 80, plens=1 << 15).rule_id == 2
    assert ask(entries, 5, 80, plens=0).rule_id == 2


def test_the_unknown_peer_matches_wildcards_only() -> None:
    entries = {key(5): value(ALLOW, 1, 1), key(0): value(DENY, 0, 2)}
    assert ask(entries, 0, 80).rule_id == 2


def test_slots_are_chosen_apart() -> None:
    entries = {
        key(5): abi.PolicyValue(ALLOW, 1, DENY, 255, 1, 2, 1, 1),
        key(0): abi.PolicyValue(DENY, 0, ALLOW, 0, 3, 4, 1, 1),
        key(5, TCP, 80, 16): abi.PolicyValue(DENY, 255, ALLOW, 1, 5, 6, 0, 1),  # for audit only
    }
    found = ask(entries, 5, 80)
    assert found == evaluate.Decision(ALLOW, 1, 1, True, DENY, 2, True)
    assert found.audited
    assert ask(entries, 6, 80) == evaluate.Decision(DENY, 0, 3, True, ALLOW, 4, True)


def desired(flags: int = abi.EndpointFlag.ENROLLED, allow: bool = True) -> compiler.Desired:
    maps: dict[str, dict[record.Record, record.Record]] = {name: {} for name in compiler.MAP_NAMES}
    for number, ip in ((1, "10.0.0.1"), (2, "10.0.0.2")):
        address = record.pack_addr(ip)
        maps["ipcache"][abi.IpcacheKey(128, address)] = abi.IpcacheValue(255 + number)
        maps["endpoint_ips"][abi.AddrKey(address)] = abi.EndpointRef(number)
        maps["endpoints"][abi.EndpointKey(number)] = abi.Endpoint(number, 255 + number, number, flags, 1 << 16, 1 << 16)
        for direction in abi.Direction:
            maps["policy"][abi.PolicyKey(number, 0, 0, 0, direction, 0)] = value(DENY, 0, 10 + number)
    maps["ipcache"][abi.IpcacheKey(104, record.pack_addr("10.0.0.0"))] = abi.IpcacheValue(1 << 24)
    maps["ipcache"][abi.IpcacheKey(96, record.pack_addr("0.0.0.0"))] = abi.IpcacheValue(9)
    maps["policy"][abi.PolicyKey(1, 257, 80, 6, abi.Direction.EGRESS, 16)] = value(ALLOW, 1, 7)
    if allow:
        maps["policy"][abi.PolicyKey(2, 256, 80, 6, abi.Direction.INGRESS, 16)] = value(ALLOW, 1, 8)
    return compiler.Desired(maps)


def test_identities_come_from_the_longest_range() -> None:
    view = evaluate.View(desired())
    ips = ("10.0.0.1", "10.0.0.3", "11.0.0.1", "2001:db8::1")
    assert [view.identity(ip) for ip in ips] == [256, 1 << 24, 9, 0]


def test_both_ends_must_allow() -> None:
    pair = evaluate.evaluate_pair(evaluate.View(desired()), "10.0.0.1", "10.0.0.2", TCP, 80)
    assert pair.allowed
    assert pair.egress is not None and pair.egress.rule_id == 7
    assert pair.ingress is not None and pair.ingress.rule_id == 8
    assert not evaluate.evaluate_pair(evaluate.View(desired(allow=False)), "10.0.0.1", "10.0.0.2", TCP, 80).allowed
    outside = evaluate.evaluate_pair(evaluate.View(desired()), "192.0.2.1", "192.0.2.2", TCP, 80)
    assert (outside.egress, outside.ingress, outside.allowed) == (None, None, True)


def test_policy_has_no_say_within_an_endpoint() -> None:
    maps = {name: dict(content) for name, content in desired().maps.items()}
    maps["endpoint_ips"][abi.AddrKey(record.pack_addr("10.0.0.3"))] = abi.EndpointRef(1)
    view = evaluate.View(compiler.Desired(maps))
    for source, destination in (("10.0.0.1", "10.0.0.3"), ("10.0.0.1", "10.0.0.1")):
        pair = evaluate.evaluate_pair(view, source, destination, TCP, 81)
        assert (pair.egress, pair.ingress, pair.allowed) == (None, None, True)
    assert not evaluate.evaluate_pair(view, "10.0.0.3", "10.0.0.2", TCP, 81).allowed


def test_an_endpoint_that_is_not_enrolled_is_closed() -> None:
    assert not evaluate.evaluate_pair(evaluate.View(desired(flags=0)), "10.0.0.1", "10.0.0.2", TCP, 80).allowed
