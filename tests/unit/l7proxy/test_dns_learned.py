"""What is held until when: playbooks, and random events against a model that is too simple to be wrong."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import model
from control.policy import dnsnames
from l7proxy.dns.learned import MAX_TTL, NOTHING, SECOND, Change, Learned, Limits, NotATable, Table

A1, A2, A3, A4 = "192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::4"
SHOP, BANK, NEWS = "shop.example", "bank.example", "news.example"
SHORT = Limits(grace=0)


def at(seconds: int) -> int:
    return seconds * SECOND


def teach(table: Table, name: str, *addresses: str, ttl: int = 10, now: int = 0) -> Change:
    return table.learn(Learned(name, addresses, ttl), at(now))


def test_both_ways() -> None:
    table = Table()
    assert teach(table, SHOP, A1, A2) == Change(((SHOP, A1), (SHOP, A2)))
    assert teach(table, BANK, A2) == Change(((BANK, A2),))
    assert table.names_of(A2) == {SHOP, BANK} and table.names_of(A3) == set()
    assert table.addresses() == {BANK: (A2,), SHOP: (A1, A2)} and len(table) == 3


@pytest.mark.parametrize(
    ("peer", "addresses"),
    [
        (model.NamePeer(name="Shop.Example."), {A1}),
        (model.NamePeer(name="nobody.example"), set()),
        (model.NamePeer(pattern="*.example"), {A1, A2}),
        (model.NamePeer(pattern="**.example"), {A1, A2, A3}),
        (model.NamePeer(pattern="b*"), set()),
        (model.NamePeer(pattern="*"), {A1, A2, A3}),
    ],
)
def test_what_a_rule_means(peer: model.NamePeer, addresses: set[str]) -> None:
    table = Table()
    teach(table, SHOP, A1)
    teach(table, BANK, A2)
    teach(table, "a.b.example", A3)
    assert table.addresses_of(peer) == addresses


def test_an_address_goes_when_its_time_is_over() -> None:
    table = Table(SHORT)
    teach(table, SHOP, A1, ttl=10)
    teach(table, SHOP, A2, ttl=20)
    assert table.next_expiry() == at(10)
    assert table.expire(at(10) - 1) == NOTHING
    assert table.expire(at(10)) == Change((), ((SHOP, A1),))
    assert table.next_expiry() == at(20) and table.addresses() == {SHOP: (A2,)}
    assert table.expire(at(99)).removed == ((SHOP, A2),)
    assert len(table) == 0 and table.next_expiry() is None and not table.names_of(A2)


def test_a_name_behind_an_address_goes_and_the_other_stays() -> None:
    table = Table(SHORT)
    teach(table, SHOP, A1, ttl=10)
    teach(table, BANK, A1, ttl=20)
    table.expire(at(15))
    assert table.names_of(A1) == {BANK} and table.addresses_of(model.NamePeer(name=SHOP)) == set()


def test_learned_again_it_stays_longer_and_never_shorter() -> None:
    table = Table(SHORT)
    teach(table, SHOP, A1, ttl=10)
    assert teach(table, SHOP, A1, ttl=10, now=5) == NOTHING
    assert teach(table, SHOP, A1, ttl=1, now=6) == NOTHING
    assert table.next_expiry() == at(15)


def test_the_least_the_most_and_the_grace() -> None:
    table = Table(Limits(min_ttl=30, grace=5))
    teach(table, SHOP, A1, ttl=0)
    assert table.next_expiry() == at(35)
    teach(table, SHOP, A1, ttl=2**31 - 1)
    assert table.next_expiry() == at(MAX_TTL + 5)


def test_without_a_ttl_the_first_connection_still_works() -> None:
    table = Table()
    teach(table, SHOP, A1, ttl=0)
    assert table.expire(at(1)) == NOTHING and table.names_of(A1) == {SHOP}


@pytest.mark.parametrize("grace", [0, 5])
def test_what_is_in_use_stays(grace: int) -> None:
    used = {A1}
    table = Table(Limits(grace=grace), used.__contains__)
    teach(table, SHOP, A1, A2, ttl=10)
    assert table.expire(at(10 + grace)).removed == ((SHOP, A2),)
    assert table.next_expiry() == at(10 + grace + max(1, grace))
    assert table.expire(at(1000)) == NOTHING and table.names_of(A1) == {SHOP}
    used.clear()
    assert table.expire(at(1000 + max(1, grace))).removed == ((SHOP, A1),)


def test_one_name_has_room_for_so_many() -> None:
    table = Table(Limits(of_one=2, in_all=10))
    teach(table, SHOP, A1, A2)
    assert teach(table, SHOP, A3) == Change(((SHOP, A3),), ((SHOP, A1),), 1)
    assert teach(table, SHOP, A2, A4) == Change(((SHOP, A4),), ((SHOP, A3),), 1)
    assert teach(table, BANK, A1, A2, A3) == Change(((BANK, A1), (BANK, A2)), (), 1)
    assert table.given_up == 3 and table.addresses() == {BANK: (A1, A2), SHOP: (A2, A4)}


def test_what_was_learned_longest_ago_is_given_up_first() -> None:
    table = Table(Limits(of_one=3, in_all=10))
    teach(table, SHOP, A1, A2)
    teach(table, SHOP, A3)
    teach(table, SHOP, A1)
    assert teach(table, SHOP, A4).removed == ((SHOP, A2),)


def test_what_is_in_use_is_given_up_last_and_what_came_just_now_never() -> None:
    used = {A1}
    table = Table(Limits(of_one=2, in_all=10), used.__contains__)
    teach(table, SHOP, A1)
    teach(table, SHOP, A2)
    assert teach(table, SHOP, A3).removed == ((SHOP, A2),)
    used |= {A3}
    assert teach(table, SHOP, A4) == Change(((SHOP, A4),), ((SHOP, A1),), 1)


def test_all_names_have_room_for_so_many() -> None:
    used: set[str] = set()
    table = Table(Limits(of_one=2, in_all=3), used.__contains__)
    teach(table, SHOP, A1)
    teach(table, BANK, A1, A2)
    assert teach(table, SHOP, A1) == NOTHING  # so that BANK is now the one of longest ago
    assert teach(table, NEWS, A3).removed == ((BANK, A1),)
    used |= {A1, A2}
    assert teach(table, "x.example", A3, A4).removed == ((NEWS, A3), (BANK, A2))
    used |= {A3, A4}
    assert teach(table, BANK, A3).removed == ((SHOP, A1),)


def test_a_name_whose_addresses_change_under_load() -> None:
    """Each answer has other addresses, and clients stay on some of them: those in use stay, and it stays small."""
    used = {"198.18.0.0", "198.18.0.3"}
    table = Table(Limits(grace=5, of_one=50), used.__contains__)
    for now in range(2000):
        teach(table, SHOP, *(f"198.18.{now // 250}.{(now % 250) + n}" for n in range(4)), ttl=1, now=now)
        table.expire(at(now))
        assert used <= set(table.addresses()[SHOP]) and len(table) <= 20
    assert table.given_up == 0


def test_after_a_restart() -> None:
    old = Table(SHORT)
    teach(old, SHOP, A1, ttl=10)
    teach(old, SHOP, A4, ttl=30)
    teach(old, BANK, A1, ttl=15)
    new = Table(SHORT)
    assert new.restore(json.loads(json.dumps(old.exported())), at(12)) == Change(((SHOP, A4), (BANK, A1)))
    assert new.exported() == {SHOP: {A4: at(30)}, BANK: {A1: at(15)}}
    assert new.expire(at(15)).removed == ((BANK, A1),)


def test_what_is_restored_has_limits_too() -> None:
    table = Table(Limits(grace=0, of_one=2, in_all=3))
    ever = 2**80
    change = table.restore({SHOP: {A1: ever, A2: ever}, BANK: {A1: ever, A2: ever, A3: ever}}, 0)
    assert change == Change(((SHOP, A2), (BANK, A1), (BANK, A2)), (), 2)
    assert table.next_expiry() == at(MAX_TTL + 1)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {1: {}},
        {SHOP: {}},
        {SHOP: [A1]},
        {"Shop": {A1: 1}},
        {SHOP: {"1.2.3": 1}},
        {SHOP: {"2001:DB8::1": 1}},
        {SHOP: {"1.2.3.4\0": 1}},
        {SHOP: {A1: "1"}},
        {SHOP: {A1: True}},
        {SHOP: {A1: 1.5}},
    ],
)
def test_what_is_no_table(data: Any) -> None:
    table = Table()
    with pytest.raises(NotATable):
        table.restore({BANK: {A1: 10}, **data} if isinstance(data, dict) else data, 0)
    assert len(table) == 0


def test_limits_have_to_make_sense() -> None:
    for limits in (Limits(of_one=0), Limits(of_one=2, in_all=1)):
        with pytest.raises(ValueError, match="room"):
            Table(limits)


# --- random events ----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from([SHOP, BANK, NEWS])
ADDRESSES = st.sampled_from([A1, A2, A3, A4])
LEARN = st.tuples(st.just("learn"), NAMES, st.lists(ADDRESSES, max_size=4, unique=True), st.integers(0, 9))
WAIT = st.tuples(st.just("wait"), st.integers(0, 6))
USE = st.tuples(st.just("use"), ADDRESSES, st.booleans())
RESTART = st.tuples(st.just("restart"))
EVENTS = st.lists(st.one_of(LEARN, LEARN, WAIT, WAIT, USE, RESTART), max_size=40)


def consistent(table: Table, limits: Limits) -> None:
    names = table.addresses()
    assert len(table) == sum(map(len, names.values())) <= limits.in_all
    assert all(0 < len(held) <= limits.of_one for held in names.values())
    assert set(table._names) == {address for held in names.values() for address in held}
    for address in (A1, A2, A3, A4):
        assert table.names_of(address) == {name for name, held in names.items() if address in held}
    for peer in (model.NamePeer(name=SHOP), model.NamePeer(pattern="*n*.example")):
        assert table.addresses_of(peer) == {a for n, held in names.items() if dnsnames.matches(peer, n) for a in held}


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.integers(0, 3), st.integers(0, 3))
def test_an_address_is_there_exactly_while_a_time_holds(events: list[Any], min_ttl: int, grace: int) -> None:
    used: set[str] = set()
    limits = Limits(min_ttl, grace)
    table, simple, now = Table(limits, used.__contains__), dict[tuple[str, str], int](), 0
    for kind, *rest in events:
        before = set(simple)
        match kind, rest:
            case "learn", [name, addresses, ttl]:
                change = teach(table, name, *addresses, ttl=ttl, now=now)
                for address in addresses:
                    until = now + max(ttl, min_ttl) + grace
                    simple[name, address] = max(until, simple.get((name, address), 0))
            case "wait", [seconds]:
                now += seconds
                change = table.expire(at(now))
                for (name, address), until in list(simple.items()):
                    if until <= now and address in used:
                        simple[name, address] = now + max(1, grace)
                    elif until <= now:
                        del simple[name, address]
            case "use", [address, does]:
                (used.add if does else used.discard)(address)
                change = NOTHING
            case _:
                exported, table = table.exported(), Table(limits, used.__contains__)
                alive = {pair for pair, until in simple.items() if until > now}
                assert set(table.restore(exported, at(now)).added) == alive
                simple, change = {pair: simple[pair] for pair in alive}, NOTHING
                before = alive
        held = {(name, address) for name, addresses in table.addresses().items() for address in addresses}
        assert held == set(simple) and change.given_up == 0
        assert (set(change.added), set(change.removed)) == (held - before, before - held)
        assert table.next_expiry() == (at(min(simple.values())) if simple else None)
        consistent(table, limits)


@settings(max_examples=150, deadline=None)
@given(EVENTS, st.integers(1, 3), st.integers(0, 4))
def test_a_table_without_room_is_consistent(events: list[Any], of_one: int, more: int) -> None:
    used: set[str] = set()
    limits = Limits(0, 1, of_one, of_one + more)
    table, now, held = Table(limits, used.__contains__), 0, set[tuple[str, str]]()
    for kind, *rest in events:
        change = NOTHING
        match kind, rest:
            case "learn", [name, addresses, ttl]:
                change = teach(table, name, *addresses, ttl=ttl, now=now)
                assert set(addresses[:of_one]) <= set(table.addresses().get(name, ()))
            case "wait", [seconds]:
                now += seconds
                change = table.expire(at(now))
            case "use", [address, does]:
                (used.add if does else used.discard)(address)
        assert not set(change.added) & set(change.removed)
        held = held - set(change.removed) | set(change.added)
        assert held == {(name, a) for name, addresses in table.addresses().items() for a in addresses}
        assert table.next_expiry() is not None or not held
        consistent(table, limits)


def test_what_is_learned_over_and_over_leaves_nothing_behind() -> None:
    table = Table(Limits(of_one=1))
    for now in range(5000):
        teach(table, SHOP, f"198.18.{now // 250 % 2}.{now % 250}", ttl=MAX_TTL, now=now)
    assert len(table) == 1 and len(table._due) <= 80
