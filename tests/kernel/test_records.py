"""Who is on record: programs that no socket hook of ours knows, beside those that one does."""

import json
import sys
import time
from collections.abc import Callable

import pytest

from control.flow import query
from loader import abi
from tests.hosts import Host
from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.street import WORLD, Json, Street, matches, mesh_part, nobody, policy, to_port

PORT = 4501
_HOUR = 3600 * 1_000_000_000
_TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 5) as s:
    for _ in range(5):
        s.sendall(b"hello")
        assert s.recv(5) == b"hello"
"""
_ECHO = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.create_server((sys.argv[1], int(sys.argv[2])), family=family) as listener:
    print("ready", flush=True)
    peer, _ = listener.accept()
    while data := peer.recv(100):
        peer.sendall(data)
"""


def of(street: Street, flow: Json, source: str, destination: str, event: str) -> bool:
    return matches(flow, source, destination, PORT) and mesh_part(flow)["event"] == event


def stranger_in(street: Street, pod: str) -> Callable[..., list[str]]:
    """Return the words that start a program in a pod's network namespace, but not in its cgroup."""

    def words(code: str, *args: object) -> list[str]:
        netns = street.node.pods[pod].netns
        return ["nsenter", f"--net={netns}", sys.executable, "-c", code, *map(str, args)]

    return words


@pytest.mark.parametrize("end", ["client", "server"])
def test_a_process_outside_its_pods_cgroup_is_on_record(street: Street, family: int, end: str) -> None:
    """The world on the other end, so that no other pod's hook tells of the connection."""
    world, pod = WORLD[family][0], street.ip(end, family)
    server, client = (world, pod) if end == "client" else (pod, world)
    inside = stranger_in(street, end)
    outside = [sys.executable, "-c"]
    serve = [*outside, _ECHO, server, PORT] if end == "client" else inside(_ECHO, server, PORT)
    talk = inside(_TALK, server, PORT) if end == "client" else [*outside, _TALK_FROM, client, server, PORT]
    before = len(street.mesh.flows())
    street.mesh.call("set", tcp_close_timeout_s="1")
    echo = street.node.popen([str(word) for word in serve], stdout=-1)
    try:
        assert echo.stdout is not None and echo.stdout.readline() == b"ready\n"
        street.node.run([str(word) for word in talk])
        echo.wait(10 * PATIENCE)
        close = street.mesh.wait_flow(
            lambda flow: of(street, flow, client, server, "close"), "the record of its end", 30, since=before
        )
    finally:
        echo.kill()
        street.mesh.call("set", tcp_close_timeout_s="10")
    opened = [flow for flow in street.mesh.flows()[before:] if of(street, flow, client, server, "open")]
    assert len(opened) == 1
    assert opened[0]["verdict"] == "FORWARDED"
    assert opened[0]["l4"]["TCP"]["source_port"] == close["l4"]["TCP"]["source_port"]
    assert opened[0]["source" if end == "client" else "destination"]["pod_name"] == end


def test_a_process_inside_it_is_on_record_once(street: Street, family: int) -> None:
    before = len(street.mesh.flows())
    server = street.ip("server", family)
    code = "s = socket.create_server((ip, port), family=socket.AF_INET6 if ':' in ip else socket.AF_INET)"
    street["server"].do(code, ip=server, port=PORT)
    street["client"].do("a = socket.create_connection((ip, port), 5); a.sendall(b'hello')", ip=server, port=PORT)
    street["server"].do("b, _ = s.accept(); b.recv(5); b.sendall(b'there')")
    street["client"].do("a.recv(5); a.close()")
    street["server"].do("b.recv(1); b.close(); s.close()")
    client = street.ip("client", family)
    street.mesh.wait_flow(lambda flow: of(street, flow, client, server, "close"), "the record of its end", since=before)
    assert len([f for f in street.mesh.flows()[before:] if of(street, f, client, server, "open")]) == 1


