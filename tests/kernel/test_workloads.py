"""What the agent does when a workload's file, hooks or pod are not as they were."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from control.agent import lastgood
from control.source import directory
from loader import abi, bpf, programs
from loader.record import pack_addr
from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.puppet import Puppet
from tests.kernel.street import app, matches, mesh_part, nobody, policy

CLOSED = policy("closed", "server", ingress=[{"fromEndpoints": [app("client")]}])
TOO_MANY = 65  # programs of one kind that one cgroup takes: 64 (include/linux/bpf-cgroup.h)


class Town:
    """client may call server, third may not."""

    def __init__(self, node: Node, mesh: Mesh) -> None:
        self.node, self.mesh = node, mesh
        self.puppets = {name: Puppet(pod, ears=True) for name, pod in node.pods.items()}

    def write(self, pod: str, name: str = "", **spec: Any) -> list[str]:
        document = self.node.pods[pod].workload_yaml()
        document["metadata"]["name"] = name or pod
        document["spec"] |= spec
        self.mesh.apply(f"workload-{pod}", document)
        return list(self.mesh.call("reconcile")["problems"])

    def endpoint(self, pod: str) -> tuple[int, abi.Endpoint]:
        with self.mesh.open_maps() as maps:
            ref = maps.endpoint_ips.get(abi.AddrKey(pack_addr(self.node.pods[pod].ip)))
            found = maps.endpoints.get(abi.EndpointKey(ref.id)) if ref else None
            assert ref and found
            return ref.id, found

    def connect(self, caller: str, port: int) -> str:
        ip = self.node.pods["server"].ip
        return str(self.puppets[caller].do("result = connect(ip, port, 0.5)[0]", ip=ip, port=port))

    def holds(self, port: int) -> bool:
        return (self.connect("client", port), self.connect("third", port)) == ("ECONNREFUSED", "EPERM")


@pytest.fixture(scope="module")
def whole() -> Iterator[Town]:
    with Node("town") as node:
        for name in ("client", "server", "third"):
            node.pod(name)
        with Mesh(node, [CLOSED]) as mesh:
            yield Town(node, mesh)


@pytest.fixture
def town(whole: Town) -> Iterator[Town]:
    assert whole.holds(4701)
    yield whole
    assert whole.write("server") == []
    assert whole.holds(4702)


HAMMER = """
tried = hammer(lambda: connect(ip, 4711)[0])
packets = flood(udp_packet(mine, ip, 4712, 4712, 'renamed'), ip)
"""


def test_a_new_name_opens_no_moment(town: Town) -> None:
    third, ip = town.puppets["third"], town.node.pods["server"].ip
    third.do(HAMMER, ip=ip, mine=town.node.pods["third"].ip)
    numbers = {town.endpoint("server")[0]}
    for number in range(12):
        assert town.write("server", name=f"server-{number}") == []
        numbers.add(town.endpoint("server")[0])
    tried, sent = third.do("result = [tried(), packets()]")
    assert len(numbers) == 1 and sent > 1000  # the same pod, whatever it is called
    assert tried.keys() == {"EPERM"}
    assert "renamed" not in town.puppets["server"].do("result = heard()")
    owners = {path.name.split("-")[1] for path in (town.node.pins / "links").glob("endpoint-*")}
    assert len(owners) == 3  # nobody's hooks are left


def test_a_new_name_ends_no_connection(town: Town) -> None:
    client, server, ip = town.puppets["client"], town.puppets["server"], town.node.pods["server"].ip
    server.do("s = socket.create_server((ip, 4713))", ip=ip)
    client.do("c = socket.create_connection((ip, 4713), 5)", ip=ip)
    server.do("d = s.accept()[0]")

    def open_ends() -> list[int]:
        with town.mesh.open_maps() as maps:
            return [len(conn.open_ends) for key, conn in maps.conns.items() if 4713 in (key.port0, key.port1)]

    assert town.write("server", name="server-renamed") == []
    assert open_ends() == [2]
    client.do("c.close()")
    server.do("d.close(); s.close()")
    wait_until(lambda: not open_ends(), "it is over when both have closed it", 5)


CALL = """
s = socket.create_connection((ip, 4715), 5)
s.setblocking(False)
exchange(s, 40)
calls.append(s)
result = s.getsockname()[1]
"""


def test_acceleration_off_is_for_connections_that_open_from_then_on(town: Town) -> None:
    client, server, ip = town.puppets["client"], town.puppets["server"], town.node.pods["server"].ip

    def redirected(port: int) -> int:
        with town.mesh.open_maps() as maps:
            found = [conn for key, conn in maps.conns.items() if port in (key.port0, key.port1)]
        return sum(end.redirect_msgs for conn in found for end in conn.end)

    server.do("ends = []; echo_unblocked(ip, 4715, ends)", ip=ip)
    client.do("calls = []")
    first = client.do(CALL, ip=ip)
    before = redirected(first)
    assert before
    young = client.do(
        "s = socket.create_connection((ip, 4715), 5); calls.append(s); result = s.getsockname()[1]", ip=ip
    )
    assert town.write("server", acceleration="off") == []
    client.do("for s in calls[:2]: exchange(s, 40)")
    assert redirected(first) > before
    assert not redirected(young)  # it had not taken it yet
    assert not redirected(client.do(CALL, ip=ip))
    client.do("for s in calls: s.close()")


def test_a_mistake_holds_across_a_restart(town: Town) -> None:
    good = town.endpoint("server")
    for mistake in ({"interface": "vh-nowhere"}, {"netns": "/run/netns/nowhere"}):
        (problem,) = town.write("server", **mistake)
        assert "the last good values stay" in problem and next(iter(mistake.values())) in problem
        town.mesh.kill()
        town.mesh.start()
        (problem,) = town.mesh.call("status")["problems"]
        assert "the last good values stay" in problem
        assert town.endpoint("server") == good
        assert town.holds(4721)


@pytest.mark.parametrize("broken", ["{", "kind: [", ""], ids=["no YAML", "no document", "policy with a mistake"])
def test_files_broken_across_a_restart_change_nothing(town: Town, broken: str) -> None:
    """Of the workloads and of the policy: what they gave before stays in force, and the hooks where they are."""
    before = {pod: town.endpoint(pod) for pod in town.puppets}
    texts = {path: path.read_text() for path in town.mesh.config.glob("*.yaml")}
    try:
        town.mesh.kill()
        for path, text in texts.items():
            path.write_text(broken or text.replace("metadata:", "metadata: {}\nmetadada:", 1))
        town.mesh.start()
        problems = town.mesh.call("status")["problems"]
        assert len({problem.partition(":")[0] for problem in problems}) == len(texts)
        assert all(problem.endswith("; what the file gave before stays in force") for problem in problems)
        assert {pod: town.endpoint(pod) for pod in town.puppets} == before
        assert town.holds(4722)
    finally:
        for path, text in texts.items():
            path.write_text(text)
        assert town.mesh.call("reconcile")["problems"] == []


def test_without_a_record_of_the_files_the_kernel_keeps_what_it_has(town: Town) -> None:
    """A run directory that was emptied meanwhile, and a file with the workloads that cannot be read."""
    path = town.mesh.config / "workload-server.yaml"
    text, before = path.read_text(), town.endpoint("server")
    try:
        town.mesh.kill()
        (town.mesh.run_dir / lastgood.NAME).unlink()
        path.write_text(text.replace("interface:", "interfaces:"))
        town.mesh.start()
        (problem,) = town.mesh.call("status")["problems"]
        assert problem.startswith("workload-server.yaml:") and problem.endswith("; " + directory.ADOPTED)
        assert town.endpoint("server") == before
        assert town.holds(4724)
    finally:
        path.write_text(text)
        assert town.mesh.call("reconcile")["problems"] == []
    assert town.holds(4724)


@pytest.mark.parametrize("how", ["too many files", "two files at odds"])
def test_without_a_record_what_cannot_be_taken_whole_takes_nothing_away(town: Town, how: str) -> None:
    config, before = town.mesh.config, town.endpoint("server")
    try:
        town.mesh.kill()
        (town.mesh.run_dir / lastgood.NAME).unlink()
        if how == "too many files":
            for number in range(directory.MAX_FILES):
                (config / f"more-{number}.yaml").touch()
        else:
            (config / "more-0.yaml").write_text((config / "workload-server.yaml").read_text())
        town.mesh.start()
        problems = town.mesh.call("status")["problems"]
        assert problems and all(problem.endswith("; " + directory.ADOPTED) for problem in problems)
        assert town.endpoint("server") == before
        assert town.holds(4727)
    finally:
        for path in config.glob("more-*.yaml"):
            path.unlink()
        assert town.mesh.call("reconcile")["problems"] == []
    assert town.holds(4727)


def events(town: Town, after: int, port: int) -> list[str]:
    return sorted(mesh_part(flow)["event"] for flow in town.mesh.flows()[after:] if matches(flow, port=port))


@pytest.mark.parametrize("where", ["above all pods", "another's"])
def test_a_cgroup_of_two_leaves_the_packets_under_policy_and_one_record_each(town: Town, where: str) -> None:
    client, server, ip = town.puppets["client"], town.puppets["server"], town.node.pods["server"].ip
    link = town.node.directory / "link"
    link.symlink_to(town.node.pods["client"].cgroup)
    try:
        problems = town.write("server", cgroup=str(link) if where == "another's" else town.node.pod_cgroup)
        assert all("the cgroup of Workload default/" in problem for problem in problems)
        told = {problem.partition(".")[0].removeprefix("workload-") for problem in problems}
        assert told == ({"client", "server"} if where == "another's" else {"server"})
        hooked = {pod for pod in town.puppets if town.endpoint(pod)[1].flags & abi.EndpointFlag.HAS_CGROUP}
        assert hooked == {"client", "server", "third"} - told
        assert town.connect("client", 4728) == "ECONNREFUSED"
        assert town.connect("third", 4728) == "EPERM"
        after = len(town.mesh.flows())
        server.do("s = socket.create_server((ip, 4729))", ip=ip)
        client.do("c = socket.create_connection((ip, 4729), 5)", ip=ip)
        server.do("d = s.accept()[0]")
        wait_until(lambda: events(town, after, 4729), "its opening is on record", 5)
        server.do("d.close(); s.close()")
        client.do("c.close()")
        wait_until(lambda: "close" in events(town, after, 4729), "its end is on record", 30)
        assert events(town, after, 4729) == ["close", "open"]
    finally:
        link.unlink()
        assert town.write("server") == []


def test_a_network_namespace_of_two_is_judged_as_the_first_ones(town: Town) -> None:
    """Whatever its file calls it. The other's interface is under policy all the same."""
    client = town.node.pods["client"]
    link = town.node.directory / "space"
    link.symlink_to(client.netns)
    with IPRoute(netns=town.node.netns) as ipr:
        ipr.link("add", ifname="vh-second", peer={"ifname": "eth1", "net_ns_fd": client.netns}, kind="veth")
        index = ipr.link_lookup(ifname="vh-second")[0]
        ipr.link("set", index=index, state="up")
    second = client.workload_yaml()
    second["metadata"] |= {"name": "second", "labels": {"app": "second"}}
    second["spec"] = {"ips": ["10.244.0.77"], "interface": "vh-second"}
    try:
        for netns in (client.netns.rpartition("/")[2], str(link)):
            second["spec"]["netns"] = netns
            town.mesh.apply("workload-zz", second)
            problem = town.mesh.call("reconcile")["problems"][0]
            assert problem.startswith("workload-zz.yaml:") and "is that of Workload default/client, too" in problem
            assert town.holds(4730)  # with the first one's labels, not the second one's
            with town.mesh.open_maps() as maps:
                (found,) = (v for _, v in maps.endpoints.items() if v.ifindex == index)
                assert found.flags & abi.EndpointFlag.ENROLLED and not found.netns_cookie
    finally:
        town.mesh.delete("workload-zz")
        assert town.mesh.call("reconcile")["problems"] == []
        link.unlink()
        with IPRoute(netns=town.node.netns) as ipr:
            ipr.link("del", index=index)


