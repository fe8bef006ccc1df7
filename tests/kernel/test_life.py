"""The agent may die, come back and be replaced; workloads come and go: policy holds all the time."""

import dataclasses
import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from control.agent import lastgood
from loader import abi, record
from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE
from tests.kernel.puppet import Puppet
from tests.kernel.street import Json, app, matches, mesh_part, nobody, policy

ROOT = Path(__file__).parents[2]
PORT = 4501
CLOSED = policy("closed", "server", ingress=[{"fromEndpoints": [app("client")]}])
ALL = {"fromEntities": ["all"]}
NUMBERS = itertools.count(1)


@dataclasses.dataclass
class Place:
    """client may call server, third may not; the policy that says so is in policy.yaml."""

    node: Node
    mesh: Mesh
    puppets: dict[str, Puppet]

    def ip(self, name: str) -> str:
        return self.node.pods[name].ip

    def connect(self, caller: str, target: str, port: int) -> str:
        return str(self.puppets[caller].do("result = connect(ip, port, 0.5)[0]", ip=self.ip(target), port=port))

    def raw_passes(self, source: str, target: str) -> bool:
        """Tell whether a packet from a raw socket arrives: what the packet hook alone says."""
        number = next(NUMBERS)
        token = f"life{number}"
        self.puppets[source].do(
            "send_packet(udp_packet(a, b, port, port, token), b)",
            a=self.ip(source), b=self.ip(target), port=30000 + number, token=token,
        )  # fmt: skip
        return token in self.puppets[target].do("result = heard()")

    def assert_policy_holds(self) -> None:
        port = 20000 + next(NUMBERS)
        assert self.connect("client", "server", port) == "ECONNREFUSED"
        assert self.connect("third", "server", port) == "EPERM"
        assert self.raw_passes("client", "server")
        assert not self.raw_passes("third", "server")

    def write(self, pod: str, **spec: Any) -> None:
        """Write a pod's Workload anew with other fields."""
        workload = self.node.pods[pod].workload_yaml()
        workload["spec"] |= spec
        self.mesh.apply(f"workload-{pod}", workload)

    def reconcile(self) -> list[str]:
        return list(self.mesh.call("reconcile")["problems"])

    def restart(self) -> Json:
        self.mesh.kill()
        self.mesh.start()
        return self.mesh.call("status")


@pytest.fixture(scope="module")
def whole_place() -> Iterator[Place]:
    with Node("life") as node:
        for name in ("client", "server", "third"):
            node.pod(name)
        puppets = {name: Puppet(pod, ears=True) for name, pod in node.pods.items()}
        puppets["server"].do("ends = []; echo_unblocked(ip, port, ends)", ip=node.pods["server"].ip, port=PORT)
        with Mesh(node) as mesh:
            yield Place(node, mesh, puppets)


@pytest.fixture
def place(whole_place: Place) -> Iterator[Place]:
    whole_place.mesh.apply("policy", CLOSED)
    assert whole_place.reconcile() == []
    yield whole_place
    if whole_place.mesh.agent is None:
        whole_place.mesh.start()
    for name in ("client", "server", "third"):
        whole_place.write(name)


@pytest.fixture
def short_cut(place: Place) -> Iterator[int]:
    """A connection from client to server that takes the short cut; the client's port."""
    order = """
s = socket.create_connection((ip, port), 5)
s.setblocking(False)
exchange(s, 40)
result = s.getsockname()[1]
"""
    port: int = place.puppets["client"].do(order, ip=place.ip("server"), port=PORT)
    assert redirected(place, port) > 0
    yield port
    place.puppets["client"].do("s.close()")


def redirected(place: Place, port: int) -> int:
    """Return how many messages of a connection took the short cut."""
    with place.mesh.open_maps() as maps:
        return sum(e.redirect_msgs for k, c in maps.conns.items() if port in (k.port0, k.port1) for e in c.end)


def test_a_dead_agent_leaves_policy_and_short_cut_in_force(place: Place, short_cut: int) -> None:
    place.mesh.kill()
    place.assert_policy_holds()
    before = redirected(place, short_cut)
    place.puppets["client"].do("exchange(s, 100)")
    assert redirected(place, short_cut) >= before + 200
    lines = len(place.mesh.flows())
    assert place.connect("third", "server", 4510) == "EPERM"
    opened = "t = socket.create_connection((ip, port), 5); t.close(); result = 1"
    assert place.puppets["client"].do(opened, ip=place.ip("server"), port=PORT)
    assert len(place.mesh.flows()) == lines  # nobody writes
    place.mesh.start()
    place.mesh.wait_flow(lambda flow: flow["verdict"] == "DROPPED" and matches(flow, port=4510), "what happened then")
    assert place.connect("third", "server", 4511) == "EPERM"
    place.mesh.wait_flow(lambda flow: flow["verdict"] == "DROPPED" and matches(flow, port=4511), "what happens now")


