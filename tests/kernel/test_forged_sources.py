"""In whose name a packet is: what has come in elsewhere than a pod's packets do is not that pod's."""

import contextlib
import dataclasses
import os
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from pyroute2 import IPRoute

from control.agent import host
from loader import abi, bpf, netns, programs
from tests.hosts import Mesh, Node
from tests.hosts.node import BRIDGE
from tests.hosts.wait import wait_until
from tests.kernel.puppet import Puppet
from tests.kernel.street import Json, mesh_part

PORT = 7000
PROTOS = {"UDP": 17, "TCP": 6, "ICMP": 1}
_LAYOUTS = {"bridge": (), "routes": ("client", "server", "stranger"), "both": ("server", "stranger")}

_WORDS = """
import struct

def packet(proto, src, dst, sport, token, flags=2):
    v6, body = ":" in src, f"token:{token};".encode()
    a, b = (socket.inet_pton(family(ip), ip) for ip in (src, dst))
    if proto == 17:
        head = struct.pack("!HHHH", sport, 7000, 8 + len(body), 0)
    elif proto == 6:
        head = struct.pack("!HHIIBBHHH", sport, 7000, 1, 1, 0x50, flags, 1000, 0, 0)
    else:
        head, proto = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, sport, 1), 58 if v6 else 1
    if v6:
        return struct.pack("!IHBB", 0x60000000, len(head) + len(body), proto, 64) + a + b + head + body
    length = 20 + len(head) + len(body)
    return struct.pack("!BBHHHBBH", 0x45, 0, length, 1, 0, 64, proto, 0) + a + b + head + body

def open_ears():
    global ears
    ears = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    ears.setblocking(False)

def arrived():
    with contextlib.suppress(BlockingIOError):
        while True:
            data = ears.recv(65535)
            if b"token:" in data:
                _heard.add(data.split(b"token:")[1].split(b";")[0].decode())
    return sorted(_heard)
"""


@dataclasses.dataclass
class Place:
    """client and server are under policy, stranger is not; whatever arrives in server is heard."""

    node: Node
    mesh: Mesh
    puppets: dict[str, Puppet]

    def ip(self, name: str, family: int) -> str:
        pod = self.node.pods[name]
        return pod.ip if family == 4 else pod.ip6

    def send(self, who: str, proto: str, family: int, token: str, **more: Any) -> None:
        """Have a host send a packet from client to server, whoever that host is."""
        src, dst = self.ip("client", family), self.ip("server", family)
        given: Json = {"sport": 5555, "flags": 2, **more}
        order = "send_packet(packet(proto, src, dst, sport, token, flags), dst)"
        self.puppets[who].do(order, proto=PROTOS[proto], src=src, dst=dst, token=token, **given)

    def wait_dropped(self, proto: str, family: int, since: int) -> Json:
        """Return the record of a packet from client to server that was dropped for its source."""
        name = f"{proto}v{family}" if proto == "ICMP" else proto
        ends = self.ip("client", family), self.ip("server", family)
        return self.mesh.wait_flow(
            lambda f: (
                f.get("drop_reason_desc") == "INVALID_SOURCE_IP"
                and mesh_part(f)["hook"] == "tc_to_pod"
                and (f["IP"]["source"], f["IP"]["destination"]) == ends
                and name in f["l4"]
            ),
            f"the drop of a forged packet of {name}",
            since=since,
        )

    def heard(self, among: set[str]) -> set[str]:
        return among & set(self.puppets["server"].do("result = arrived()"))

    def wait_heard(self, token: str) -> None:
        wait_until(lambda: self.heard({token}), f"{token} is there", 5)


@contextlib.contextmanager
def place_of(layout: str) -> Iterator[Place]:
    with Node("forged") as node:
        hosts = [node.pod(name) for name in ("client", "server", "stranger")]
        for name in _LAYOUTS[layout]:
            node.route(node.pods[name])
        with Mesh(node, pods=hosts[:2], args=["--no-self-test"]) as mesh:
            puppets = {host.name: Puppet(host) for host in (*hosts, node)}
            for puppet in puppets.values():
                puppet.do(_WORDS)
            puppets["server"].do("open_ears()")
            mesh.settle()
            yield Place(node, mesh, puppets)


@pytest.fixture(scope="module", params=_LAYOUTS)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with place_of(request.param) as made:
        yield made


@pytest.fixture(scope="module")
def bridged(root: None) -> Iterator[Place]:
    with place_of("bridge") as made:
        yield made


def test_nobody_sends_in_the_name_of_another_pod(place: Place, family: int) -> None:
    since = len(place.mesh.flows())
    by = netns.inside(place.node.netns, lambda: host.index(place.node.pods["stranger"].interface))
    forged = {f"forged-{family}-{proto}" for proto in PROTOS}
    for proto in PROTOS:
        place.send("stranger", proto, family, f"forged-{family}-{proto}")
        flow = place.wait_dropped(proto, family, since)
        assert (flow["verdict"], flow["interface"]) == ("DROPPED", {"index": by})
    for proto in PROTOS:
        place.send("client", proto, family, f"own-{family}-{proto}")
        place.wait_heard(f"own-{family}-{proto}")
    assert place.heard(forged) == set()