def test_a_full_run_directory_does_not_keep_a_change_from_open_connections(town: Town) -> None:
    client, server, ip = town.puppets["client"], town.puppets["server"], town.node.pods["server"].ip
    server.do("s = socket.create_server((ip, 4725))", ip=ip)
    client.do("c = socket.create_connection((ip, 4725), 5)", ip=ip)
    server.do("d = s.accept()[0]")
    blocked = town.mesh.run_dir / "state.tmp"

    def block() -> bool:  # the agent may be writing just now
        with contextlib.suppress(FileExistsError):
            blocked.mkdir()
            return True
        return False

    wait_until(block, "nothing is being written")  # as good as a full disk: the file beside it cannot be made
    try:
        town.mesh.apply("shut", policy("shut", "server", ingressDeny=[{"fromEntities": ["all"]}]))
        (problem,) = town.mesh.call("reconcile")["problems"]
        assert problem.startswith(f"{town.mesh.run_dir}: what is in force cannot be written down for the next start: ")
        how = client.do("c.settimeout(5)\ntry: c.recv(1)\nexcept OSError as e: result = word(e.errno)")
        assert how in ("ECONNABORTED", "ECONNRESET")  # by its own kernel, or by the other end
    finally:
        blocked.rmdir()
        town.mesh.delete("shut")
        assert town.mesh.call("reconcile")["problems"] == []
    server.do("d.close(); s.close()")


