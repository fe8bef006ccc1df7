"""Where the node proxy stands: it is made whole, adopted, mended, and taken away whole, also after a crash."""

import ctypes
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from loader import netns
from loader.interception import ground, inner
from tests.hosts import Node, cleanup
from tests.hosts.wait import PATIENCE
from tests.kernel.segments import Far
from tests.kernel.standing import PORT, is_right, left, look, prepare, rebooted, remove, run_dir, transparent

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).resolve().parents[2]
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def node() -> Iterator[Node]:
    with Node("ground") as made:
        yield made


def test_what_is_there_is_adopted(node: Node) -> None:
    first = prepare(node)
    assert len(first.interface) <= 15
    before, inode = look(first, node), os.stat(first.netns).st_ino
    is_right(before)
    assert prepare(node) == first
    assert os.stat(first.netns).st_ino == inode and look(first, node) == before
    prepare(node, 8900)
    assert [look(first, node)[side]["mtu"] for side in ("in", "out")] == [8900, 8900]


def own_namespace_there(made: ground.Ground) -> None:
    rebooted(made)
    source, kind = b"/proc/thread-self/ns/net", 4096
    assert _libc.mount(source, os.fsencode(made.netns), None, kind, None) == 0


def no_interface(made: ground.Ground) -> None:
    with IPRoute() as ipr:
        ipr.link("del", index=made.ifindex)


def another_interface(made: ground.Ground) -> None:
    no_interface(made)
    with IPRoute() as ipr:
        ipr.link("add", ifname=made.interface, kind="bridge")


def crossed(made: ground.Ground) -> None:
    """Its own name, but led into another interface of the namespace."""
    with IPRoute(netns=str(made.netns)) as ipr:
        index = ipr.link_lookup(ifname="eth0")[0]
        ipr.link("set", index=index, state="down")
        ipr.link("set", index=index, ifname="other")
        ipr.link("add", ifname="eth0", kind="bridge")


def disarranged(made: ground.Ground) -> None:
    with IPRoute(netns=str(made.netns)) as ipr:
        index = ipr.link_lookup(ifname="eth0")[0]
        ipr.flush_rules(family=socket.AF_INET, table=100)
        ipr.flush_routes(family=socket.AF_INET6, table=100)
        ipr.addr("add", index=index, address="192.0.2.1", prefixlen=24)
        ipr.link("set", index=index, state="down", address="02:00:00:00:00:09", arp=True, mtu=1400)


def no_cgroup(made: ground.Ground) -> None:
    os.rmdir(made.cgroup)


@pytest.mark.parametrize(
    "harm", [rebooted, own_namespace_there, no_interface, another_interface, crossed, disarranged, no_cgroup]
)
def test_what_is_wrong_is_mended(node: Node, harm: Callable[[ground.Ground], None]) -> None:
    first = prepare(node)
    netns.inside(node.netns, lambda: harm(first))
    again = prepare(node)
    is_right(look(again, node))
    assert dataclasses.replace(again, ifindex=first.ifindex, cookie=first.cookie, nsid=first.nsid) == first
    assert not netns.is_host(str(again.netns))


def test_every_address_is_its_own(node: Node, family: int) -> None:
    made = prepare(node)
    with (
        netns.inside(str(made.netns), lambda: transparent(family)) as listener,
        netns.inside(node.netns, lambda: Far(made.interface, family, PORT)) as far,
    ):
        far.connect()
        taken, peer = listener.accept()
        assert taken.getsockname()[:2] == (far.server, PORT) and peer[:2] == (far.client, far.port)
        taken.close()


def test_a_connection_may_bear_any_address(node: Node, family: int) -> None:
    """What the proxy sends in a client's name leaves by its interface, from a port below those of pods."""
    made = prepare(node)
    with netns.inside(node.netns, lambda: Far(made.interface, family, PORT)) as far:

        def begin() -> socket.socket:
            begun = socket.socket(socket.AF_INET if family == 4 else socket.AF_INET6)
            level, option = (socket.SOL_IP, 19) if family == 4 else (socket.IPPROTO_IPV6, 75)
            begun.setsockopt(level, option, 1)
            begun.setblocking(False)
            begun.bind((far.server, 0))
            begun.connect_ex((far.client, far.port))
            return begun

        with netns.inside(str(made.netns), begin) as begun:
            source, flags = far.await_syn()
            assert source == begun.getsockname()[1] < 32768 and flags == 0x02


def test_what_is_gone_is_no_error(node: Node) -> None:
    remove(node)
    made = prepare(node)
    rebooted(made)
    remove(node)
    assert left(made, node) == []
    remove(node)


def test_it_is_removed_from_elsewhere_too(node: Node) -> None:
    """Whoever uninstalls in another network namespace leaves no interface in the agent's."""
    made = prepare(node)
    ground.remove(run_dir(node), node.pins)
    assert left(made, node) == []


CRASH = """
import json, os, signal, sys
from tests.hosts import Node
from loader import netns
from loader.interception import ground
node = Node("crash").__enter__()
made = netns.inside(node.netns, lambda: ground.prepare(node.directory / "run"))
print(json.dumps([str(made.netns), made.cgroup]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_test_leaves_is_swept() -> None:
    ran = subprocess.run([sys.executable, "-c", CRASH], capture_output=True, text=True, cwd=ROOT, timeout=60 * PATIENCE)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    paths = [Path(name) for name in json.loads(ran.stdout)]
    assert all(path.exists() for path in paths) and netns.is_namespace(str(paths[0]))
    assert cleanup.sweep() == []
    assert not any(path.exists() for path in paths) and not paths[0].parents[1].exists()


def test_the_address_is_the_one_that_the_kernel_writes() -> None:
    text = (ROOT / "bpf/detour.h").read_text()
    octets = ", ".join(f"0x{octet}" for octet in inner.MAC.split(":"))
    assert f"#define PROXY_MAC {{{octets}}}" in text
