"""What a record says of policy: the direction that decided and the rules of both ends, whatever the protocol."""

import pytest

from tests.kernel.street import WORLD, Json, Street, matches, mesh_part, policy, to_port

PORT = 4521


def record_of(street: Street, after: int, source: str, destination: str, event: str, proto: str = "TCP") -> Json:
    """Return the record of an event between two addresses that came after so many others, waiting for it."""

    def is_wanted(flow: Json) -> bool:
        fits = matches(flow, source, destination, PORT, proto) and mesh_part(flow)["event"] == event
        return fits and street.mesh.flows().index(flow) >= after

    return street.mesh.wait_flow(is_wanted, f"the {event} of {proto}", 15)


@pytest.mark.parametrize("proto", ["TCP", "UDP"])
def test_of_two_pods_the_callee_is_asked_last(street: Street, family: int, proto: str) -> None:
    before = len(street.mesh.flows())
    client, server = street.ip("client", family), street.ip("server", family)
    ports = to_port(PORT, proto=proto)
    street.enforce(
        policy("out", "client", egress=[{"toPorts": ports}]), policy("in", "server", ingress=[{"toPorts": ports}])
    )
    kind = "socket.SOCK_STREAM" if proto == "TCP" else "socket.SOCK_DGRAM"
    end: Json = {"ip": server, "port": PORT}
    street["server"].do(f"s = socket.socket(family(ip), {kind}); s.bind((ip, port))", **end)
    street.mesh.call("set", udp_timeout_s="1")
    try:
        if proto == "TCP":
            street["server"].do("s.listen()")
        street["client"].do(f"c = socket.socket(family(ip), {kind}); c.connect((ip, port)); c.send(b'hello')", **end)
        street["server"].do("a = s.accept()[0]; a.recv(5); a.close()" if proto == "TCP" else "s.recv(5)")
        street["client"].do("c.close()")
        for event in ("open", "close"):
            flow = record_of(street, before, client, server, event, proto)
            assert flow["traffic_direction"] == "INGRESS"
            assert [flow[f"{way}_allowed_by"][0]["name"] for way in ("egress", "ingress")] == ["out", "in"]
            assert set(mesh_part(flow)["rule"]["source"]) == {"egress", "ingress"}
    finally:
        street["server"].do("s.close()")
        street.mesh.call("set", udp_timeout_s="60")
        street.relax()


def test_a_call_out_of_the_mesh_is_decided_by_its_own_end(street: Street, family: int) -> None:
    """Noted by sock_ops, which knows no direction."""
    before = len(street.mesh.flows())
    outside, client = WORLD[family][0], street.ip("client", family)
    end: Json = {"ip": outside, "port": PORT}
    street["street"].do("s = socket.create_server((ip, port), family=family(ip))", **end)
    street["client"].do("socket.create_connection((ip, port), 5).close()", **end)
    street["street"].do("s.accept()[0].close(); s.close()")
    for event in ("open", "close"):
        flow = record_of(street, before, client, outside, event)
        assert (flow["traffic_direction"], mesh_part(flow)["hook"]) == ("EGRESS", "sockops")


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reply_that_is_dropped_names_the_rule_that_is_against_its_connection(
    street: Street, family: int, who: str
) -> None:
    before = len(street.mesh.flows())
    client, server = street.ip("client", family), street.ip("server", family)
    way, direction = ("egress", "EGRESS") if who == "client" else ("ingress", "INGRESS")
    end: Json = {"ip": server, "port": PORT}
    street["server"].do("s = socket.socket(family(ip), socket.SOCK_DGRAM); s.bind((ip, port))", **end)
    try:
        street["client"].do(
            "c = socket.socket(family(ip), socket.SOCK_DGRAM); c.connect((ip, port)); c.send(b'?')", **end
        )
        street["server"].do("_, whence = s.recvfrom(1)")
        street.enforce(
            policy("open", who, **{way: [{"toPorts": to_port(1)}]}),
            policy("shut", who, **{f"{way}Deny": [{"toPorts": to_port(PORT, proto="UDP")}]}),
        )
        street["server"].do("s.sendto(b'!', whence)")

        def is_wanted(flow: Json) -> bool:
            return flow["is_reply"] and mesh_part(flow)["event"] == "drop" and street.mesh.flows().index(flow) >= before

        flow = street.mesh.wait_flow(is_wanted, "the drop of a reply", 15)
        assert (flow["IP"]["source"], flow["IP"]["destination"]) == (server, client)
        assert flow["traffic_direction"] == direction
        assert [policy["name"] for policy in flow[f"{way}_denied_by"]] == ["shut"]
        assert ("egress_denied_by" in flow, "ingress_denied_by" in flow) == (who == "client", who == "server")
    finally:
        street["client"].do("c.close()")
        street["server"].do("s.close()")
        street.relax()