def test_a_new_file_that_is_broken_changes_nothing(town: Town) -> None:
    (town.mesh.config / "new.yaml").write_text("[")
    try:
        (problem,) = town.mesh.call("reconcile")["problems"]
        assert problem.startswith("new.yaml:2: not YAML") and problem.endswith("; nothing of the file is in force")
        assert town.holds(4723)
    finally:
        (town.mesh.config / "new.yaml").unlink()


def test_an_emptied_file_and_a_directory_that_is_not_there_change_nothing(town: Town) -> None:
    """Over a restart, too, and when nothing is known of what was in force but what the kernel has."""
    path, before = town.mesh.config / "workload-server.yaml", town.endpoint("server")
    text = path.read_text()
    away = town.mesh.config.with_name("not-mounted")
    try:
        path.write_text("")
        (problem,) = town.mesh.call("reconcile")["problems"]
        assert problem.startswith("workload-server.yaml: holds no document any more")
        assert town.endpoint("server") == before
        path.write_text(text)
        town.mesh.kill()
        town.mesh.config.rename(away)
        town.mesh.config.mkdir()
        for effect in (directory.ALL_STAYS, directory.ADOPTED):
            town.mesh.start()
            (problem,) = town.mesh.call("status")["problems"]
            assert problem.startswith(f"{town.mesh.config}: holds no configuration any more"), problem
            assert problem.endswith(f"; {effect}"), problem
            assert town.endpoint("server") == before and town.holds(4726)
            town.mesh.kill()
            (town.mesh.run_dir / lastgood.NAME).unlink(missing_ok=True)
    finally:
        path.write_text(text)
        if away.exists():
            path.unlink()
            town.mesh.config.rmdir()
            away.rename(town.mesh.config)
        town.mesh.start()
        assert town.mesh.call("reconcile")["problems"] == []
    assert town.holds(4726)


