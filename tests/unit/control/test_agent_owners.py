"""Who owns which address, seen from one node."""

import pickle

import pytest

from control import model, proxy_feed
from control.agent import owners
from control.certificates.spiffe import SpiffeId

DOMAIN = "cluster.local"


def pod(name: str, ip: str, node: str = "", account: str = "", **given: object) -> model.Workload:
    local = {"netns": "/n", "interface": "veth"} if not node else {}
    return model.Workload(
        "shop",
        name,
        service_account=account or name,
        ips=(ip, f"fd00::{name}"),
        node=node,
        **{**local, **given},  # type: ignore[arg-type]
    )


def node(name: str, *ips: str) -> model.Node:
    return model.Node(name, ips=ips)


def id(name: str) -> str:
    return f"spiffe://{DOMAIN}/ns/shop/sa/{name}"


SNAPSHOT = model.Snapshot(
    workloads=(
        pod("a", "10.0.0.1"),
        pod("b", "10.0.0.2", node="here", netns="/n", interface="veth"),
        pod("c", "10.0.1.1", node="there"),
        pod("d", "10.0.2.1", node="nowhere"),
        pod("e", "10.0.2.2", node="nowhere"),
        pod("f", "192.0.2.2", node="there", host_network=True),
        pod("0", "10.0.0.9", node="here"),
    ),
    nodes=(node("here", "192.0.2.1"), node("there", "fd00::2", "192.0.2.2"), node("empty")),
)


def test_who_owns_what() -> None:
    found = owners.read(SNAPSHOT, "here", (), DOMAIN)
    assert found.here == {SpiffeId(DOMAIN, "shop", name) for name in "ab"}
    assert found.address == "192.0.2.1"
    assert {ip: owner for ip, owner in found.of.items() if "." in ip} == {
        "10.0.0.1": (id("a"), ""),
        "10.0.0.2": (id("b"), ""),
        "10.0.1.1": (id("c"), "192.0.2.2"),  # of the same family as our own
        "10.0.2.1": (id("d"), proxy_feed.UNKNOWN_NODE),
        "10.0.2.2": (id("e"), proxy_feed.UNKNOWN_NODE),
    }
    assert all(found.of[f"fd00::{name}"] == found.of[ip] for name, ip in (("a", "10.0.0.1"), ("c", "10.0.1.1")))
    (problem,) = found.problems
    assert problem.startswith("Node nowhere: its address is not known") and "2 pods" in problem


def test_this_nodes_address() -> None:
    assert owners.read(SNAPSHOT, "here", ("198.51.100.1", "fd00::1"), DOMAIN).address == "198.51.100.1"
    found = owners.read(SNAPSHOT, "other", (), DOMAIN)
    assert found.address == "" and found.problems[0].startswith("Node other: its own address is not known")
    seen = owners.read(SNAPSHOT, "here", ("fd00::1",), DOMAIN)
    assert seen.of["10.0.1.1"] == (id("c"), "fd00::2")


@pytest.mark.parametrize("account", ["Upper", "a_b"])
def test_what_no_certificate_can_name_owns_nothing(account: str) -> None:
    found = owners.read(
        model.Snapshot(workloads=(pod("a", "10.0.0.1", account=account),)), "here", ("192.0.2.1",), DOMAIN
    )
    assert found.here == set() and found.of == {} and account in found.problems[0]


def test_ten_thousand_pods_are_a_message_of_about_a_megabyte() -> None:
    pods = [
        pod(f"{n:x}", f"10.{n >> 8}.{n & 255}.1", node=f"node-{n % 200}", account=f"account-{n % 500}")
        for n in range(10_000)
    ]
    nodes = [node(f"node-{n}", f"192.0.2.{n}") for n in range(200)]
    found = owners.read(model.Snapshot(workloads=tuple(pods), nodes=tuple(nodes)), "here", ("192.0.2.250",), DOMAIN)
    frame = proxy_feed.down(proxy_feed.Mesh("strict", DOMAIN, 4743, found.address, b"", {}, found.of))
    assert len(found.of) == 20_000 and len(frame) < 1_500_000
    assert proxy_feed.read_down(frame[proxy_feed.LENGTH.size :]).owners == found.of  # type: ignore[union-attr]


def test_no_key_is_in_what_is_logged() -> None:
    mesh = proxy_feed.Mesh("strict", leaves={id("a"): b"-----BEGIN PRIVATE KEY-----"})
    assert "KEY" not in repr(mesh) and pickle.loads(pickle.dumps(mesh)) == mesh