def test_a_restarted_agent_adopts(place: Place, short_cut: int) -> None:
    status = place.restart()
    assert (status["adopted"], status["compiled"]) == (True, False)
    place.assert_policy_holds()
    before = redirected(place, short_cut)
    place.puppets["client"].do("exchange(s, 100)")
    assert redirected(place, short_cut) >= before + 200
    flow = place.mesh.wait_flow(lambda flow: flow["verdict"] == "DROPPED" and matches(flow, source=place.ip("third")))
    assert flow["destination"]["pod_name"] == "server"


HAMMER = """
tried = hammer(lambda: connect(ip, 4520)[0])
sent = []
def one():
    send_packet(udp_packet(mine, ip, 4521, 4521, f'{token}{len(sent)}'), ip)
    sent.append(1)
    return 'sent'
packets = hammer(one)
"""


@pytest.mark.parametrize("upgrade", [False, True], ids=["restart", "upgrade"])
def test_nothing_denied_passes_while_the_agent_comes_back(place: Place, short_cut: int, upgrade: bool) -> None:
    token = f"hammer{upgrade}"
    place.puppets["third"].do(HAMMER, ip=place.ip("server"), mine=place.ip("third"), token=token)
    place.puppets["client"].start("result = watch(s, True, 8.0)" if upgrade else "result = watch(s, True, 3.0)")
    if upgrade:
        (place.mesh.run_dir / "programs.sha256").unlink()
    status = place.restart()
    assert (status["adopted"], status["compiled"]) == (True, upgrade)
    assert place.puppets["client"].answer()[0] == "alive"
    tried, packets = place.puppets["third"].do("result = [tried(), packets()]")
    heard = [word for word in place.puppets["server"].do("result = heard()") if word.startswith(token)]
    print(f"tried {tried}, sent {packets}, heard {len(heard)}")
    assert tried.keys() == {"EPERM"}
    assert tried["EPERM"] > 200 / PATIENCE
    assert packets["sent"] > 200 / PATIENCE
    assert heard == []
    place.puppets["client"].do("exchange(s, 100)")
    place.assert_policy_holds()


def test_a_policy_edited_while_the_agent_was_dead_cuts_when_it_is_back(place: Place, short_cut: int) -> None:
    place.mesh.kill()
    place.mesh.apply("policy", nobody("shut", "server", "ingress"))
    place.puppets["client"].do("exchange(s, 100)")  # nobody has read the edit yet
    place.mesh.start()
    assert place.puppets["client"].do("result = watch(s, True, 5.0)")[0] in ("ECONNRESET", "ECONNABORTED", "EPIPE")
    place.mesh.wait_flow(
        lambda flow: mesh_part(flow)["event"] == "policy_reset" and matches(flow, source=place.ip("client"))
    )
    assert place.connect("client", "server", PORT) == "EPERM"


def test_an_agent_that_forgot_everything_keeps_policy(place: Place) -> None:
    place.mesh.kill()
    for name in ("state.json", "names.json", "programs.sha256"):
        (place.mesh.run_dir / name).unlink()
    place.assert_policy_holds()
    place.mesh.start()
    place.assert_policy_holds()


def test_numbers_that_an_agent_forgot_name_no_other_rule(place: Place) -> None:
    """The run directory is lost, the pins are not: a connection remembers the rule that let it pass by its number."""
    client, server, ip = place.puppets["client"], place.puppets["server"], place.ip("server")
    server.do("s = socket.create_server((ip, 4540))", ip=ip)
    client.do("c = socket.create_connection((ip, 4540), 5)", ip=ip)
    server.do("d = s.accept()[0]")
    after = len(place.mesh.flows())
    # Its rules come first by name, so that numbers given out from the start would be its.
    other = policy("aa-other", "server", ingress=[{"fromCIDR": [f"192.0.2.{n}/32"]} for n in range(9)])
    try:
        place.mesh.apply("policy-aa", other)
        assert place.reconcile() == []
        place.mesh.kill()
        shutil.rmtree(place.mesh.run_dir)
        place.mesh.start()
        client.do("c.close()")
        server.do("d.close(); s.close()")
        close = place.mesh.wait_flow(
            lambda f: matches(f, port=4540) and mesh_part(f)["event"] == "close", "the end of it", since=after
        )
        assert "aa-other" not in json.dumps(close)
    finally:
        place.mesh.delete("policy-aa")
        assert place.reconcile() == []


