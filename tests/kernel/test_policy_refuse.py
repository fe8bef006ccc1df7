"""Denied is denied: at once where this node can know, by the packet where it cannot, and always on record."""

import itertools

import pytest

from loader import abi
from tests.hosts.wait import wait_until
from tests.kernel.street import Street, app, mesh_part, nobody, policy, to_port

AT_ONCE_S = 0.1
ANYBODY = {"fromEntities": ["all"]}
TOKENS = itertools.count(1)


def token() -> str:
    return f"refuse{next(TOKENS)}"


def heard(street: Street, name: str, what: str) -> bool:
    return what in street[name].do("result = heard()")


def wait_heard(street: Street, name: str, what: str) -> None:
    wait_until(lambda: heard(street, name, what), f"{name} hears {what}")


def test_a_denied_connect_fails_at_once(street: Street, family: int) -> None:
    street.enforce(nobody("closed", "server", "ingress"))
    ip = street.ip("server", family)
    how, took = street["client"].do("result = connect(ip, 4001)", ip=ip)
    assert how == "EPERM"
    assert took < AT_ONCE_S
    flow = street.drop(destination=ip, port=4001, hook="connect")
    assert flow["drop_reason_desc"] == "POLICY_DENIED"
    assert flow["traffic_direction"] == "INGRESS"
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["closed"]
    assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("client", "server")
    assert flow["IP"]["source"] == street.ip("client", family)


def test_a_denied_datagram_fails_at_once(street: Street, family: int) -> None:
    street.enforce(nobody("closed", "server", "ingress"))
    ip, what = street.ip("server", family), token()
    how, took = street["client"].do("result = say(ip, 4002, token)", ip=ip, token=what)
    assert how == "EPERM"
    assert took < AT_ONCE_S
    flow = street.drop(destination=ip, port=4002, proto="UDP", hook="sendmsg")
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["closed"]
    assert not heard(street, "server", what)
    how, took = street["client"].do("result = connect(ip, 4003, kind=socket.SOCK_DGRAM)", ip=ip)
    assert how == "EPERM"
    assert took < AT_ONCE_S


def test_a_datagram_over_a_socket_that_was_connected_before_is_dropped(street: Street, family: int) -> None:
    ip, what = street.ip("server", family), token()
    street["server"].do("bound = socket.socket(family(ip), socket.SOCK_DGRAM); bound.bind((ip, 4004))", ip=ip)
    order = (
        "u = socket.socket(family(ip), socket.SOCK_DGRAM); u.connect((ip, 4004)); u.send(f'token:{token}1;'.encode())"
    )
    street["client"].do(order, ip=ip, token=what)
    wait_heard(street, "server", what + "1")
    street.enforce(nobody("closed", "server", "ingress"))
    street["client"].do("u.send(f'token:{token}2;'.encode()); u.close()", token=what)
    flow = street.drop(destination=ip, port=4004, proto="UDP", hook="tc_from_pod")
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["closed"]
    assert not heard(street, "server", what + "2")
    street["server"].do("bound.close()")


def test_the_sending_end_denies(street: Street, family: int) -> None:
    street.enforce(nobody("kept-in", "client", "egress"))
    ip = street.ip("server", family)
    assert street.connect("client", ip, 4010) == "EPERM"
    flow = street.drop(destination=ip, port=4010)
    assert flow["traffic_direction"] == "EGRESS"
    assert [by["name"] for by in flow["egress_denied_by"]] == ["kept-in"]
    assert "ingress_denied_by" not in flow
    assert street.connect("third", ip, 4010) == "ECONNREFUSED"


