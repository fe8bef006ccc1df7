"""What a change opens and closes."""

import dataclasses
import ipaddress
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import model
from control.analysis import connectivity, portset, write
from control.analysis.change.diff import Difference, difference
from tests.unit.control import test_analysis_beside as rules
from tests.unit.control import test_compile_random as world
from tests.unit.control.test_analysis_connectivity import EVERYTHING, OUTSIDE, Doc, pair, pod, snapshot, tcp, workload


def as_json(old: model.Snapshot, new: model.Snapshot) -> Doc:
    out: Doc = json.loads("".join(write.difference_json(difference(old, new))))
    assert out.pop("beside") == [] == out.pop("beside_closed")
    return out


def let_in(port: int, **peer: Any) -> Doc:
    peers = [{"ipBlock": peer}] if peer else [{"podSelector": {}}]
    return {"podSelector": {"matchLabels": {"app": "db"}}, "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": peers, "ports": [{"port": port}]}]}  # fmt: skip


def test_another_port_is_opened_and_the_old_one_closed() -> None:
    workloads = [workload("web"), workload("db")]
    old, new = snapshot(workloads, let_in(80)), snapshot(workloads, let_in(81))
    assert as_json(old, new) == {
        "opened": [pair(pod("web"), pod("db"), tcp(81))],
        "closed": [pair(pod("web"), pod("db"), tcp(80))],
    }
    assert difference(old, new).opens
    assert "".join(write.difference_table(difference(old, new), str)).splitlines() == [
        "   FROM         TO           PORTS",
        "-  shop/web     shop/db      TCP 80",
        "+  shop/web     shop/db      TCP 81",
    ]


def test_what_does_not_change_is_no_difference() -> None:
    workloads = [workload("web"), workload("db")]
    old, new = snapshot(workloads, let_in(80), let_in(80, cidr="10.0.0.0/8")), snapshot(
        reversed(workloads), let_in(80, cidr="10.0.0.0/9"), let_in(80), let_in(80, cidr="10.128.0.0/9")
    )  # fmt: skip
    assert as_json(old, new) == {"opened": [], "closed": []}
    assert not difference(old, new).opens
    assert list(write.difference_table(difference(old, new), str)) == []
    assert as_json(model.Snapshot(), model.Snapshot()) == {"opened": [], "closed": []}


def test_addresses_are_told_apart_where_either_side_does() -> None:
    workloads = [workload("db")]
    old, new = snapshot(workloads, let_in(80, cidr="10.0.0.0/8")), snapshot(workloads, let_in(80, cidr="10.0.0.0/9"))
    upper = {"kind": "IPBlock", "cidrs": ["10.128.0.0/9"]}
    assert as_json(old, new) == {"opened": [], "closed": [pair(upper, pod("db"), tcp(80))]}
    assert as_json(new, old) == {"opened": [pair(upper, pod("db"), tcp(80))], "closed": []}
    assert not difference(old, new).opens


def test_a_workload_on_one_side_only_is_marked() -> None:
    old, new = snapshot([workload("db")], let_in(80)), snapshot([workload("db"), workload("web")], let_in(80))
    too = {"without_ports": write.jsonable(portset.PORTLESS)}
    pairs = [
        pair(pod("web"), pod("db"), tcp(80)),
        pair(pod("web"), OUTSIDE, EVERYTHING) | too,
        pair(OUTSIDE, pod("web"), EVERYTHING) | too,
    ]
    assert as_json(old, new) == {"opened": [p | {"note": "new workload"} for p in pairs], "closed": []}
    assert as_json(new, old) == {"opened": [], "closed": [p | {"note": "gone"} for p in pairs]}
    assert "-  shop/web     the outside  all  (gone)\n" in write.difference_table(difference(new, old), str)
    # One that is gone and one that is new never met.
    swapped = as_json(snapshot([workload("api")]), snapshot([workload("web")]))
    assert {(p["to"].get("name"), p["note"]) for p in swapped["opened"]} == {
        ("web", "new workload"),
        (None, "new workload"),
    }
    assert {(p["to"].get("name"), p["note"]) for p in swapped["closed"]} == {("api", "gone"), (None, "gone")}


PING: Doc = {"icmps": [{"fields": [{"type": 8}]}]}
GRE: Doc = {"toPorts": [{"ports": [{"port": "0", "protocol": "GRE"}]}]}
WEB: Doc = {"fromEndpoints": [{"matchLabels": {"app": "web"}}]}
PORT_80: Doc = {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}