def test_a_policy_that_is_broken_at_a_restart_opens_nothing(place: Place) -> None:
    place.mesh.kill()
    file = place.mesh.config / "policy.yaml"
    file.write_text(file.read_text().replace("fromEndpoints", "fromEndpoint"))
    place.mesh.start()
    assert place.connect("third", "server", 4530) == "EPERM"
    assert not place.raw_passes("third", "server")
    problems = place.mesh.call("status")["problems"]
    assert [p for p in problems if p.startswith("policy.yaml:") and ": spec.ingress[0].fromEndpoint: " in p]


@pytest.mark.parametrize("readable", [True, False])
def test_open_connections_are_asked_again_at_each_start(place: Place, readable: bool) -> None:
    """The one before may have died between its policy and the generation that has verdicts asked again; also where
    nothing can be read that this one could put in force."""
    place.mesh.kill()
    file = place.mesh.config / "policy.yaml"
    if not readable:
        (place.mesh.run_dir / lastgood.NAME).unlink()
        file.write_text("{")
    with place.mesh.open_maps() as maps:
        before = maps.config.get_at(0).generation
        place.mesh.start()
        assert bool(place.mesh.call("status")["problems"]) != readable
        assert maps.config.get_at(0).generation > before


@pytest.mark.parametrize("agent", ["alive", "dead"])
def test_an_endpoint_without_its_policy_passes_nothing(place: Place, agent: str) -> None:
    if agent == "dead":
        place.mesh.kill()
    with place.mesh.open_maps() as maps:
        ref = maps.endpoint_ips.get(abi.AddrKey(record.pack_addr(place.ip("server"))))
        assert ref
        key = abi.EndpointKey(ref.id)
        whole = maps.endpoints.get(key)
        assert whole
        for hollow in (dataclasses.replace(whole, set_id=0), dataclasses.replace(whole, set_id=0xFFFFFF)):
            maps.endpoints.put(key, hollow)
            try:
                assert place.connect("client", "server", 4540) == "EPERM"
                assert place.connect("server", "client", 4540) == "EPERM"
                assert not place.raw_passes("client", "server")
                assert not place.raw_passes("server", "client")
            finally:
                maps.endpoints.put(key, whole)
    place.assert_policy_holds()


def test_a_workload_that_is_removed_and_comes_back(place: Place) -> None:
    place.mesh.delete("workload-server")
    assert place.reconcile() == []
    assert place.connect("third", "server", 4550) == "ECONNREFUSED"  # no longer the mesh's
    with place.mesh.open_maps() as maps:
        assert maps.endpoints.count() == 2
    place.write("server")
    assert place.reconcile() == []
    place.assert_policy_holds()


def test_a_workload_under_a_new_name_stays_closed(place: Place) -> None:
    """As when a pod is replaced in the file by another name: same interface, same addresses."""
    server = place.node.pods["server"].workload_yaml()
    server["metadata"]["name"] = "server-2"
    place.mesh.apply("workload-server", server)
    assert place.reconcile() == []
    place.assert_policy_holds()


@pytest.mark.parametrize(
    "mistake", [{"cgroup": "/sys/fs/cgroup/nowhere"}, {"netns": "/run/netns/nowhere"}, {"interface": "vh-nowhere"}]
)
def test_a_mistake_in_a_workload_opens_nothing(place: Place, mistake: dict[str, str]) -> None:
    place.write("server", **mistake)
    problems = place.reconcile()
    assert [p for p in problems if "workload-server.yaml" in p and next(iter(mistake.values())) in p]
    assert place.connect("third", "server", 4560) == "EPERM"
    assert not place.raw_passes("third", "server")
    place.write("server")
    assert place.reconcile() == []
    place.assert_policy_holds()


@pytest.mark.parametrize("field", ["netns", "interface"])
def test_a_workload_that_no_longer_says_where_it_is_opens_nothing(place: Place, field: str) -> None:
    workload = place.node.pods["server"].workload_yaml()
    del workload["spec"][field]
    place.mesh.apply("workload-server", workload)
    problems = place.reconcile()
    assert [p for p in problems if "workload-server.yaml" in p and "the last good values stay" in p]
    assert place.connect("third", "server", 4561) == "EPERM"
    assert not place.raw_passes("third", "server")