def test_both_ends_are_asked_and_the_sending_one_is_named_first(street: Street) -> None:
    ip = street.ip("server")
    client_allows = policy("c", "client", egress=[{"toEndpoints": [app("server")]}])
    server_allows = policy("s", "server", ingress=[{"fromEndpoints": [app("client")]}])
    street.enforce(client_allows, server_allows)
    assert street.connect("client", ip, 4011) == "ECONNREFUSED"
    street.enforce(client_allows, nobody("s", "server", "ingress"))
    assert street.connect("client", ip, 4012) == "EPERM"
    assert [by["name"] for by in street.drop(destination=ip, port=4012)["ingress_denied_by"]] == ["s"]
    street.enforce(nobody("c", "client", "egress"), nobody("s", "server", "ingress"))
    assert street.connect("client", ip, 4013) == "EPERM"
    flow = street.drop(destination=ip, port=4013)
    assert [by["name"] for by in flow["egress_denied_by"]] == ["c"]
    assert "ingress_denied_by" not in flow


def test_a_pod_without_a_cgroup_is_refused_by_the_packet(street: Street, family: int) -> None:
    ip = street.ip("server", family)
    assert street.connect("bare", ip, 4020) == "ECONNREFUSED"
    street.enforce(policy("no-bare", "server", ingressDeny=[{"fromEndpoints": [app("bare")]}], ingress=[ANYBODY]))
    assert street.connect("bare", ip, 4021, wait=0.3) == "timeout"
    flow = street.drop(source=street.ip("bare", family), destination=ip, port=4021)
    assert mesh_part(flow)["hook"] == "tc_to_pod"
    assert flow["drop_reason_desc"] == "POLICY_DENY"
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["no-bare"]
    # The caller's own hook sees the packet first: had it recorded an opening, that would be there by now.
    refused = [f for f in street.mesh.flows() if f.get("l4", {}).get("TCP", {}).get("destination_port") == 4021]
    assert {mesh_part(f)["event"] for f in refused} == {"drop"}
    street.enforce(nobody("kept-in", "bare", "egress"))
    assert street.connect("bare", ip, 4022, wait=0.3) == "timeout"
    flow = street.drop(source=street.ip("bare", family), destination=ip, port=4022)
    assert (mesh_part(flow)["hook"], flow["traffic_direction"]) == ("tc_from_pod", "EGRESS")
    assert [by["name"] for by in flow["egress_denied_by"]] == ["kept-in"]


def test_a_pod_outside_the_mesh_is_refused_by_the_packet(street: Street, family: int) -> None:
    ip = street.ip("server", family)
    assert street.connect("stranger", ip, 4023) == "ECONNREFUSED"
    street.enforce(policy("closed", "server", ingress=[{"fromEndpoints": [app("client")]}]))
    assert street.connect("stranger", ip, 4024, wait=0.3) == "timeout"
    flow = street.drop(source=street.ip("stranger", family), destination=ip, port=4024, hook="tc_to_pod")
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["closed"]


def test_a_raw_socket_does_not_get_past(street: Street, family: int) -> None:
    mine, ip, what = street.ip("client", family), street.ip("server", family), token()
    order = "send_packet(udp_packet(source, target, 999, 4030, token), target)"
    street["client"].do(order, source=mine, target=ip, token=what + "a")
    wait_heard(street, "server", what + "a")
    street.enforce(nobody("closed", "server", "ingress"))
    street["client"].do(order, source=mine, target=ip, token=what + "b")
    flow = street.drop(source=mine, destination=ip, port=4030, proto="UDP")
    assert mesh_part(flow)["hook"] == "tc_from_pod"  # which knows the conversation, and asks its other end
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["closed"]
    assert not heard(street, "server", what + "b")


@pytest.mark.parametrize("who", ["third", "world", "gateway"])
def test_a_foreign_source_address_is_dropped(street: Street, family: int, who: str) -> None:
    foreign = {
        "third": street.ip("third", family),
        "world": "198.51.100.7" if family == 4 else "2001:db8:5::7",
        "gateway": street.gateway(family),
    }[who]
    ip, what = street.ip("server", family), token()
    street["client"].do(
        "send_packet(udp_packet(source, target, 998, 4040, token), target)", source=foreign, target=ip, token=what
    )
    flow = street.drop(source=foreign, destination=ip, port=4040, proto="UDP")
    assert flow["drop_reason_desc"] == "INVALID_SOURCE_IP"
    assert flow["drop_reason"] == abi.DropReason.INVALID_SOURCE_IP
    assert not heard(street, "server", what)


