"""Numbers that go on above what is pinned: an old one never names something else."""

import dataclasses
from pathlib import Path

import pytest

from control import compile as compiler
from control import identity, names
from control.agent import numbering, plan, state
from loader import abi, numbers


def have(**maps: dict[object, object]) -> plan.Content:
    return {name: maps.get(name, {}) for name in compiler.MAP_NAMES}  # type: ignore[misc]


def test_every_kind_goes_on_above_what_maps_hold() -> None:
    value = abi.PolicyValue(
        verdict=1, rank=1, audit_verdict=0, audit_rank=0, rule_id=7, audit_rule_id=9, present=1, audit_present=1
    )
    place = abi.FIRST_CIDR_IDENTITY + 5
    endpoint = abi.Endpoint(id=place, identity=300, set_id=4, flags=1, ifindex=2, netns_cookie=1)
    held = have(
        policy={abi.PolicyKey(4, place, 80, 6, 0, 16): value, abi.PolicyKey(3, 301, 0, 0, 0, 0): value},
        endpoints={abi.EndpointKey(12): endpoint},
        ipcache={
            abi.IpcacheKey(128, bytes(16)): abi.IpcacheValue(302),
            abi.IpcacheKey(96, bytes(16)): abi.IpcacheValue(int(abi.ReservedIdentity.HOST)),
            abi.IpcacheKey(97, bytes(16)): abi.IpcacheValue(numbers.FIRST_ENDPOINT),
        },
        services={abi.ServiceKey(bytes(16), 80, 6): abi.Service(21, 1, 0)},
    )
    found = numbering.above(identity.Allocation(), held)
    after = {name: getattr(found, name).next for name in found.__dataclass_fields__}
    assert after == {"identities": 303, "cidrs": place + 1, "endpoints": 13, "rules": 10, "sets": 5, "services": 22}


def test_what_connections_remember_counts_too() -> None:
    place = abi.FIRST_CIDR_IDENTITY
    found = numbering.above(identity.Allocation(), have(), [(40, 280), (3, place), (0, 0)])
    assert (found.rules.next, found.identities.next, found.cidrs.next) == (41, 281, place + 1)


def test_what_was_written_down_is_never_taken_back() -> None:
    before = identity.Allocation(rules=identity.Numbers(1, next=500, used={"a": 3}))
    found = numbering.above(before, have(), [(40, 0)])
    assert found.rules == before.rules and found.rules.assign(["a", "b"]).used == {"a": 3, "b": 500}


def held(**numbers: int) -> identity.Allocation:
    return identity.Allocation(endpoints=identity.Numbers(1, next=20, used={f"d/{k}": n for k, n in numbers.items()}))


def at(**interfaces: int) -> compiler.Facts:
    return {("d", name): compiler.EndpointFacts(ifindex=ifindex) for name, ifindex in interfaces.items()}


IN_FORCE = have(endpoint_ifaces={abi.IfaceKey(31): abi.EndpointRef(1), abi.IfaceKey(32): abi.EndpointRef(2)})


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (at(a=31, b=32), {"a": 1, "b": 2}),
        (at(a=32, b=31), {"a": 2, "b": 1}),  # they exchange their names
        (at(b=31, c=32), {"b": 1, "c": 2}),  # a name that is free is taken in the same edit
        (at(c=31, b=32), {"c": 1, "b": 2}),
        (at(c=31, a=33, b=32), {"c": 1, "a": 20, "b": 2}),  # the name of one that stays goes to one that is new
        (at(a=33, b=32), {"a": 1, "b": 2}),  # a pod made anew
        (at(a=32), {"a": 2}),
    ],
)
def test_an_endpoint_is_a_place_whatever_its_workload_is_called(
    facts: compiler.Facts, expected: dict[str, int]
) -> None:
    # What was written down may be older than what is in force: an agent can be killed in between.
    for before in (held(a=1, b=2), held(a=2, b=1), held(b=1)):
        found = numbering.in_place(before, IN_FORCE, facts).endpoints.assign("/".join(key) for key in facts)
        numbers = {name.removeprefix("d/"): number for name, number in found.used.items()}
        known = {name: number for name, number in expected.items() if facts["d", name].ifindex != 33}
        assert numbers.items() >= known.items() and len(set(numbers.values())) == len(facts)
        assert before != held(a=1, b=2) or numbers == expected


def test_an_endpoint_with_two_interfaces_is_where_its_record_says() -> None:
    """As an agent leaves it that is killed before it has deleted what a pod made anew no longer has."""
    both: dict[object, object] = {abi.IfaceKey(index): abi.EndpointRef(1) for index in (33, 31, 34)}
    record = dataclasses.replace(abi.Endpoint.blank(), ifindex=31)
    left = have(endpoint_ifaces=both, endpoints={abi.EndpointKey(1): record})
    found = numbering.in_place(held(a=1), left, at(c=33, b=31, d=34)).endpoints.assign(["d/b", "d/c", "d/d"])
    assert found.used == {"d/b": 1, "d/c": 20, "d/d": 21}


def test_numbers_that_cannot_be_written_down_leave_none_of_before(tmp_path: Path) -> None:
    """The next start would give out again what a connection remembers: without any, it asks the connections."""
    state.save(tmp_path, held(a=1), names.Names(node="n"))
    assert state.load_allocation(tmp_path) == held(a=1)
    (tmp_path / "state.tmp").mkdir()  # as good as a full disk
    with pytest.raises(OSError):
        state.save(tmp_path, held(a=1, b=2), names.Names(node="n"))
    assert state.load_allocation(tmp_path) is None
    assert state.load_names(tmp_path).node == "n"
    (tmp_path / "state.tmp").rmdir()
    state.save(tmp_path, held(a=1, b=2), names.Names(node="n"))
    assert state.load_allocation(tmp_path) == held(a=1, b=2)
