"""What the agent does when what its files name is another thing than before, or not the pod's at all."""

import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from control.agent import lastgood
from control.source import directory
from loader import abi, attach, bpf, programs
from loader.record import pack_addr
from tests.hosts import Mesh, Node, Pod, namespaces
from tests.hosts.wait import wait_until
from tests.kernel.puppet import Puppet
from tests.kernel.street import policy

CLOSED = policy("closed", "server", ingress=[{"fromEndpoints": [{"matchLabels": {"app": "nobody"}}]}])
TOO_MANY = 65  # programs of one kind that one cgroup takes: 64 (include/linux/bpf-cgroup.h)


class Town:
    """Nobody may call server. bare is no Workload: its calls are judged at the server's interface alone."""

    def __init__(self, node: Node, mesh: Mesh) -> None:
        self.node, self.mesh = node, mesh
        self.bare = Puppet(node.pods["bare"])

    def __getitem__(self, name: str) -> Pod:
        return self.node.pods[name]

    def write(self, pod: str, **spec: Any) -> list[str]:
        document = self[pod].workload_yaml()
        document["spec"] |= spec
        self.mesh.apply(f"workload-{pod}", document)
        return list(self.mesh.call("reconcile")["problems"])

    def mend(self) -> None:
        for name in ("client", "server"):
            self.mesh.apply(f"workload-{name}", self[name].workload_yaml())
        assert self.mesh.call("reconcile")["problems"] == []

    def call(self, puppet: Puppet) -> str:
        return str(puppet.do("result = connect(ip, 4801, 0.5)[0]", ip=self["server"].ip))

    def is_closed(self) -> bool:
        return self.call(self.bare) == "timeout"

    def has_filters(self, interface: str, of: Callable[[Iterable[bool]], bool] = any) -> bool:
        words = ["tc", "filter", "show", "dev", interface]
        return of("progs/" in self.node.run([*words, way]).stdout for way in ("ingress", "egress"))

    def replug(self, name: str) -> None:
        with IPRoute(netns=self.node.netns) as ipr:
            ipr.link("del", index=ipr.link_lookup(ifname=self[name].interface)[0])
        self.node.plug(self[name])

    def problems(self) -> list[str]:
        return list(self.mesh.call("status")["problems"])


class Edits:
    """One edit after the other, each of a policy that selects nobody."""

    def __init__(self, town: Town) -> None:
        self._town, self._stop = town, threading.Event()
        self._thread = threading.Thread(target=self._edit)

    def _edit(self) -> None:
        for name in itertools.cycle(("left", "right")):
            self._town.mesh.apply("edits", policy(name, "nobody", ingress=[{}]))
            if self._stop.wait(0.3):
                break

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._town.mesh.delete("edits")


@pytest.fixture(scope="module")
def whole() -> Iterator[Town]:
    with Node("changes") as node:
        for name in ("client", "server", "bare"):
            node.pod(name)
        with Mesh(node, [CLOSED], pods=[node.pods[name] for name in ("client", "server")]) as mesh:
            yield Town(node, mesh)


@pytest.fixture
def town(whole: Town) -> Iterator[Town]:
    whole.mend()
    assert whole.is_closed()
    yield whole
    whole.mend()
    assert whole.is_closed()


# --- cgroups ---------------------------------------------------------------------------------------------------------


def test_a_cgroup_that_is_made_again_at_once_has_its_hooks_again(town: Town) -> None:
    """As a service manager does when it starts a service again."""
    client = town["client"]
    before = os.stat(client.cgroup).st_ino
    client.kill_all()
    wait_until(lambda: not client.pids(), "it is empty")
    os.rmdir(client.cgroup)
    os.mkdir(client.cgroup)
    assert os.stat(client.cgroup).st_ino != before
    puppet = Puppet(client)
    wait_until(lambda: town.call(puppet) == "EPERM", "its hooks are there", 5)
    assert town.problems() == []


def test_a_cgroup_by_a_link_that_leads_elsewhere_now_has_its_hooks_there(town: Town) -> None:
    client, link = town["client"], town.node.directory / "cgroup"
    other = Path(client.cgroup).with_name("other")
    other.mkdir()
    link.symlink_to(other)
    try:
        assert town.write("client", cgroup=str(link)) == []
        puppet = Puppet(client)
        assert town.call(puppet) == "timeout"  # not in that cgroup
        link.unlink()
        link.symlink_to(client.cgroup)
        wait_until(lambda: town.call(puppet) == "EPERM", "its hooks are there", 5)
    finally:
        town.mend()
        link.unlink()
        other.rmdir()