@pytest.mark.parametrize("kind", [130, 132, 143, 135, 136, 137])
def test_messages_of_the_link_carry_nothing_from_pod_to_pod(street: Street, kind: int) -> None:
    """Multicast listener and neighbour messages that no kernel sends: to a pod's own address, from afar."""
    street.enforce(nobody("closed", "server", "ingress"))
    what = token()
    attempt = {"proto": "ICMPV6", "port": kind, "token": what}
    ends = {"source": street.ip("client", 6), "target": street.ip("server", 6)}
    assert street["client"].do("result = call([attempt], 1)", attempt=attempt | ends) == ["ok"]
    flow = street.mesh.wait_flow(
        lambda flow: flow["verdict"] == "DROPPED" and flow["l4"].get("ICMPv6", {}).get("type") == kind
    )
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["closed"]
    assert not heard(street, "server", what)


def test_selecting_a_pod_closes_that_direction_only(street: Street, family: int) -> None:
    street.enforce(policy("server", "server", ingress=[{"fromEndpoints": [app("client")]}]))
    ip = street.ip("server", family)
    assert street.connect("client", ip, 4050) == "ECONNREFUSED"
    assert street.connect("third", ip, 4050) == "EPERM"
    assert street.connect("server", street.ip("third", family), 4050) == "ECONNREFUSED"
    street.enforce(policy("server", "server", egress=[{"toEndpoints": [app("client")]}]))
    assert street.connect("third", ip, 4051) == "ECONNREFUSED"
    assert street.connect("server", street.ip("client", family), 4051) == "ECONNREFUSED"
    assert street.connect("server", street.ip("third", family), 4051) == "EPERM"


def test_deny_beats_allow(street: Street, family: int) -> None:
    allow = policy("allow", "server", ingress=[{"fromEndpoints": [app("client")], "toPorts": to_port(4060)}])
    deny = policy("deny", "server", ingressDeny=[{"fromEndpoints": [app("client")]}], ingress=[ANYBODY])
    ip = street.ip("server", family)
    street.enforce(allow, deny)
    assert street.connect("client", ip, 4060) == "EPERM"
    flow = street.drop(destination=ip, port=4060)
    assert flow["drop_reason_desc"] == "POLICY_DENY"
    assert [by["name"] for by in flow["ingress_denied_by"]] == ["deny"]
    assert street.connect("third", ip, 4060) == "ECONNREFUSED"


def test_ports_and_ranges_at_their_edges(street: Street, family: int) -> None:
    street.enforce(
        policy("ports", "server", ingress=[{"toPorts": to_port(4070) + to_port(5000, 5999) + to_port(7, 7, "UDP")}])
    )
    ip = street.ip("server", family)
    said = {port: street.connect("client", ip, port) for port in (4069, 4070, 4071, 4999, 5000, 5511, 5999, 6000, 7)}
    assert {port for port, how in said.items() if how == "ECONNREFUSED"} == {4070, 5000, 5511, 5999}
    assert {how for how in said.values()} == {"ECONNREFUSED", "EPERM"}
    assert street["client"].do("result = say(ip, 7, 'x')[0]", ip=ip) == "ok"
    assert street["client"].do("result = say(ip, 4070, 'x')[0]", ip=ip) == "EPERM"


def test_a_pod_reaches_itself_whatever_policy_says(street: Street, family: int) -> None:
    street.enforce(nobody("in", "server", "ingress"), nobody("out", "server", "egress"))
    assert street.connect("server", street.ip("server", family), 4080) == "ECONNREFUSED"
    assert street.connect("server", "127.0.0.1" if family == 4 else "::1", 4080) == "ECONNREFUSED"
