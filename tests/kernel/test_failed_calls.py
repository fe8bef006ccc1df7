"""A pod's TCP call that policy lets through and nobody takes is on record, once, with what its program was told."""

from collections.abc import Iterator

import pytest

from loader import abi
from tests.kernel.street import Json, Street, matches, mesh_part, nobody

PORT = 4533
VOID = {4: "198.51.100.7", 6: "2001:db8:f::7"}  # the node swallows what is sent there


@pytest.fixture
def void(street: Street, family: int) -> Iterator[str]:
    route = ["blackhole", VOID[family]]
    street.node.run(["ip", "route", "add", *route])
    yield VOID[family]
    street.node.run(["ip", "route", "del", *route])


def records(street: Street, after: int, source: str, destination: str) -> list[Json]:
    return [flow for flow in street.mesh.flows()[after:] if matches(flow, source, destination, PORT)]


def failures(street: Street) -> int:
    with street.mesh.open_maps() as maps:
        return maps.counter(abi.Metric.FAILED_CALLS)


def failure(street: Street, after: int, source: str, destination: str) -> Json:
    """Return the record of a failed call, and hold that there is no other of this call."""
    flow = street.mesh.wait_flow(
        lambda each: matches(each, source, destination, PORT) and mesh_part(each)["event"] == "failed",
        "the record of the call", 15, since=after,
    )  # fmt: skip
    assert records(street, after, source, destination) == [flow]
    assert (flow["verdict"], flow["Type"], mesh_part(flow)["hook"]) == ("FORWARDED", "SOCK", "sockops")
    assert flow["source"]["pod_name"] == "client" and flow["l4"]["TCP"]["source_port"] > 0
    return flow


def test_a_call_that_its_peer_refuses(street: Street, family: int) -> None:
    client, server = street.ip("client", family), street.ip("server", family)
    before = len(street.mesh.flows())
    counted = failures(street)
    assert street.connect("client", server, PORT) == "ECONNREFUSED"
    flow = failure(street, before, client, server)
    assert mesh_part(flow)["error"] == "ECONNREFUSED"
    assert flow["Summary"] == "TCP; failed (ECONNREFUSED)"
    assert flow["destination"]["pod_name"] == "server"
    assert failures(street) == counted + 1


def test_a_call_that_is_never_answered(street: Street, family: int, void: str) -> None:
    before = len(street.mesh.flows())
    assert street.connect("client", void, PORT, wait=0.3) == "timeout"
    flow = failure(street, before, street.ip("client", family), void)
    assert "error" not in mesh_part(flow)
    assert flow["Summary"] == "TCP; failed (no answer; its program gave up)"


def test_a_call_that_the_kernel_gives_up(street: Street, family: int, void: str) -> None:
    before = len(street.mesh.flows())
    code = "c = socket.socket(family(ip)); c.setsockopt(socket.IPPROTO_TCP, 18, 300); result = c.connect_ex((ip, port))"
    assert street["client"].do(code, ip=void, port=PORT) == 110  # TCP_USER_TIMEOUT: ETIMEDOUT
    assert mesh_part(failure(street, before, street.ip("client", family), void))["error"] == "ETIMEDOUT"
    street["client"].do("c.close()")


def test_a_call_that_policy_refuses_is_a_drop_and_no_failure(street: Street, family: int) -> None:
    client, server = street.ip("client", family), street.ip("server", family)
    street.enforce(nobody("closed", "server", "ingress"))
    before = len(street.mesh.flows())
    try:
        assert street.connect("client", server, PORT) == "EPERM"
        street.mesh.wait_flow(
            lambda flow: matches(flow, client, server, PORT) and flow["verdict"] == "DROPPED", "the drop", since=before
        )
    finally:
        street.relax()
    assert street.connect("client", server, PORT) == "ECONNREFUSED"
    street.mesh.wait_flow(
        lambda flow: matches(flow, client, server, PORT) and mesh_part(flow)["event"] == "failed", "later", since=before
    )
    assert [mesh_part(flow)["event"] for flow in records(street, before, client, server)] == ["drop", "failed"]