def cilium(workloads: list[model.Workload], *ingress: Doc, **more: Any) -> model.Snapshot:
    db = {"matchLabels": {"app": "db"}}
    policies = rules.snapshot({"ingress": list(ingress), **more}, endpointSelector=db).policies
    return model.Snapshot(tuple(workloads), policies=policies)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (WEB | PORT_80, WEB | PING, "ICMP type 8"),
        (WEB | PORT_80, WEB | GRE, "GRE"),
        (WEB | PING, {**WEB, "icmps": [{"fields": [{"type": 13}, {"type": 8}]}]}, "ICMP type 13"),
        (WEB | {"toPorts": [{"ports": [{"port": "0", "protocol": "ANY"}]}]}, WEB, "all without ports"),
    ],
)
def test_protocols_without_ports_are_in_the_pairs(old: Doc, new: Doc, words: str) -> None:
    workloads = [workload("web"), workload("db")]
    found = list(difference(cilium(workloads, old), cilium(workloads, new)).changes())
    assert [(str(c.source), str(c.destination), str(c.opened)) for c in found if c.opened] == [
        ("shop/web", "shop/db", words)
    ]
    back = difference(cilium(workloads, new), cilium(workloads, old))
    assert [str(change.closed) for change in back.changes() if change.closed] == [words]


def test_a_label_opens_ping() -> None:
    """No rule has changed, so only the pairs can tell."""
    old, new = (
        cilium([workload("db"), dataclasses.replace(workload("x"), labels={"app": app})], WEB | PING)
        for app in ("job", "web")
    )
    assert as_json(old, new)["opened"] == [
        pair(pod("x"), pod("db"), []) | {"without_ports": [{"protocol": "ICMP", "types": [[8, 8]]}]}
    ]


def test_a_default_deny_that_goes_opens_what_has_no_ports() -> None:
    workloads = [workload("web"), workload("db")]
    all_ports = {"fromEntities": ["all"], "toPorts": [{"ports": [{"port": "0", "protocol": "ANY"}]}]}
    old, new = cilium(workloads, all_ports), cilium(workloads, all_ports, enableDefaultDeny={"ingress": False})
    assert {str(change.opened) for change in difference(old, new).changes()} == {"all without ports"}


def first_address(end: connectivity.End) -> str:
    return end.cidrs[0].partition("/")[0]


def allowed(
    found: connectivity.Connectivity, source: connectivity.End, destination: connectivity.End
) -> portset.PortSet:
    """Return what one snapshot allows a pair of the difference's ends, by looking for the block that has an address."""

    def same(end: connectivity.End, other: connectivity.End) -> bool:
        if not end.is_outside or not other.is_outside:
            return end == other
        address = ipaddress.ip_address(first_address(other))
        return any(address in ipaddress.ip_network(cidr) for cidr in end.cidrs)

    for connection in found.connections():
        if same(connection.source, source) and same(connection.destination, destination):
            return connection.allowed
    return portset.NONE


@settings(max_examples=60, deadline=None)
@given(st.lists(world.policies(), max_size=3), st.lists(world.policies(), max_size=2), st.integers(0, 2))
def test_differences_agree_with_both_sides(before: list[Doc], more: list[Doc], kept: int) -> None:
    both = [
        [{**doc, "metadata": {**doc["metadata"], "name": f"p{i}"}} for i, doc in enumerate(docs)]
        for docs in (before, [*before[:kept], *more])
    ]
    old, new = (connectivity.analyse(world.read(docs), portset.ALL_PROTOCOLS) for docs in both)
    found = Difference(old, new)
    changes = {(change.source, change.destination): change for change in found.changes()}
    assert found.opens == any(change.opened for change in changes.values())
    networks = [ipaddress.ip_network(cidr) for end in found.ends for cidr in end.cidrs]
    for version, bits in ((4, 32), (6, 128)):
        assert sum(n.num_addresses for n in networks if n.version == version) == 1 << bits
    for source in found.ends:
        for destination in found.ends:
            if source == destination or (source.is_outside and destination.is_outside):
                assert (source, destination) not in changes
                continue
            was, now = allowed(old, source, destination), allowed(new, source, destination)
            change = changes.get((source, destination))
            assert (now - was, was - now) == (
                (change.opened, change.closed) if change else (portset.NONE, portset.NONE)
            )
