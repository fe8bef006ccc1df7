"""What lives long is on record now and then, whoever knows of it: sockets, or the packet hooks alone; and whose end
nobody can tell is counted.
"""

import itertools
from collections.abc import Iterator

import pytest

from loader import abi
from tests.hosts import Mesh, Node
from tests.hosts.wait import wait_until
from tests.kernel.puppet import Puppet
from tests.kernel.street import Json, matches, mesh_part

pytestmark = pytest.mark.kernel
SHORT_CUT, BARE, DATAGRAMS, LOST = 4701, 4702, 4703, 4704


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with Node("periodic") as node:
        pods = {name: node.pod(name) for name in ("client", "server", "bare")}
        with Mesh(node, pods=[pods["client"], pods["server"]], args=["--flow-interval", "1"]) as made:
            bare = pods["bare"].workload_yaml()
            del bare["spec"]["cgroup"]
            made.apply("workload-bare", bare)
            made.settle()
            yield made


@pytest.fixture(scope="module")
def puppets(mesh: Mesh) -> dict[str, Puppet]:
    made = {name: Puppet(pod) for name, pod in mesh.node.pods.items()}
    server = mesh.node.pods["server"].ip
    made["server"].do(
        "ends = []; echo_unblocked(ip, port, ends); u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "u.bind((ip, udp)); u.settimeout(5)",
        ip=server, port=SHORT_CUT, udp=DATAGRAMS,
    )  # fmt: skip
    # Neither end of this one may be in a cgroup that is ours: between bare and a puppet of the node.
    made["node"] = Puppet(mesh.node)
    made["node"].do("l = socket.create_server((ip, port))", ip=mesh.node.gateway, port=BARE)
    made["client"].do(
        "s = socket.create_connection((ip, port), 5); s.setblocking(False);"
        "q = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); q.bind((mine, 0)); q.settimeout(5)",
        ip=server, port=SHORT_CUT, mine=mesh.node.pods["client"].ip,
    )  # fmt: skip
    made["bare"].do("c = socket.create_connection((ip, port), 5)", ip=mesh.node.gateway, port=BARE)
    made["node"].do("x, _ = l.accept(); x.settimeout(5)")
    return made


def talk(mesh: Mesh, puppets: dict[str, Puppet]) -> None:
    server = mesh.node.pods["server"].ip
    puppets["client"].do("exchange(s, 20); q.sendto(b'question', (ip, udp))", ip=server, udp=DATAGRAMS)
    puppets["server"].do("data, to = u.recvfrom(100); u.sendto(data, to)")
    puppets["client"].do("q.recv(100)")
    puppets["bare"].do("c.sendall(b'question')")
    puppets["node"].do("x.recv(100); x.sendall(b'answer')")
    puppets["bare"].do("c.recv(100)")


def records(mesh: Mesh, event: str, proto: str, port: int) -> list[Json]:
    return [f for f in mesh.flows() if matches(f, port=port, proto=proto) and mesh_part(f)["event"] == event]


def ends(flow: Json) -> tuple[Json, Json, Json, int]:
    (l4,) = flow["l4"].values()
    return flow["IP"], flow["source"], flow["destination"], l4["source_port"]


def test_each_kind_of_connection_is_on_record_each_interval(mesh: Mesh, puppets: dict[str, Puppet]) -> None:
    kinds = {"short-cut": ("TCP", SHORT_CUT), "bare": ("TCP", BARE), "UDP": ("UDP", DATAGRAMS)}

    def enough() -> bool:
        talk(mesh, puppets)
        return all(len(records(mesh, "periodic", *kind)) >= 2 for kind in kinds.values())

    wait_until(enough, "two records of each", 20, pause=0.2)
    for name, kind in kinds.items():
        flows = records(mesh, "periodic", *kind)
        amounts = [(int(mesh_part(f)["bytes_sent"]), int(mesh_part(f)["bytes_received"])) for f in flows]
        assert all(0 < sent < more and 0 < got < yet for (sent, got), (more, yet) in itertools.pairwise(amounts)), name
        lived = [int(mesh_part(flow)["duration_ns"]) / 1e9 for flow in flows]
        assert 1 <= lived[0] < lived[1] and lived[1] - lived[0] >= 1, name
        (opened,) = records(mesh, "open", *kind)
        assert all(ends(flow) == ends(opened) for flow in flows), name
    assert int(mesh_part(records(mesh, "periodic", *kinds["short-cut"])[-1])["short_cut_bytes_sent"]) > 0


def lost(mesh: Mesh) -> int:
    return int(mesh.call("status")["flow_log"]["ends_lost"])


def test_the_end_of_what_conntrack_forgets_is_counted(mesh: Mesh, puppets: dict[str, Puppet]) -> None:
    """As the kernel does it when the map is full, but without the hundred thousand connections that this takes."""
    count, forgotten = 40, 15
    before = lost(mesh)
    order = """
asking = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(count)]
for each in asking:
    each.sendto(b'x', (ip, port))  # all at once: of two, one after the other, the second may get the first one's port
for each in asking:
    each.close()
"""
    puppets["client"].do(order, ip=mesh.node.pods["server"].ip, port=LOST, count=count)
    wait_until(lambda: len(records(mesh, "open", "UDP", LOST)) == count, "the openings are on record")
    with mesh.open_maps() as maps:
        ours = [k for k, v in maps.ct.items() if k.dport == LOST and v.flags & abi.CtFlag.REPORTED]
        assert len(ours) == count
        maps.ct.delete_many(ours[:forgotten])
    wait_until(lambda: lost(mesh) - before == forgotten, "what is missing is counted", 20)
    mesh.call("set", udp_timeout_s="1")
    wait_until(lambda: len(records(mesh, "close", "UDP", LOST)) == count - forgotten, "the others end", 20)
    mesh.call("set", udp_timeout_s="60")
    assert lost(mesh) - before == forgotten
    assert f'"num_events_lost":"{forgotten}"' in mesh.flow_log.read_text()
