"""What comes and goes under calls between two nodes: workers, proxies, policy, the pods themselves, and many bytes."""

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

from l7proxy.mesh import limits
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

# Takes one client, and reads all that it sends when told to.
_SLOW = """
import hashlib, socket, sys
listener = socket.create_server(("", 7100))
print("begun", flush=True)
s, _ = listener.accept()
sys.stdin.readline()
whole = hashlib.sha256()
while data := s.recv(1 << 18):
    whole.update(data)
s.sendall(whole.hexdigest().encode())
s.close()
print("done", flush=True)
"""
# Sends so many MiB, and says in a file how many it has got rid of.
_FLOOD = """
import hashlib, os, socket, sys
ip, count, told = sys.argv[1], int(sys.argv[2]), sys.argv[3]
whole, block = hashlib.sha256(), os.urandom(1 << 20)
with socket.create_connection((ip, 7100), 20) as s:
    print("begun", flush=True)
    s.settimeout(60)
    for n in range(count):
        s.sendall(block)
        whole.update(block)
        with open(told, "w") as file:
            file.write(str(n + 1))
    s.shutdown(socket.SHUT_WR)
    print(s.recv(100).decode() == whole.hexdigest())
"""
_MIB = 256


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


def policy(*ports: str) -> Json:
    """What the server takes of the client: requests on 80, and anything on these ports, or else on 7000 and 7100."""
    made = rules("ingress", "server", "client")
    named = [{"port": port, "protocol": "TCP"} for port in ports or ("7000", "7100")]
    peers = [{"matchLabels": {"app": "client"}}]
    made["spec"]["ingress"].append({"fromEndpoints": peers, "toPorts": [{"ports": named}]})
    return made