def test_a_cgroup_that_was_full_is_seen_to_have_room(town: Town) -> None:
    full = Path(town["client"].cgroup) / "full"
    full.mkdir()
    kind, where = int(programs.ProgType.CGROUP_SOCK_ADDR), int(programs.AttachType.CGROUP_INET4_CONNECT)
    ours = [spec for spec in programs.PROGRAMS if spec.target is programs.Target.CGROUP]
    held = [bpf.load_program(kind, bpf.exit_with(1), where, "sm_filler")]
    target = os.open(full, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert attach.refusal(str(full), ours) == ""
        with pytest.raises(OSError):
            for _ in range(TOO_MANY):
                held.append(bpf.link_create(held[0], target, where))
        words = attach.refusal(str(full), ours)
        assert words.startswith(f"cgroup {full}: cannot attach connect4: ") and "Argument list too long" in words
        os.close(held.pop())
        assert attach.refusal(str(full), ours) == ""
        held.append(bpf.link_create(held[0], target, where))  # the trial left nothing there
    finally:
        for fd in (*held, target):
            os.close(fd)
        full.rmdir()


# --- filters ----------------------------------------------------------------------------------------------------------


def test_filters_that_somebody_took_off_are_put_back_while_edits_go_on(town: Town) -> None:
    with Edits(town), IPRoute(netns=town.node.netns) as ipr:
        time.sleep(1.5)  # the agent's looks would be put off by now
        ipr.tc("del", "clsact", ipr.link_lookup(ifname=town["server"].interface)[0])
        wait_until(lambda: town.has_filters(town["server"].interface, all), "they are back", 2.5)
    assert town.is_closed()


# --- interfaces and namespaces that are not the pod's ----------------------------------------------------------------


@pytest.mark.parametrize("mistake", ["loopback", "another's", "the node's", "the host's"])
def test_what_is_not_the_pods_gets_no_hooks(town: Town, mistake: str) -> None:
    """It is told which field is wrong, and that the pod is open; one that has hooks keeps them meanwhile."""
    new = town.node.pod("new")
    spec, field = {
        "loopback": ({"interface": "lo"}, "spec.interface: lo is a loopback interface (allowed: "),
        "another's": ({"interface": "vh-bare"}, "spec.interface: vh-bare is the end of a veth whose other end is not"),
        "the node's": ({"netns": town.node.netns}, f"spec.netns: {town.node.netns} is the network namespace of the"),
        "the host's": ({"netns": f"/proc/{os.getpid()}/ns/net"}, "spec."),  # /proc/1 may be shut to tell by
    }[mistake]
    try:
        (problem,) = town.write("new", **spec)
        assert problem.startswith(f"workload-new.yaml:1: Workload default/new: {field}")
        assert problem.endswith("; the workload is NOT under policy, and what traffic it has passes")
        assert not any(town.has_filters(interface) for interface in ("lo", "vh-bare", "vh-new"))
        assert town.write("new") == []
        assert town.has_filters("vh-new")
        (problem,) = town.write("new", **spec)
        assert field in problem and problem.endswith("until it is mended, the last good values stay")
        time.sleep(1.5)  # one look
        assert town.has_filters("vh-new") and not town.has_filters("lo") and not town.has_filters("vh-bare")
    finally:
        town.mesh.delete("workload-new")
        town.mend()
        town.node.remove(new)


def test_two_with_each_others_interface_are_told(town: Town) -> None:
    pods = [town.node.pod(name) for name in ("left", "right")]
    try:
        for one, other in (pods, pods[::-1]):
            problems = town.write(one.name, interface=other.interface)
        assert len(problems) == 2 and all("whose other end is not in network namespace" in each for each in problems)
        assert not any(town.has_filters(pod.interface) for pod in pods)
    finally:
        for pod in pods:
            town.mesh.delete(f"workload-{pod.name}")
        town.mend()
        for pod in pods:
            town.node.remove(pod)


@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "while-no-agent-runs"])
def test_an_interface_that_is_renamed_keeps_its_pod_under_policy(town: Town, is_watched: bool) -> None:
    """Whoever renames it takes nothing off it, and the agent does not either; what is taken off is put back."""
    interface = town["server"].interface
    if not is_watched:
        town.mesh.kill()
    town.node.rename(interface, "renamed")
    if not is_watched:
        town.mesh.start()
    (problem,) = town.mesh.call("reconcile")["problems"]
    assert f"interface {interface}: not in" in problem and problem.endswith("the last good values stay")
    assert town.is_closed() and town.has_filters("renamed", all)
    town.node.run(["tc", "filter", "del", "dev", "renamed", "egress"])
    wait_until(lambda: town.has_filters("renamed", all), "they are back")
    town.mesh.kill()
    town.mesh.start()
    assert town.is_closed()
    town.node.rename("renamed", interface)
    assert town.mesh.call("reconcile")["problems"] == [] and town.is_closed()