def test_a_cgroup_that_takes_no_hook_leaves_the_packets_under_policy(town: Town) -> None:
    cgroup = town.node.pods["server"].cgroup
    kind, attach = int(programs.ProgType.CGROUP_SOCK_ADDR), int(programs.AttachType.CGROUP_INET4_CONNECT)
    full = Path(cgroup) / "full"
    full.mkdir()
    held = [bpf.load_program(kind, bpf.exit_with(1), attach, "sm_filler")]
    target = os.open(full, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError):
            for _ in range(TOO_MANY):
                held.append(bpf.link_create(held[0], target, attach))
        (problem,) = town.write("server", cgroup=str(full))
        assert problem.startswith("workload-server.yaml:1: ") and str(full) in problem
        assert not town.endpoint("server")[1].flags & abi.EndpointFlag.HAS_CGROUP
        assert town.holds(4731)
        # Its own calls are recorded by the packet hook now, unless another pod's socket hook knows of them.
        town.puppets["server"].do("connect(ip, 4732, 0.5)", ip=town.node.gateway)
        town.mesh.wait_flow(lambda f: matches(f, port=4732, hook="tc_from_pod") and f["verdict"] == "FORWARDED")
    finally:
        for fd in (*held, target):
            os.close(fd)
        assert town.write("server") == []
        full.rmdir()


