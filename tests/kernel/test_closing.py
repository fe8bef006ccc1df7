"""However its two ends are timed, a connection is on record as opened once and as closed once."""

import contextlib
import ctypes
import random
import socket
import struct
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.pairs import Maker
from tests.kernel.street import mesh_part

ONCE = "open by sockops, close by sockops"
AT_ONCE = 1500 if PATIENCE == 1 else 100
ABORTED = 20
TURNS = 2000  # of an empty loop: about as long as a close takes the kernel
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset
SO_COOKIE = 57  # of a socket, and in its records: a port may come back
SOURCE = Path(__file__).with_name("closing.c")


@dataclass
class Place:
    """A listener in one pod, and a program in another that calls it."""

    mesh: Mesh
    client: Maker
    listener: socket.socket

    def call(self) -> socket.socket:
        made = self.client.socket(socket.AF_INET)
        made.settimeout(10 * PATIENCE)
        made.connect(self.listener.getsockname())
        return made

    def stories(self, since: int, count: int) -> Counter[str]:
        """Wait until so many connections are on record to their ends; return what was told of how many of them."""

        def told() -> dict[int, list[str]]:
            out: dict[int, list[str]] = defaultdict(list)
            for flow in self.mesh.flows()[since:]:
                out[int(flow["socket_cookie"])].append(f"{mesh_part(flow)['event']} by {mesh_part(flow)['hook']}")
            return out

        def ended(sockets: int) -> bool:
            stories = told()
            return len(stories) == sockets and all(len(story) > 1 for story in stories.values())

        wait_until(lambda: ended(count), "each connection's end is on record", 30)
        with self.call() as last:  # what is told of it comes after all that there is to be told of the others
            cookie = int.from_bytes(last.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)
            self.listener.accept()[0].close()
        wait_until(lambda: ended(count + 1), "the last one's, too", 30)
        return Counter(", ".join(story) for of, story in told().items() if of != cookie)


@contextlib.contextmanager
def opened(slow: bool = False) -> Iterator[Place]:
    with Node("closing") as node:
        client, server = Maker(node.pod("client")), Maker(node.pod("server"))
        if slow:
            with IPRoute(netns=node.netns) as ipr:
                index = ipr.link_lookup(ifname=server.pod.interface)[0]
                ipr.tc("add", "tbf", index, 0x10000, rate="64kbit", burst=100, latency="5s")
        with Mesh(node) as mesh, server.socket(socket.AF_INET) as listener:
            listener.bind((server.pod.ip, 4581))
            listener.listen(ABORTED)
            listener.settimeout(10 * PATIENCE)
            yield Place(mesh, client, listener)


@pytest.fixture(scope="module")
def place(root: None) -> Iterator[Place]:
    with opened() as made:
        yield made


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    out = tmp_path_factory.mktemp("closing") / "closing.so"
    words = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread", "-o", str(out), str(SOURCE)]
    subprocess.run(words, check=True)
    return ctypes.CDLL(str(out))


@pytest.mark.parametrize("by_reset", [True, False], ids=["RST", "FIN"])
def test_both_ends_close_at_the_same_instant(place: Place, library: ctypes.CDLL, by_reset: bool) -> None:
    before = len(place.mesh.flows())
    for _ in range(AT_ONCE):
        a = place.call()
        b, _ = place.listener.accept()
        for end in (a, b) if by_reset else ():
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        turns = (ctypes.c_long(random.randrange(TURNS)) for _ in range(2))
        assert library.close_both(a.detach(), b.detach(), *turns) == 0
    assert place.stories(before, AT_ONCE) == {ONCE: AT_ONCE}


def test_a_caller_leaves_before_its_callee_knows_that_it_is_there() -> None:
    """On a slow link the handshake's last packet waits, while the caller has ended the connection already."""
    with opened(slow=True) as place:
        for _ in range(ABORTED):
            with place.call() as a:
                a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        for _ in range(ABORTED):
            place.listener.accept()[0].close()
        assert place.stories(0, ABORTED) == {ONCE: ABORTED}