@pytest.mark.parametrize("is_watched", [True, False], ids=["watched", "while-no-agent-runs"])
def test_a_renamed_interface_without_filters_is_the_pods_while_it_leads_there(town: Town, is_watched: bool) -> None:
    """Who takes them off and renames it at once gets nobody past policy either."""
    interface = town["server"].interface
    if not is_watched:
        town.mesh.kill()
    town.node.rename(interface, "renamed", before=f"tc qdisc del dev {interface} clsact")
    try:
        if not is_watched:
            town.mesh.start()
        (problem,) = town.mesh.call("reconcile")["problems"]
        assert problem.endswith("the last good values stay")
        wait_until(lambda: town.has_filters("renamed", all), "they are back")
        assert town.is_closed()
    finally:
        town.node.rename("renamed", interface)


def test_a_name_that_is_no_text_keeps_no_edit_from_its_effect(town: Town) -> None:
    """Any interface of the host may have one, and the addresses of all are asked for."""
    interface, name = town["server"].interface, os.fsdecode(b"\xff\x1c\xc2\x85")
    town.node.rename(interface, name)
    try:
        (problem,) = town.mesh.call("reconcile")["problems"]
        assert problem.endswith("the last good values stay") and town.is_closed()
        town.mesh.delete("policy-0")
        assert town.mesh.call("reconcile")["problems"] == [problem] and not town.is_closed()
        assert "bug" not in town.mesh.log.read_text()
    finally:
        town.node.rename(name, interface)
        town.mesh.apply("policy-0", CLOSED)
    assert town.mesh.call("reconcile")["problems"] == [] and town.is_closed()


def test_an_interface_that_is_no_veth_is_taken_as_it_is(town: Town) -> None:
    """Of another kind nobody can tell whose it is."""
    with IPRoute(netns=town.node.netns) as ipr:
        ipr.link("add", ifname="vh-other", kind="bridge")
    new = town.node.pod("new")
    try:
        assert town.write("new", interface="vh-other") == []
        assert town.has_filters("vh-other")
    finally:
        town.mesh.delete("workload-new")
        town.mend()
        town.node.remove(new)
        town.node.run(["ip", "link", "del", "vh-other"])


def make_again(node: Node, pod: Pod) -> None:
    """Make a pod's namespace anew at both ends of the same veth; the kernel gives out the first number that is free."""

    def move(source: str, target: str, name: str, new_name: str) -> None:
        fd = os.open(target, os.O_RDONLY)
        with IPRoute(netns=source) as ipr:
            index = ipr.link_lookup(ifname=name)[0]
            ipr.link("set", index=index, state="down")
            ipr.link("set", index=index, ifname=new_name)
            ipr.link("set", index=index, net_ns_fd=fd)
        os.close(fd)

    pod.kill_all()
    name, inode = Path(pod.netns).name, os.stat(pod.netns).st_ino
    move(pod.netns, node.netns, "eth0", "parked")

    def is_again() -> bool:
        namespaces.remove(name)
        time.sleep(0.3)  # it ends some time after its last user
        return os.stat(namespaces.create(name)).st_ino == inode

    wait_until(is_again, "the number is given out again")
    move(node.netns, pod.netns, "parked", "eth0")
    with IPRoute(netns=pod.netns) as ipr:
        index = ipr.link_lookup(ifname="eth0")[0]
        ipr.link("set", index=index, state="up")
        ipr.addr("add", index=index, address=pod.ip, prefixlen=node.subnet.prefixlen)