def test_a_pod_that_vanishes_takes_nobody_with_it(place: Place) -> None:
    pod = place.node.pod("victim")
    place.mesh.apply("workload-victim", pod.workload_yaml())
    assert place.reconcile() == []
    assert place.connect("client", "victim", 4570) == "ECONNREFUSED"
    place.node.remove(pod)
    problems = place.reconcile()
    assert [p for p in problems if p.startswith("workload-victim.yaml")]
    place.assert_policy_holds()
    place.mesh.delete("workload-victim")
    assert place.reconcile() == []
    with place.mesh.open_maps() as maps:
        assert maps.endpoints.count() == 3
    place.assert_policy_holds()


@pytest.mark.parametrize("shared", ["run-dir", "pin-dir"])
def test_a_second_agent_on_the_same_directory_is_refused(place: Place, shared: str, tmp_path: Path) -> None:
    """Two would take each other's events, whichever of the two directories they share."""
    run_dir = place.mesh.run_dir if shared == "run-dir" else tmp_path
    second = agent(place, "--run-dir", str(run_dir), "--metrics", "")
    assert second.returncode != 0
    assert len(second.stderr.strip().splitlines()) == 1
    assert place.mesh.agent and f"another agent (pid {place.mesh.agent.pid}) is running" in second.stderr
    place.assert_policy_holds()


def test_an_agent_that_cannot_start_puts_nothing_in_force(place: Place, tmp_path: Path) -> None:
    """On pods that no agent had before: a port that is taken is found before anything is attached."""
    pod = place.node.pod("fresh")
    config = tmp_path / "config"
    config.mkdir()
    (config / "fresh.yaml").write_text(yaml.safe_dump(pod.workload_yaml()))
    pins = place.node.pins.with_name(place.node.pins.name + "-fresh")
    place.node.run_record.note("pin", str(pins))
    elsewhere = ["--config", str(config), "--run-dir", str(tmp_path / "run"), "--pin-dir", str(pins)]
    refused = agent(place, *elsewhere, "--metrics", "127.0.0.1:9965")  # where the place's agent listens
    assert refused.returncode == 1 and "Address already in use" in refused.stderr
    assert not pins.exists() or not list(pins.rglob("*")), "programs, links or maps of an agent that never was"
    assert not place.node.run(["tc", "filter", "show", "dev", pod.interface, "ingress"]).stdout
    place.node.remove(pod)


def agent(place: Place, *args: str) -> subprocess.CompletedProcess[str]:
    """Run another agent, which is expected to end by itself; later options stand in for earlier ones."""
    command = [
        sys.executable, "-m", "control.cli.main", "agent", "--config", str(place.mesh.config), "--no-self-test",
        "--pin-dir", str(place.node.pins), *args,
    ]  # fmt: skip
    return place.node.run(command, cwd=ROOT, timeout=60 * PATIENCE, check=False)


def test_a_denied_pod_stays_denied_while_its_labels_change(place: Place) -> None:
    """Its identity changes each time, and every policy set that names it; before and after, policy says no."""
    place.mesh.apply("policy", policy("no", "server", ingressDeny=[{"fromEndpoints": [app("third")]}], ingress=[ALL]))
    assert place.reconcile() == []
    order = """
tried = hammer(lambda: connect(ip, 4591)[0])
packets = flood(udp_packet(mine, ip, 4592, 4592, 'labels'), ip)
"""
    place.puppets["third"].do(order, ip=place.ip("server"), mine=place.ip("third"))
    third = place.node.pods["third"].workload_yaml()
    for number in range(30):
        third["metadata"]["labels"]["version"] = str(number)
        place.mesh.apply("workload-third", third)
        assert place.reconcile() == []
    tried, sent = place.puppets["third"].do("result = [tried(), packets()]")
    print(f"tried {tried}, sent {sent}")
    assert sent > 1000
    assert "labels" not in place.puppets["server"].do("result = heard()")
    assert tried.keys() == {"EPERM"}


def test_a_pods_connection_to_itself_is_never_cut(place: Place) -> None:
    """Between two addresses of one pod, which no policy covers."""
    other = "10.244.0.99"
    place.node.pods["server"].run(["ip", "addr", "add", f"{other}/32", "dev", "eth0"])
    place.write("server", ips=[place.ip("server"), other])
    assert place.reconcile() == []
    order = """
own = socket.create_connection((ip, port), 5, source_address=(other, 0))
exchange(own, 5)
"""
    place.puppets["server"].do(order, ip=place.ip("server"), other=other, port=PORT)
    place.mesh.apply("policy", nobody("in", "server", "ingress"), nobody("out", "server", "egress"))
    assert place.reconcile() == []
    place.puppets["server"].do("exchange(own, 5); own.close()")