def test_a_replaced_pod_gets_a_new_try(town: Town) -> None:
    pod = town.node.pod("caught")
    town.mesh.apply("workload-caught", pod.workload_yaml())
    assert town.mesh.call("reconcile")["problems"] == []
    id, _ = town.endpoint("caught")
    with town.mesh.open_maps() as maps:
        maps.caught.put(abi.EndpointKey(id), abi.Caught(int(abi.AccelReason.PROGRAM), 1))
        town.mesh.call("reconcile")
        assert maps.caught.get(abi.EndpointKey(id))
        town.node.remove(pod)
        again = town.node.pod("caught")
        town.mesh.apply("workload-caught", again.workload_yaml())
        assert town.mesh.call("reconcile")["problems"] == []
        assert town.endpoint("caught")[0] == id
        assert maps.caught.get(abi.EndpointKey(id)) is None
    town.mesh.delete("workload-caught")
    assert town.mesh.call("reconcile")["problems"] == []
    town.node.remove(again)


@pytest.mark.parametrize("how", ["at once", "withdrawn meanwhile", "no agent meanwhile"])
def test_connections_to_a_pod_made_again_are_over(town: Town, how: str) -> None:
    """Its interface goes first, so that its sockets end without a word; the new pod has its name, and so its id."""
    name, client = how.replace(" ", "-"), town.puppets["client"]
    pod = town.node.pod(name)
    town.mesh.apply(f"workload-{name}", pod.workload_yaml())
    assert town.mesh.call("reconcile")["problems"] == []
    id, _ = town.endpoint(name)

    def left() -> list[abi.Conn]:
        with town.mesh.open_maps() as maps:
            return [conn for _, conn in maps.conns.items() if id in [end.endpoint for end in conn.end]]

    def closes() -> int:
        events = [mesh_part(flow)["event"] for flow in town.mesh.flows() if matches(flow, destination=pod.ip)]
        return events.count("close")

    listen = "k = []; s = socket.create_server((ip, 4751), backlog=50)"
    server = Puppet(pod)
    server.do(listen, ip=pod.ip)
    client.do("k = [socket.create_connection((ip, 4751), 5) for _ in range(20)]", ip=pod.ip)
    server.do("for _ in range(20): k.append(s.accept()[0])")
    assert len(left()) == 20
    if how == "no agent meanwhile":
        town.mesh.kill()
    with IPRoute(netns=town.node.netns) as ipr:
        ipr.link("del", index=ipr.link_lookup(ifname=pod.interface)[0])
    client.do("for c in k[:10]: c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + [0] * 7)); c.close()")
    town.node.remove(pod)
    if how == "withdrawn meanwhile":
        town.mesh.delete(f"workload-{name}")
        assert town.mesh.call("reconcile")["problems"] == []
    again = town.node.pod(name)
    town.mesh.apply(f"workload-{name}", again.workload_yaml())
    if how == "no agent meanwhile":
        town.mesh.start()
    assert town.mesh.call("reconcile")["problems"] == []
    assert town.endpoint(name)[0] == id
    wait_until(lambda: len(left()) == 10, "those that the client had closed are over", 5)
    assert {sum(end.closed == abi.Closed.CUT for end in conn.end) for conn in left()} == {1}
    client.do("for c in k[10:]: c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + [0] * 7)); c.close()")
    wait_until(lambda: not left(), "the others are over when the client closes them", 5)
    wait_until(lambda: closes() == 20, "each close is on record, once", 5)
    Puppet(again).do(listen, ip=again.ip)  # and the new pod's own connections stay on record
    client.do("c = socket.create_connection((ip, 4751), 5)", ip=again.ip)
    wait_until(left, "the new connection is on record", 5)
    town.mesh.call("reconcile")
    time.sleep(1.5)  # the agent looks for what is over once a second
    assert [sum(end.closed for end in conn.end) for conn in left()] == [0]
    client.do("c.close()")
    town.mesh.delete(f"workload-{name}")
    assert town.mesh.call("reconcile")["problems"] == []
    town.node.remove(again)