def test_a_namespace_that_is_made_again_with_the_same_number_is_seen(town: Town) -> None:
    """Its interface is the old one's, too; the hooks of its cgroup know a namespace by its cookie."""
    new = town.node.pod("new")
    try:
        assert town.write("new") == []
        assert town.call(Puppet(new)) == "EPERM"
        make_again(town.node, new)
        puppet = Puppet(new)
        wait_until(lambda: town.call(puppet) == "EPERM", "its calls are judged again", 5)
    finally:
        town.mesh.delete("workload-new")
        town.mend()
        town.node.remove(new)


# --- an agent that does not know what was in force -------------------------------------------------------------------


@pytest.fixture(params=["record", "run directory"])
def waiting(town: Town, request: pytest.FixtureRequest) -> Iterator[str]:
    """An agent that started without a record of what was in force, and with a broken file."""
    town.mesh.kill()
    if request.param == "record":
        (town.mesh.run_dir / lastgood.NAME).unlink()
    else:
        shutil.rmtree(town.mesh.run_dir)
    (town.mesh.config / "zz-broken.yaml").write_text("{")
    try:
        town.mesh.start()
        (problem,) = town.problems()
        assert problem.endswith(directory.ADOPTED)
        yield str(request.param)
    finally:
        (town.mesh.config / "zz-broken.yaml").unlink()
        if town.mesh.agent is None:
            town.mesh.start()
        town.mend()


def test_a_waiting_agent_puts_filters_back(town: Town, waiting: str) -> None:
    links = sorted(path.name for path in (town.node.pins / "links").iterdir())
    interface = town["server"].interface
    for times in range(2):
        for way in ("ingress", "egress"):
            town.node.run(["tc", "filter", "del", "dev", interface, way])
        wait_until(lambda: town.has_filters(interface, all), f"they are back, {times}", 5)
        assert town.is_closed()
    assert sorted(path.name for path in (town.node.pins / "links").iterdir()) == links


def test_a_waiting_agent_follows_an_interface_to_its_new_name(town: Town, waiting: str) -> None:
    """By its pod's name or, where that is lost, by our filters, which it has: that pod is under policy."""
    interface = town["server"].interface
    town.node.rename(interface, "renamed")
    try:
        assert not any("NOT under policy" in each for each in town.mesh.call("reconcile")["problems"])
        town.node.run(["tc", "filter", "del", "dev", "renamed", "egress"])
        wait_until(lambda: town.has_filters("renamed", all), "they are back", 5)
        assert town.is_closed() and not any("NOT under policy" in each for each in town.problems())
    finally:
        town.node.rename("renamed", interface)


@pytest.mark.parametrize("waiting", ["record"], indirect=True)
def test_a_waiting_agent_follows_an_interface_that_is_made_again(town: Town, waiting: str) -> None:
    (town.mesh.config / "zz-broken.yaml").write_text("[")  # an edit meanwhile
    town.replug("server")
    wait_until(lambda: town.has_filters(town["server"].interface, all), "it has its hooks", 5)
    assert town.is_closed()
    puppet = Puppet(town["client"])
    assert town.call(puppet) == "EPERM"
    with town.mesh.open_maps() as maps:
        ref = maps.endpoint_ips.get(abi.AddrKey(pack_addr(town["server"].ip)))
        found = maps.endpoints.get(abi.EndpointKey(ref.id)) if ref else None
        assert found and maps.endpoint_ifaces.get(abi.IfaceKey(found.ifindex)) == ref
    assert len(town.problems()) == 1
    with IPRoute(netns=town.node.netns) as ipr:
        ipr.link("del", index=ipr.link_lookup(ifname=town["server"].interface)[0])
    wait_until(lambda: len(town.problems()) == 2, "that it is gone is told", 5)
    assert town["server"].interface in town.problems()[1] and "default/server" in town.problems()[1]
    town.node.plug(town["server"])
    wait_until(lambda: len(town.problems()) == 1, "and that it is there again", 5)
    assert town.has_filters(town["server"].interface) and town.is_closed()


@pytest.mark.parametrize("waiting", ["run directory"], indirect=True)
def test_a_waiting_agent_without_names_tells_of_what_it_cannot_find(town: Town, waiting: str) -> None:
    town.replug("server")
    wait_until(lambda: any("NOT under policy" in each for each in town.problems()), "it is told", 5)