def _is_worker(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"l7proxy.worker" in file.read()
    except OSError:
        return False


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with nodes() as (near, far):
        far.pods["server"].popen([sys.executable, "-c", _SERVER])
        far.pods["server"].wait_listening(80)
        far.pods["server"].wait_listening(7000)
        with meshed(near, far, "strict", [policy()]) as site, contextlib.ExitStack() as stack:
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


# Asks, hears all of the answer and its end, and then neither ends nor closes.
_STAYS = """
import socket, sys
s = socket.create_connection((sys.argv[1], 80), 20)
s.sendall(b"GET /public/x HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
said = b""
while data := s.recv(1000):
    said += data
assert b" 200 OK" in said
print("begun", flush=True)
sys.stdin.read()
"""


def test_a_client_that_has_all_and_does_not_close_does_not_keep_the_one_before(place: Place) -> None:
    site = place.site
    first = place.upgrade(site.far, site.far_mesh, "--workers", "2", "--drain-timeout", "2")
    stays = Told(site.client, _STAYS, site.server.ip)
    place.stack.enter_context(proxy(site.far, site.far_mesh, "--workers", "2"))
    assert first.wait(timeout=15) == 0
    stays.end()


def test_a_stop_without_a_successor_is_told_at_the_clients_node_and_the_next_proxy_serves_at_once(place: Place) -> None:
    site = place.site
    log, mesh = site.far.directory / "proxy.log", site.near_mesh
    master = place.upgrade(site.far, site.far_mesh, "--workers", "2", "--drain-timeout", "2")
    talk = Told(site.client, _TALK, site.server.ip)
    assert talk.tell("one") == "one"
    since = len(mesh.flows())
    master.terminate()
    assert master.wait(timeout=20) == 0
    assert talk.tell("two") == "lost"
    talk.end()
    is_cut = lambda flow: "mTLS: the other node: the node proxy ends, and waited 2 s" in json.dumps(flow)  # noqa: E731
    assert mesh.wait_flow(is_cut, "it is on record", since=since)["destination"]["pod_name"] == "server"

    began = time.monotonic()
    late = site.client.run([sys.executable, "-c", _TALK, site.server.ip], check=False)
    assert "ConnectionResetError" in late.stderr and time.monotonic() - began < 2
    is_refused = lambda flow: "mTLS: no node proxy listens there" in json.dumps(flow)  # noqa: E731
    mesh.wait_flow(is_refused, "so is one that comes later", since=since)

    read = len(log.read_text())
    place.stack.enter_context(proxy(site.far, site.far_mesh, "--workers", "2"))
    whom = "what policy leads here, and other nodes' proxies at 172.31.255.2 port 4743"
    wait_until(lambda: whom in log.read_text()[read:], "it says that it serves", 30)
    began = time.monotonic()
    again = Told(site.client, _TALK, site.server.ip)
    assert again.tell("again") == "again" and time.monotonic() - began < 2
    again.end()


def lost_within_a_second(talk: Told) -> bool:
    """Tell whether a talk is over, by what its next word meets; nothing else tells its client."""
    began = time.monotonic()
    wait_until(lambda: talk.tell("?") == "lost", "the talk is over")
    return time.monotonic() - began < 1


def test_policy_that_turns_against_a_stream_ends_it(place: Place) -> None:
    site = place.site
    talk = Told(site.client, _TALK, site.server.ip)
    assert talk.tell("one") == "one"
    site.far_mesh.apply("policy-0", policy("7100"))
    site.far_mesh.settle()
    assert lost_within_a_second(talk)
    talk.end()
    site.far_mesh.wait_flow(lambda flow: "policy does not let" in json.dumps(flow), "it is on record")
    site.far_mesh.apply("policy-0", policy())
    site.far_mesh.settle()


def test_a_stream_ends_with_its_clients_pod_and_another_waits_until_the_servers_node_has_heard_of_it(
    place: Place,
) -> None:
    site, mesh = place.site, place.site.far_mesh
    talk = Told(site.client, _TALK, site.server.ip)
    assert talk.tell("one") == "one"
    known = mesh.config / "far-client.yaml"
    known.rename(away := mesh.node.directory / "far-client.away")
    mesh.settle()
    assert lost_within_a_second(talk)
    talk.end()

    def refusals() -> int:
        return sum("not the owner of the address" in json.dumps(flow) for flow in mesh.flows())

    wait_until(lambda: refusals() == 1, "it is on record")
    command = [sys.executable, "-c", _TALK, site.server.ip]
    began = time.monotonic()
    assert "ConnectionResetError" in site.client.run([*command], check=False).stderr
    assert time.monotonic() - began >= limits.OWNER_S
    wait_until(lambda: refusals() == 2, "so is one that was held in vain")

    waits = site.client.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_until(lambda: _established(site.client, 7000), "a call waits")
    away.rename(known)
    mesh.settle()
    assert waits.communicate(b"here\n", timeout=30)[0].split() == [b"begun", b"here"]
    assert refusals() == 2


def _established(pod: Pod, port: int) -> bool:
    return bool(pod.run(["ss", "-Htn", "state", "established", "dport", "=", f":{port}"]).stdout)


def test_many_bytes_to_who_reads_slowly_take_no_more_memory(place: Place) -> None:
    site = place.site
    told = site.near.directory / "sent"
    workers = place.workers(site.near_mesh) + place.workers(site.far_mesh)
    server = Told(site.server, _SLOW)
    before = {pid: _peak_kib(pid) for pid in workers}
    client = Told(site.client, _FLOOD, site.server.ip, str(_MIB), str(told))
    last, since = "", time.monotonic()
    while time.monotonic() - since < 0.7:  # until nothing moves: all that holds bytes between the two is full
        if (now := told.read_text() if told.exists() else "") != last:
            last, since = now, time.monotonic()
        time.sleep(0.01)
    assert 0 < int(last) < 64
    assert server.tell("go") == "done"
    assert client.end().split() == ["True"]
    grown = {pid: _peak_kib(pid) - before[pid] for pid in workers}
    print(f"stalled at {last} MiB; grown by KiB: {grown}")
    assert max(grown.values()) < 16 << 10, grown


def _peak_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
