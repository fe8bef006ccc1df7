"""Workers and proxies of two nodes come and go under calls between them: none that begins meanwhile is refused."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from loader.interception import ground
from tests.e2e.test_interception import rules
from tests.e2e.test_mtls import _SERVER
from tests.hosts import Mesh, Node, Pod
from tests.hosts.proxy import proxy
from tests.hosts.site import Site, meshed, nodes
from tests.hosts.wait import wait_until

pytestmark = pytest.mark.e2e
Json = dict[str, Any]

# Three threads call anew for each talk, told to stop they say when each began that was not as it should be.
_CALLS = """
import hashlib, json, socket, sys, threading, time
ip, me = sys.argv[1:]
wanted = f"welcome {me}\\nx{hashlib.sha256(b'x').hexdigest()}".encode()
done, ok, wrong = threading.Event(), [0], []
def call():
    while not done.is_set():
        began, said = time.monotonic(), b""
        try:
            with socket.create_connection((ip, 7000), 20) as s:
                s.sendall(b"x")
                s.shutdown(socket.SHUT_WR)
                while data := s.recv(1000):
                    said += data
            if said == wanted:
                ok[0] += 1
            else:
                wrong.append((began, repr(said)))
        except OSError as error:
            wrong.append((began, repr(error)))
threads = [threading.Thread(target=call) for _ in range(3)]
for each in threads: each.start()
print("begun", flush=True)
for _ in sys.stdin: print(ok[0], flush=True)
done.set()
for each in threads: each.join()
print(json.dumps(wrong))
"""
# One talk, a word for each line that it is told; "lost" when it is reset.
_TALK = """
import socket, sys
s = socket.create_connection((sys.argv[1], 7000), 20)
s.recv(100)
print("begun", flush=True)
for line in sys.stdin:
    try:
        s.sendall(line.encode())
        said = s.recv(100)
    except OSError:
        said = b""
    print(said.decode().strip() or "lost", flush=True)
"""


@dataclass
class Place:
    site: Site
    stack: contextlib.ExitStack  # of proxies that were started later

    def workers(self, mesh: Mesh) -> list[int]:
        """Return the workers of a node's proxies, and of those that drain."""
        where = ground.cgroup_path(mesh.run_dir)
        assert where
        pids = [int(line) for line in (where / "cgroup.procs").read_text().split()]
        return [pid for pid in pids if _is_worker(pid)]

    def upgrade(self, node: Node, mesh: Mesh, *words: str) -> subprocess.Popen[Any]:
        """Start a proxy beside the one of a node, which has no long streams; return when it is alone."""
        before = self.workers(mesh)
        started = self.stack.enter_context(proxy(node, mesh, *words))
        wait_until(lambda: not set(before) & set(self.workers(mesh)), "those before have ended", 30)
        return started


def _is_worker(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"l7proxy.worker" in file.read()
    except OSError:
        return False


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    policy = rules("ingress", "server", "client")
    policy["spec"]["ingress"].append(
        {
            "fromEndpoints": [{"matchLabels": {"app": "client"}}],
            "toPorts": [{"ports": [{"port": "7000", "protocol": "TCP"}]}],
        }
    )
    with nodes() as (near, far):
        far.pods["server"].popen([sys.executable, "-c", _SERVER])
        far.pods["server"].wait_listening(80)
        far.pods["server"].wait_listening(7000)
        with meshed(near, far, "strict", [policy]) as site, contextlib.ExitStack() as stack:
            yield Place(site, stack)


class Told:
    """A program in a pod that answers a line with a line."""

    def __init__(self, pod: Pod, code: str, *words: str) -> None:
        self.child = pod.popen([sys.executable, "-c", code, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.answer() == "begun"

    def answer(self) -> str:
        assert self.child.stdout
        line: bytes = self.child.stdout.readline()
        return line.decode().strip()

    def tell(self, line: str) -> str:
        assert self.child.stdin
        self.child.stdin.write(f"{line}\n".encode())
        self.child.stdin.flush()
        return self.answer()

    def end(self) -> str:
        """Return what it says at its end."""
        out, _ = self.child.communicate(timeout=60)
        return str(out.decode())


class Calls:
    """Calls all the time, in a `with` block. `wrong`: when each began, and what it met, after it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.wrong: list[tuple[float, str]] = []

    def __enter__(self) -> "Calls":
        self._told = Told(self._site.client, _CALLS, self._site.server.ip, self._site.client.ip)
        self.more()
        return self

    def more(self) -> None:
        """Return when some more have gone well."""
        before = int(self._told.tell("?"))
        wait_until(lambda: int(self._told.tell("?")) > before + 30, "calls go well", 30)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.wrong = [(began, what) for began, what in json.loads(self._told.end())]


@pytest.mark.parametrize("which", ["client's", "server's"])
def test_a_worker_that_dies_refuses_no_call_that_comes_after(place: Place, which: str) -> None:
    mesh = place.site.near_mesh if which == "client's" else place.site.far_mesh
    wait_until(lambda: len(place.workers(mesh)) == 2, "two workers are there", 30)
    with Calls(place.site) as calls:
        dead, _ = place.workers(mesh)
        began = time.monotonic()
        os.kill(dead, signal.SIGKILL)
        wait_until(lambda: dead not in place.workers(mesh), "it is gone")
        gone = time.monotonic()
        wait_until(lambda: len(place.workers(mesh)) == 2, "there are two again", 30)
        calls.more()
    assert [each for each in calls.wrong if each[0] > gone or each[0] < began - 1] == []
    assert len(calls.wrong) <= 3, "no more than were under way"


def test_an_upgrade_refuses_no_call(place: Place) -> None:
    for node, mesh in ((place.site.far, place.site.far_mesh), (place.site.near, place.site.near_mesh)):
        with Calls(place.site) as calls:
            place.upgrade(node, mesh, "--workers", "2")
            calls.more()
        assert calls.wrong == [], node.name


def test_streams_of_the_one_before_go_on_until_it_has_waited_long_enough(place: Place) -> None:
    site = place.site
    first = place.upgrade(site.far, site.far_mesh, "--workers", "2", "--drain-timeout", "3")
    talk = Told(site.client, _TALK, site.server.ip)
    assert talk.tell("one") == "one"
    place.stack.enter_context(proxy(site.far, site.far_mesh, "--workers", "2"))
    began = time.monotonic()
    assert talk.tell("two") == "two" and first.poll() is None
    first.wait(timeout=20)
    assert time.monotonic() - began < 10
    assert talk.tell("three") == "lost"
    site.far_mesh.wait_flow(lambda flow: "the node proxy ends, and waited 3 s" in json.dumps(flow), "it is on record")
    talk.end()
    again = Told(site.client, _TALK, site.server.ip)
    assert again.tell("again") == "again"
    again.end()