@pytest.mark.parametrize(("client_in", "server_in"), [(False, True), (True, False), (False, False)])
def test_one_opening_wherever_the_programs_are(street: Street, client_in: bool, server_in: bool) -> None:
    """Both pods' cgroups are ours; either program, or both, may run outside."""
    client, server = street.ip("client"), street.ip("server")

    def program(name: str, inside: bool, *args: object) -> tuple[Host, list[str]]:
        if inside:
            return street.node.pods[name], [sys.executable, "-c", *map(str, args)]
        return street.node, stranger_in(street, name)(*args)

    before = len(street.mesh.flows())
    street.mesh.call("set", tcp_close_timeout_s="1")
    where, words = program("server", server_in, _ECHO, server, PORT)
    echo = where.popen(words, stdout=-1)
    try:
        assert echo.stdout is not None and echo.stdout.readline() == b"ready\n"
        where, words = program("client", client_in, _TALK, server, PORT)
        where.run(words)
        echo.wait(10 * PATIENCE)
        street.mesh.wait_flow(
            lambda flow: street.mesh.flows().index(flow) >= before and of(street, flow, client, server, "close"),
            "the record of its end", 30,
        )  # fmt: skip
    finally:
        echo.kill()
        street.mesh.call("set", tcp_close_timeout_s="10")
    events = [mesh_part(f)["event"] for f in street.mesh.flows()[before:] if matches(f, client, server, PORT)]
    assert sorted(events) == ["close", "open"]


def test_a_connection_without_room_in_the_map_is_on_record_once(street: Street) -> None:
    """The 65,537th."""
    server, client = street.ip("server"), street.ip("client")
    room = abi.MAP_BY_NAME["conns"].max_entries
    with street.mesh.open_maps() as maps:
        ours = next(key.id for key, _ in maps.endpoints.items())
        ends = (abi.End.blank(cookie=1, endpoint=ours), abi.End.blank())
        blank = abi.Conn.blank(opened=time.monotonic_ns() + _HOUR, end=ends)
        fill = {abi.ConnKey(bytes(12) + n.to_bytes(4, "big"), bytes(16), 1, 2): blank for n in range(room)}
        here = {key for key, _ in maps.conns.items()}
        try:
            maps.conns.put_many(dict(list(fill.items())[: room - len(here)]))
            before = len(street.mesh.flows())
            code = "s = socket.create_server((ip, port)); s.settimeout(5)"
            street["server"].do(code, ip=server, port=PORT)
            street["client"].do(
                "a = socket.create_connection((ip, port), 5); a.sendall(b'hello')", ip=server, port=PORT
            )
            street["server"].do("b, _ = s.accept(); b.recv(5); b.close(); s.close()")
            street["client"].do("a.recv(1); a.close()")
            street.mesh.wait_flow(
                lambda flow: of(street, flow, client, server, "open"), "the record of its opening", 60, since=before
            )
        finally:
            maps.conns.delete_many(fill)
    assert len([f for f in street.mesh.flows()[before:] if of(street, f, client, server, "open")]) == 1


def test_a_frame_for_another_pod_is_nobodys_drop(street: Street) -> None:
    """As a bridge floods it: the address is the server's, the link address leads to the third pod's interface."""
    street.enforce(nobody("closed", "third", "ingress"))
    stranger, third = street.node.pods["stranger"], street.node.pods["third"]
    address = json.loads(third.run(["ip", "-json", "link", "show", "eth0"]).stdout)[0]["address"]
    server = street.ip("server")
    stranger.run(["ip", "neigh", "replace", server, "lladdr", address, "dev", "eth0", "nud", "permanent"])
    try:
        assert street.connect("stranger", server, PORT, wait=0.5) == "timeout"
    finally:
        stranger.run(["ip", "neigh", "del", server, "dev", "eth0"])
    assert street.connect("stranger", third.ip, PORT, wait=0.5) == "timeout"
    street.drop(source=stranger.ip, destination=third.ip, port=PORT)
    wrong = [f for f in street.mesh.flows() if matches(f, stranger.ip, server, PORT) and f["verdict"] == "DROPPED"]
    assert wrong == []


def records_of(street: Street, after: int, proto: str, port: int) -> list[Json]:
    return [flow for flow in street.mesh.flows()[after:] if matches(flow, port=port, proto=proto)]


def assert_one_end_each(flows: list[Json]) -> None:
    """By its amounts of time, each close belongs to one open, and lies before the next."""
    opens = [moment(flow) for flow in flows if mesh_part(flow)["event"] == "open"]
    closes = [flow for flow in flows if mesh_part(flow)["event"] == "close"]
    began = [moment(flow) - int(mesh_part(flow)["duration_ns"]) / 1e9 for flow in closes]
    assert began == pytest.approx(opens, abs=0.05, rel=0)  # an emulated machine is slow
    assert all(moment(flow) < after for flow, after in zip(closes, opens[1:], strict=False))


def moment(flow: Json) -> float:
    return query.parse_time(flow["time"]) / 1e9


