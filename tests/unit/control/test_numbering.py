"""Numbers that go on above what is pinned: an old one never names something else."""

from control import compile as compiler
from control import identity
from control.agent import numbering, plan
from loader import abi, numbers


def have(**maps: dict[object, object]) -> plan.Content:
    return {name: maps.get(name, {}) for name in compiler.MAP_NAMES}  # type: ignore[misc]


def test_every_kind_goes_on_above_what_maps_hold() -> None:
    value = abi.PolicyValue(
        verdict=1, rank=1, audit_verdict=0, audit_rank=0, rule_id=7, audit_rule_id=9, present=1, audit_present=1
    )
    place = abi.FIRST_CIDR_IDENTITY + 5
    endpoint = abi.Endpoint(
        identity=300, set_id=4, flags=1, ifindex=2, ingress_plens=0, egress_plens=0, netns_cookie=1, nsid=0
    )
    held = have(
        policy={abi.PolicyKey(4, place, 80, 6, 0, 16): value, abi.PolicyKey(plan.FIRST_BRIDGE, 301, 0, 0, 0, 0): value},
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
