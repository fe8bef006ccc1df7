"""Numbers that keep their meaning, and which identity a peer means."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import compile as compiler
from control import evaluate, identity, model
from control.agent import state, trial
from control.names import Names
from control.policy import peers
from loader import abi


@given(st.lists(st.sets(st.sampled_from("abcdefgh")), max_size=12))
def test_a_name_never_changes_its_number_and_no_two_share_one(rounds: list[set[str]]) -> None:
    numbers = identity.Numbers(5)
    ever: dict[str, int] = {}
    for names in rounds:
        numbers = numbers.assign(names)
        assert set(numbers.used) == names
        for name, number in numbers.used.items():
            assert ever.setdefault(name, number) == number
    assert len(set(ever.values())) == len(ever)


def test_numbers_are_reused_only_when_none_is_left() -> None:
    numbers = identity.Numbers(1, 3).assign("ab").assign("a").assign("ac")
    assert numbers.used == {"a": 1, "c": 3}
    numbers = numbers.assign("acd")
    assert numbers.used == {"a": 1, "c": 3, "d": 2}
    with pytest.raises(ValueError, match="no number is left between 1 and 3"):
        numbers.assign("acde")


def test_only_so_many_vanished_names_are_kept() -> None:
    numbers = identity.Numbers(1).assign(map(str, range(identity.KEEP_RETIRED + 10))).assign(())
    assert len(numbers.retired) == identity.KEEP_RETIRED
    assert numbers.next == identity.KEEP_RETIRED + 11


def snapshot(*rules: model.Peer) -> model.Snapshot:
    section = model.Section(
        "spec",
        model.Selector(),
        frozenset(abi.Direction),
        frozenset(abi.Direction),
        (model.Rule(abi.Direction.EGRESS, abi.Verdict.ALLOW, rules, None, "spec.egress[0]"),),
    )
    return model.Snapshot(
        workloads=(
            model.Workload("n", "a1", {"app": "a"}, "x", ("10.0.0.1",)),
            model.Workload("n", "a2", {"app": "a"}, "x", ("10.0.0.2",)),
            model.Workload("n", "a3", {"app": "a"}, "y", ("10.0.0.3",)),
            model.Workload("m", "a4", {"app": "a"}, "x", ("10.0.0.4",)),
        ),
        namespaces=(model.Namespace("n", {"team": "t"}),),
        policies=(model.Policy("MeshNetworkPolicy", "n", "p", (section,)),),
    )


def cidr(text: str, *excepts: str) -> model.CidrPeer:
    return model.CidrPeer(peers.parse_prefix(text), tuple(map(peers.parse_prefix, excepts)))


def test_one_identity_for_each_label_set() -> None:
    snap = snapshot()
    table = identity.Identities(snap, identity.allocate(identity.Allocation(), snap))
    numbers = [table.of_workload[f"{w.namespace}/{w.name}"] for w in snap.workloads]
    assert numbers[0] == numbers[1]
    assert len(set(numbers)) == 3
    assert min(numbers) == abi.FIRST_POD_IDENTITY
    assert table.labels[numbers[2]] == (
        "k8s:app=a",
        "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=n",
        "k8s:io.cilium.k8s.namespace.labels.team=t",
        "k8s:io.cilium.k8s.policy.cluster=default",
        "k8s:io.cilium.k8s.policy.serviceaccount=y",
        "k8s:io.kubernetes.pod.namespace=n",
    )


def test_a_range_means_every_narrower_range_that_anyone_names() -> None:
    wide, narrow = cidr("10.0.0.0/8", "10.1.0.0/16"), cidr("10.1.2.0/24")
    everything, six = cidr("0.0.0.0/0", "10.1.2.0/24"), cidr("::/0")
    snap = snapshot(wide, narrow, everything, six, cidr("fd00::/8"))
    allocation = identity.allocate(identity.Allocation(), snap)
    table = identity.Identities(snap, allocation)
    number = allocation.cidrs
    assert sorted(number.used) == ["10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "fd00::/8"]
    assert min(number.used.values()) == abi.FIRST_CIDR_IDENTITY
    assert table.select(wide) == frozenset({number["10.0.0.0/8"]})
    assert table.select(narrow) == frozenset({number["10.1.2.0/24"]})
    assert table.select(everything) == frozenset(
        {number["10.0.0.0/8"], number["10.1.0.0/16"], abi.ReservedIdentity.WORLD_IPV4}
    )
    assert table.select(six) == frozenset({number["fd00::/8"], abi.ReservedIdentity.WORLD_IPV6})
    assert table.select(model.Entity.WORLD) == frozenset({2, 9, 10, *number.used.values()})
    assert table.select(model.Entity.ALL) is None
    assert table.labels[number["10.1.2.0/24"]] == (
        "cidr:10.1.2.0/24",
        "reserved:world",
        "reserved:world-ipv4",
    )


def test_what_a_range_means_does_not_hang_on_what_other_rules_name() -> None:
    """Addresses of unmanaged pods: by entity, by a wider range, by their own."""
    cluster = (peers.parse_prefix("10.244.0.0/16"), peers.parse_prefix("10.96.0.0/16"))
    asked = cidr("10.0.0.0/8"), cidr("10.244.0.0/16"), model.Entity.UNMANAGED, model.Entity.CLUSTER, model.Entity.WORLD
    for others in ((), (cidr("10.244.0.99/32"),), (cidr("10.244.0.0/20"), cidr("0.0.0.0/0"))):
        snap = snapshot(*asked, *others)
        allocation = identity.allocate(identity.Allocation(), snap, cluster)
        table = identity.Identities(snap, allocation, cluster)
        found = compiler.compile_state(snap, allocation, {}, compiler.NodeInfo(cidr=("10.244.0.0/16", "10.96.0.0/16")))
        view = evaluate.View(found[0])
        meant = {ip: [_means(table, peer, view.identity(ip)) for peer in asked] for ip in ADDRESSES}
        assert meant == {
            "10.244.0.99": [True, True, True, True, False],
            "10.96.0.1": [True, False, True, True, False],
            "10.1.0.1": [True, False, False, False, True],
            "192.0.2.1": [False, False, False, False, True],
        }, others


ADDRESSES = ("10.244.0.99", "10.96.0.1", "10.1.0.1", "192.0.2.1")


def _means(table: identity.Identities, peer: model.Peer, number: int) -> bool:
    found = table.select(peer)
    return found is None or number in found


def test_a_selector_by_a_reserved_label_means_what_its_entity_means() -> None:
    by_label = model.Selector((model.Requirement("reserved", "world-ipv4", model.Operator.EXISTS),))
    snap = snapshot(cidr("192.0.2.0/24"), by_label)
    table = identity.Identities(snap, identity.allocate(identity.Allocation(), snap))
    assert table.select(by_label) == table.select(model.Entity.WORLD_IPV4)


def test_json_round_trip_and_stability_over_restarts() -> None:
    snap = snapshot(cidr("10.0.0.0/8"))
    allocation = identity.allocate(identity.Allocation(), snap)
    again = identity.Allocation.from_json(allocation.to_json())
    assert again == allocation
    assert identity.allocate(again, snap) == allocation
    other = identity.allocate(again, model.Snapshot(workloads=snap.workloads[2:]))
    assert identity.allocate(other, snap).identities.used == allocation.identities.used


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"identities": 1}', '{"identities": {"first": "x"}}', "[" * 100_000]
)
def test_a_broken_allocation_file_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        identity.Allocation.from_json(text)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"node": "n", "endpoints": []}', "[" * 100_000])
def test_state_that_is_not_whole_is_none(tmp_path: Path, text: str) -> None:
    for name in ("state.json", "names.json", "selftest.json"):
        (tmp_path / name).write_text(text)
    assert state.load_allocation(tmp_path) is None
    assert state.load_names(tmp_path) == Names()
    assert trial.Trial(tmp_path, tmp_path).passed_before() == {}