def test_a_workload_that_comes_late_is_found(town: Town) -> None:
    late = town.node.pod("late")
    document = late.workload_yaml()
    town.node.remove(late)
    town.mesh.apply("workload-late", document)
    problems = town.mesh.call("reconcile")["problems"]
    assert problems and all("Workload default/late: " in problem for problem in problems)
    assert town.node.pod("late").workload_yaml()["spec"]["netns"] == document["spec"]["netns"]
    wait_until(lambda: not town.mesh.call("status")["problems"], "it is found", 5)
    town.mesh.delete("workload-late")
    assert town.mesh.call("reconcile")["problems"] == []


def test_hooks_that_a_dead_agent_had_yet_to_remove_are_removed(town: Town) -> None:
    pod = town.node.pod("left")
    town.mesh.apply("workload-left", pod.workload_yaml())
    assert town.mesh.call("reconcile")["problems"] == []
    id, endpoint = town.endpoint("left")
    town.mesh.kill()
    town.mesh.delete("workload-left")
    with town.mesh.open_maps() as maps:
        maps.endpoint_ifaces.delete(abi.IfaceKey(endpoint.ifindex))
        maps.endpoint_netns.delete(abi.NetnsKey(endpoint.netns_cookie))
        for ip in (pod.ip, pod.ip6):
            maps.endpoint_ips.delete(abi.AddrKey(pack_addr(ip)))
        maps.endpoints.delete(abi.EndpointKey(id))
    assert pod.run(["ping", "-c1", "-W1", town.node.gateway], check=False).returncode != 0
    town.mesh.start()
    assert pod.run(["ping", "-c1", "-W1", town.node.gateway], check=False).returncode == 0
    assert not list((town.node.pins / "links").glob(f"endpoint-{id}-*"))
    town.node.remove(pod)


def test_an_edit_right_after_the_start_is_seen(town: Town) -> None:
    for number in range(3):
        town.mesh.kill()
        town.mesh.start()
        (town.mesh.config / "broken.yaml").write_text("kind: Nothing\n")
        wait_until(lambda: town.mesh.call("status")["problems"], f"it is seen, {number}", 5)
        town.mesh.delete("broken")
        wait_until(lambda: not town.mesh.call("status")["problems"], f"it is gone, {number}", 5)


def test_a_configuration_that_does_not_fit_is_not_tried_all_the_time(town: Town) -> None:
    ports = [{"ports": [{"port": str(port), "protocol": "TCP"} for port in range(1, 41)]}]
    ranges = [f"198.18.{n // 256}.{n % 256}/32" for n in range(1650)]
    town.mesh.apply("wide", policy("wide", "client", egress=[{"toCIDR": ranges, "toPorts": ports}]))
    (problem,) = town.mesh.call("reconcile", timeout=60)["problems"]
    assert "map policy takes 65,536 entries" in problem
    assert town.mesh.agent
    pid = town.mesh.agent.pid

    def used() -> float:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    time.sleep(4 * PATIENCE)  # the first retries come soon
    before, since = used(), time.monotonic()
    time.sleep(6 * PATIENCE)
    share = (used() - before) / (time.monotonic() - since)
    print(f"{share:.0%} of a processor while a configuration does not fit")
    assert share < 0.5
    town.mesh.delete("wide")
    assert town.mesh.call("reconcile", timeout=60)["problems"] == []


def test_an_agent_that_is_asked_while_it_ends_says_nothing_wrong(town: Town) -> None:
    for _ in range(3):
        assert town.mesh.agent
        town.node.popen(["sh", "-c", "for i in $(seq 40); do curl -s 127.0.0.1:9965/metrics > /dev/null; done"])
        town.mesh.call("status")
        town.mesh.agent.send_signal(signal.SIGTERM)
        assert town.mesh.agent.wait(timeout=30 * PATIENCE) == 0
        town.mesh.agent = None
        town.mesh.start()
    log = town.mesh.log.read_text()
    assert "Traceback" not in log and "Bad file descriptor" not in log
    assert town.mesh.call("status")["problems"] == []
    town.mesh.apply("policy-0", nobody("shut", "server", "ingress"))
    assert town.mesh.call("reconcile")["problems"] == []
    assert town.connect("client", 4741) == "EPERM"
    town.mesh.apply("policy-0", CLOSED)
    assert town.mesh.call("reconcile")["problems"] == []