def test_nobody_speaks_into_an_open_connection(place: Place, family: int) -> None:
    """Nor where a packet of it would pass without being asked for its source."""
    server = place.ip("server", family)
    place.puppets["server"].do("l = socket.create_server((ip, 7000), family=family(ip))", ip=server)
    port = place.puppets["client"].do(
        "c = socket.create_connection((ip, 7000), 5); result = c.getsockname()[1]", ip=server
    )
    try:
        place.puppets["server"].do("s = l.accept()[0]; s.settimeout(5)")
        for _ in range(3):
            place.puppets["client"].do("c.send(b'ask')")
            assert place.puppets["server"].do("result = s.recv(9).decode(); s.send(b'answer')") == "ask"
            assert place.puppets["client"].do("c.settimeout(5); result = c.recv(9).decode()") == "answer"
        since = len(place.mesh.flows())
        for flags in (16, 4):  # ACK, RST
            place.send("stranger", "TCP", family, f"into-{family}-{flags}", sport=port, flags=flags)
            flow = place.wait_dropped("TCP", family, since)
            assert flow["l4"]["TCP"]["source_port"] == port
            since = len(place.mesh.flows())
        place.puppets["client"].do("c.send(b'on')")
        assert place.puppets["server"].do("result = s.recv(9).decode()") == "on"
        assert place.heard({f"into-{family}-16", f"into-{family}-4"}) == set()
    finally:
        place.puppets["client"].do("c.close()")
        place.puppets["server"].do("s.close(); l.close()")


def test_the_host_may_send_in_the_name_of_a_pod(place: Place, family: int) -> None:
    """It does: a firewall's reset is in the name of who was called, and a proxy of its own may be transparent."""
    for proto in PROTOS:
        place.send(place.node.name, proto, family, f"host-{family}-{proto}")
        place.wait_heard(f"host-{family}-{proto}")


def test_what_other_filters_do_to_a_packet_says_nothing_of_its_source(bridged: Place, family: int) -> None:
    """One behind ours at the sender, one before ours at the receiver: both wipe what a filter may note on a packet."""
    wipe = b"".join(
        struct.pack("=BBhi", op, register, offset, value)
        for op, register, offset, value in ((0xB7, 2, 0, 0), (0x63, 0x21, 8, 0), (0x63, 0x21, 44, 0))  # mark, tc_index
    )
    fd = bpf.load_program(int(programs.ProgType.SCHED_CLS), wipe + bpf.exit_with(-1), 0, "wipe", 1 << 16)
    pods = bridged.node.pods
    where = ((pods["client"].interface, 0xFFFFFFF2, 200), (pods["server"].interface, 0xFFFFFFF3, 10))

    def on_them(command: str) -> None:
        with IPRoute() as ipr:
            for interface, parent, priority in where:
                ipr.tc(
                    command, "bpf", ipr.link_lookup(ifname=interface)[0], handle=1, fd=fd, name="wipe", parent=parent,
                    direct_action=True, prio=priority, protocol=3,
                )  # fmt: skip

    netns.inside(bridged.node.netns, lambda: on_them("add-filter"))
    try:
        for proto in PROTOS:
            bridged.send("client", proto, family, f"wiped-{family}-{proto}")
            bridged.wait_heard(f"wiped-{family}-{proto}")
    finally:
        netns.inside(bridged.node.netns, lambda: on_them("del-filter"))
        os.close(fd)


def dropped_for_source(mesh: Mesh) -> int:
    with mesh.open_maps() as maps:
        key = abi.TrafficKey(int(abi.DropReason.INVALID_SOURCE_IP), int(abi.Direction.INGRESS))
        value = maps.traffic.get(key)
    return value.packets if isinstance(value, abi.TrafficValue) else 0


def test_a_new_interface_is_the_pods_once_the_agent_has_seen_it() -> None:
    """Until then what comes by it is nobody's: it has no hooks, and whoever is there may be another."""
    with place_of("bridge") as place:
        client = place.node.pods["client"]
        place.mesh.kill()
        with IPRoute(netns=place.node.netns) as ipr:
            ipr.link("del", index=ipr.link_lookup(ifname=client.interface)[0])
        place.node.plug(client)
        before = dropped_for_source(place.mesh)
        place.send("client", "UDP", 4, "new-early")
        wait_until(lambda: dropped_for_source(place.mesh) > before, "it is dropped", 5)
        place.mesh.start()
        place.mesh.settle()
        for family in (4, 6):
            place.send("client", "UDP", family, f"new-{family}")
            place.wait_heard(f"new-{family}")
        assert place.heard({"new-early"}) == set()


def test_an_interface_that_comes_to_a_bridge_is_looked_at_again() -> None:
    """What the host routes comes in by the bridge from then on."""
    with place_of("routes") as place:
        client = place.node.pods["client"]
        place.send("client", "UDP", 4, "routed")
        place.wait_heard("routed")
        with IPRoute(netns=place.node.netns) as ipr:
            end, bridge = (ipr.link_lookup(ifname=name)[0] for name in (client.interface, BRIDGE))
            ipr.flush_routes(oif=end)
            ipr.flush_addr(index=end)
            ipr.link("set", index=end, master=bridge)
            ipr.addr("add", index=bridge, address="169.254.1.1", prefixlen=32)
        client.run(["ip", "neigh", "flush", "all"])
        numbers = iter(range(1000))

        def is_heard() -> bool:
            place.send("client", "UDP", 4, f"bridged-{next(numbers)}")
            return bool(place.heard({f"bridged-{number}" for number in range(1000)}))

        wait_until(is_heard, "what the bridge's routing sends on arrives", 10)