def test_an_exchange_whose_ports_come_back_has_an_end(street: Street, family: int) -> None:
    """Sooner than the agent looks: the packet hook writes the close, and says what the agent says in the last one."""
    ip, mine = street.ip("server", family), street.ip("client", family)
    ports = to_port(4561, proto="UDP")
    street.enforce(
        policy("out", "client", egress=[{"toPorts": ports}]), policy("in", "server", ingress=[{"toPorts": ports}])
    )
    street["server"].do("u = socket.socket(family(ip), socket.SOCK_DGRAM); u.bind((ip, 4561))", ip=ip)
    street["client"].do("u = socket.socket(family(ip), socket.SOCK_DGRAM); u.bind((ip, 4562))", ip=mine)
    before = len(street.mesh.flows())
    street.mesh.call("set", udp_timeout_s="1")
    try:
        for size in (1, 2, 3):
            street["client"].do("u.sendto(b'x' * size, (ip, 4561))", ip=ip, size=size)
            street["server"].do("data, to = u.recvfrom(9); u.sendto(data + data, to)")
            street["client"].do("u.recv(9)")
            time.sleep(1.2)
        wait_until(lambda: len(records_of(street, before, "UDP", 4561)) == 6, "three opens, three closes", 20)
    finally:
        street.mesh.call("set", udp_timeout_s="60")
        street["server"].do("u.close()")
        street["client"].do("u.close()")
    flows = records_of(street, before, "UDP", 4561)
    assert_one_end_each(flows)
    closes = [flow for flow in flows if mesh_part(flow)["event"] == "close"]
    head = int(mesh_part(closes[0])["bytes_sent"]) - 1
    assert [
        (int(mesh_part(flow)["bytes_sent"]) - head, int(mesh_part(flow)["bytes_received"]) - head) for flow in closes
    ] == [(1, 2), (2, 4), (3, 6)]
    for flow in closes:
        assert [flow[f"{way}_allowed_by"][0]["name"] for way in ("egress", "ingress")] == ["out", "in"]
        assert (flow["traffic_direction"], flow["event_type"]) == ("INGRESS", {"type": 4, "sub_type": 5})
        assert (flow["source"], flow["destination"]) == (flows[0]["source"], flows[0]["destination"])


def test_connections_over_one_port_have_an_end_each(street: Street) -> None:
    """Of a pod whose cgroup is not ours: no socket hook tells of them."""
    ip, world = street.ip("bare"), WORLD[4][0]
    before = len(street.mesh.flows())
    street["street"].do("s = socket.create_server((ip, 4563))", ip=world)
    street.mesh.call("set", tcp_close_timeout_s="1")
    call = """
with socket.socket() as c:
    c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.bind((mine, 4564))
    c.connect((ip, 4563))
"""
    try:
        for _ in range(5):
            street["bare"].do(call, ip=world, mine=ip)
            street["street"].do("s.accept()[0].close()")
        wait_until(lambda: len(records_of(street, before, "TCP", 4563)) == 10, "five opens, five closes", 20)
    finally:
        street.mesh.call("set", tcp_close_timeout_s="10")
        street["street"].do("s.close()")
    assert_one_end_each(records_of(street, before, "TCP", 4563))


def test_what_policy_cuts_has_an_end(street: Street) -> None:
    ip = street.ip("server")
    street["server"].do("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind((ip, 4565))", ip=ip)
    street["bare"].do("u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)")
    before = len(street.mesh.flows())
    street["bare"].do("u.sendto(b'x', (ip, 4565))", ip=ip)
    street["server"].do("u.recv(9); u.close()")
    street.enforce(nobody("closed", "bare", "egress"))
    street["bare"].do("u.sendto(b'x', (ip, 4565)); u.close()", ip=ip)
    wait_until(lambda: len(records_of(street, before, "UDP", 4565)) == 3, "its opening, its end and the drop", 20)
    events = [mesh_part(flow)["event"] for flow in records_of(street, before, "UDP", 4565)]
    assert events == ["open", "close", "drop"]


_TALK_FROM = """
import socket, sys
source, target, port = sys.argv[1:]
family = socket.AF_INET6 if ":" in source else socket.AF_INET
with socket.socket(family) as s:
    s.settimeout(5)
    s.bind((source, 0))
    s.connect((target, int(port)))
    for _ in range(5):
        s.sendall(b"hello")
        assert s.recv(5) == b"hello"
"""
