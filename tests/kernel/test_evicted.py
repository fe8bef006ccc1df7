"""An open connection whose conntrack entries were evicted: its policy is asked again, as for the connection it is."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from control.agent import apply
from loader import abi
from loader.maps import Maps
from loader.record import pack_addr
from tests.hosts.wait import wait_until
from tests.kernel.street import Json, Street, app, matches, policy

PORT = 4711


def endpoint_of(maps: Maps, ip: str) -> tuple[abi.EndpointKey, abi.Endpoint]:
    ref = maps.endpoint_ips.get(abi.AddrKey(pack_addr(ip)))
    assert ref
    key = abi.EndpointKey(ref.id)
    value = maps.endpoints.get(key)
    assert value
    return key, value


def evict(maps: Maps) -> None:
    """Forget the connection at both its ends, and have policy asked again: else no packet would miss the entries."""
    ours = [key for key, _ in maps.ct.items() if PORT in (key.sport, key.dport)]
    assert ours
    maps.ct.delete_many(ours)
    apply.bump(maps)


def is_drop(flow: Json, source: str, destination: str) -> bool:
    from_port = flow["verdict"] == "DROPPED" and flow["l4"].get("TCP", {}).get("source_port")
    return from_port == PORT and matches(flow, source, destination)


@pytest.fixture
def open_connection(street: Street, family: int) -> Iterator[Callable[[float], str]]:
    """From client to server, over TCP. Returns what tells how much of what the server says next the client gets.

    Policy lets client call and server be called, and nothing else: an answer must be taken for one.
    """
    street.mesh.call("set", acceleration="off")
    street.enforce(
        policy("in", "server", ingress=[{"fromEndpoints": [app("client")]}], egress=[{}]),
        policy("out", "client", egress=[{"toEndpoints": [app("server")]}], ingress=[{}]),
        policy("turned", "third", ingressDeny=[{"fromEndpoints": [app("client")]}]),
    )
    ip = street.ip("server", family)
    street["server"].do("l = socket.create_server((ip, port), family=family(ip))", ip=ip, port=PORT)
    street["client"].do("c = socket.create_connection((ip, port), 5); c.sendall(b'question')", ip=ip, port=PORT)
    street["server"].do("x, _ = l.accept(); x.recv(100); x.sendall(b'answer')")
    street["client"].do("c.recv(100)")

    def answers(wait: float) -> str:
        street["server"].do("x.sendall(b'more')")
        order = """
c.settimeout(wait)
try:
    result = c.recv(4).decode()
except TimeoutError:
    result = 'nothing'
"""
        return str(street["client"].do(order, wait=wait))

    yield answers
    street["client"].do("c.close()")
    street["server"].do("x.close(); l.close()")
    street.mesh.call("set", acceleration="on")


def test_its_other_end_may_speak(street: Street, open_connection: Callable[[float], str]) -> None:
    with street.mesh.open_maps() as maps:
        evict(maps)
        assert open_connection(5.0) == "more"
    # The entry that is made anew is the caller's, as before: the direction is in no doubt.
    with street.mesh.open_maps() as maps:
        made = [key for key, _ in maps.ct.items() if PORT in (key.sport, key.dport)]
        assert made and all(key.dport == PORT for key in made)
    street["client"].do("c.sendall(b'again')")
    assert street["server"].do("x.settimeout(5); result = x.recv(100).decode()") == "again"


def test_not_where_policy_has_turned(street: Street, family: int, open_connection: Callable[[float], str]) -> None:
    """The server under the policy of third, which refuses client's calls and lets out whatever is no answer to one.

    By hand: the agent would reset the connection, and nobody would see what the packet hook says of it.
    """
    server, client = street.ip("server", family), street.ip("client", family)
    with street.mesh.open_maps() as maps:
        key, value = endpoint_of(maps, server)
        _, turned = endpoint_of(maps, street.ip("third", family))
        maps.endpoints.put(key, dataclasses.replace(value, set_id=turned.set_id))
        try:
            evict(maps)
            assert open_connection(0.7) == "nothing"
            drop = street.mesh.wait_flow(lambda f: is_drop(f, server, client), "the record of the drop")
            assert drop["drop_reason_desc"] == "POLICY_DENY"
        finally:
            maps.endpoints.put(key, value)
            apply.bump(maps)
    # It comes again, and the connection is whole.
    wait_until(lambda: street["client"].do("c.settimeout(5); result = c.recv(4).decode()") == "more", "it comes again")
