"""What hangs on the node proxy's ground: it is replaced in place, follows a new ground, and does its work there."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader import abi, bpf, filters, mesh, netns, programs
from loader.errors import AttachFailed
from loader.interception import hooks
from tests.hosts import Host, Node
from tests.hosts.wait import wait_until
from tests.kernel.segments import Far
from tests.kernel.standing import left, prepare, rebooted, run_dir, transparent

pytestmark = pytest.mark.kernel


class Loaded:
    """A mesh in this process, for a node's namespace."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.ground = prepare(node)
        self.mesh = netns.inside(node.netns, lambda: mesh.Mesh.load(node.pins, run_dir(node)))

    def attach(self) -> None:
        netns.inside(self.node.netns, lambda: hooks.attach(self.mesh, self.ground))

    def link(self, function: str) -> tuple[int, int]:
        """Return a pinned link's id and its program's."""
        fd = bpf.get(self.node.pins / "links" / f"proxy-{function}")
        try:
            raw = bpf.info(fd, 64)
        finally:
            os.close(fd)
        return int.from_bytes(raw[4:8], "little"), int.from_bytes(raw[8:12], "little")

    def filter(self) -> filters.Hung | None:
        def ask() -> filters.Hung | None:
            with filters.Channel() as channel:
                return channel.at(self.ground.ifindex, programs.Target.INGRESS)

        return netns.inside(self.node.netns, ask)

    def id_of(self, function: str) -> int:
        return bpf.prog_info(self.mesh.program(function))[1]


@pytest.fixture(scope="module")
def loaded() -> Iterator[Loaded]:
    with Node("doors") as node:
        made = Loaded(node)
        made.attach()
        try:
            yield made
        finally:
            made.mesh.close()


def test_programs_hang_and_are_replaced_in_place(loaded: Loaded) -> None:
    asked = ("to_door", "who_asks", "sockops")
    before = {name: loaded.link(name) for name in asked}
    assert [program for _, program in before.values()] == [loaded.id_of(name) for name in asked]
    assert loaded.filter() == (loaded.id_of("from_proxy"), str(loaded.node.pins / "progs/from_proxy"))
    assert loaded.mesh.attached()["proxy"] == ["sockops", "to_door", "who_asks"]
    loaded.attach()
    assert {name: loaded.link(name) for name in asked} == before

    loaded.mesh.close()
    (run_dir(loaded.node) / "programs.sha256").write_text("another version's")
    loaded.mesh = netns.inside(loaded.node.netns, lambda: mesh.Mesh.load(loaded.node.pins, run_dir(loaded.node)))
    assert loaded.mesh.loaded.compiled
    loaded.attach()
    for name in asked:
        ident, program = loaded.link(name)
        assert ident == before[name][0] and program == loaded.id_of(name) != before[name][1]
    hung = loaded.filter()
    assert hung and hung.program == loaded.id_of("from_proxy")


def test_links_follow_a_new_ground(loaded: Loaded) -> None:
    before = {name: loaded.link(name)[0] for name in ("to_door", "who_asks")}
    netns.inside(loaded.node.netns, lambda: rebooted(loaded.ground))
    os.rmdir(loaded.ground.cgroup)
    loaded.ground = prepare(loaded.node)
    loaded.attach()
    assert all(loaded.link(name)[0] != before[name] for name in before)
    assert loaded.filter() == (loaded.id_of("from_proxy"), str(loaded.node.pins / "progs/from_proxy"))


def test_every_port_is_a_door(loaded: Loaded, family: int) -> None:
    with (
        netns.inside(str(loaded.ground.netns), lambda: transparent(family)) as listener,
        netns.inside(loaded.node.netns, lambda: Far(loaded.ground.interface, family, 443)) as far,
    ):
        for slot in range(abi.MAP_BY_NAME["doors"].max_entries // 2):
            key, value = slot.to_bytes(4, "little"), listener.fileno().to_bytes(8, "little")
            bpf.update(loaded.mesh.maps["doors"].fd, key, value)
        far.connect()
        taken, peer = listener.accept()
        assert taken.getsockname()[:2] == (far.server, 443) and peer[:2] == (far.client, far.port)
        taken.close()


def test_the_proxy_alone_learns_who_asks(loaded: Loaded) -> None:
    ask = f"import socket; print(len(socket.socket().getsockopt(0, 0x5e50, {abi.ProxyFacts.SIZE})))"
    proxy = Host("proxy", str(loaded.ground.netns), loaded.ground.cgroup)
    assert proxy.python(ask).stdout.strip() == str(abi.ProxyFacts.SIZE)
    anybody = Host("anybody", str(loaded.ground.netns), loaded.node.cgroup)
    assert "Protocol not available" in anybody.python(ask, check=False).stderr


def test_nothing_is_removed_under_a_running_proxy_and_everything_after(loaded: Loaded) -> None:
    """The module's last test of `loaded`: no mesh is left of it."""
    node, made = loaded.node, loaded.ground
    worker = Host("worker", str(made.netns), made.cgroup).popen(["sleep", "60"])
    pids = Path(made.cgroup, "cgroup.procs")
    wait_until(lambda: str(worker.pid) in pids.read_text(), "the worker is in its cgroup")
    before = left(made, node)
    with pytest.raises(AttachFailed, match=f"the node proxy still runs .pid {worker.pid}.: end it first"):
        netns.inside(node.netns, lambda: mesh.uninstall(node.pins, run_dir(node)))
    assert left(made, node) == before and (node.pins / "maps").is_dir()
    worker.kill()
    worker.wait()
    netns.inside(node.netns, lambda: mesh.uninstall(node.pins, run_dir(node)))
    assert left(made, node) == [] and not node.pins.exists()
