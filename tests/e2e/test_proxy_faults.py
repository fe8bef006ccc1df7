"""What fails at either end of the node proxy is known at the other, as far as HTTP can tell, and nothing of it is left.

Who is slow is waited for, with no more of his bytes in a worker than a bound. All of it on one node, and across two
with mTLS, where a request passes two workers.
"""

import contextlib
import functools
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import Mesh, Pod, namespaces
from tests.hosts.site import meshed, nodes
from tests.hosts.wait import wait_until
from tests.programs import running

pytestmark = pytest.mark.e2e
Json = dict[str, Any]
PORT, RESETS_PORT, NOBODY = 8120, 8121, 8122
FLAGS = pytest.mark.parametrize("flag", ["--http1.1", "--http2-prior-knowledge"])
MIB = 256  # of a large body
MOST_HELD = 64  # MiB of it that are under way while nobody reads: those of all sockets, and the proxies' own
MOST_GROWN = 16 << 10  # KiB of the worker's memory
POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "faults", "namespace": "default"},
    "spec": {
        "endpointSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["beside", "server"]}]},
        "ingress": [
            {
                "fromEndpoints": [{"matchLabels": {"app": "client"}}],
                "toPorts": [
                    {
                        "ports": [{"port": str(port), "protocol": "TCP"} for port in (PORT, RESETS_PORT, NOBODY)],
                        "rules": {"http": [{"path": "/open/.*"}]},
                    }
                ],
            }
        ],
    },
}


@dataclass
class Place:
    client: Pod
    server: Pod
    mesh: Mesh  # of the server's node
    workers: list[int]  # the processes of both nodes' proxies
    seen: Path  # where the server writes what it has seen

    def url(self, path: str, port: int = PORT) -> str:
        return f"http://{self.server.ip}:{port}/open/{path}"

    def curl(self, *words: str) -> tuple[str, int]:
        """Return what curl printed, and how it ended."""
        done = self.client.run(["curl", "-sS", "-m", "10", *words], check=False)
        return done.stdout, done.returncode

    def is_led(self) -> bool:
        return self.status(self.url("x", NOBODY))[0] == "503"

    def status(self, *words: str) -> tuple[str, int]:
        return self.curl("-o", "/dev/null", "-w", "%{http_code}", *words)

    def connect(self) -> socket.socket:
        """Return a connection of the client's to the server."""
        return namespaces.inside(self.client.netns, lambda: socket.create_connection((self.server.ip, PORT), 10))

    def go_on(self, key: str) -> None:
        (self.seen / f"{key}.go").touch()

    def says(self, key: str) -> str:
        """Return what the server has seen of a request, "" while there is nothing."""
        path = self.seen / key
        return path.read_text() if path.exists() else ""

    def has_seen(self, key: str, what: str) -> bool:
        return self.says(key) == what

    def wait_record(self, path: str) -> Json:
        def is_it(flow: Json) -> bool:
            return str(flow.get("l7", {}).get("http", {}).get("url", "")).endswith(f"/open/{path}")

        return self.mesh.wait_flow(is_it, f"a record of {path}")

    def why(self, path: str) -> tuple[int, str]:
        """Return the status and the reason that are on record of a request."""
        flow = self.wait_record(path)
        return flow["l7"]["http"].get("code", 0), flow["extensions"]["value"]["sockmesh"].get("why", "")

    def open_files(self) -> list[int]:
        return [len(list(Path(f"/proc/{worker}/fd").iterdir())) for worker in self.workers]

    def memory(self, field: str) -> list[int]:
        """Return so many KiB of the workers' memory: VmRSS, or VmHWM for the most since it was last forgotten."""
        texts = [Path(f"/proc/{worker}/status").read_text() for worker in self.workers]
        return [int(each) for text in texts for each in re.findall(rf"{field}:\s+(\d+) kB", text)]


@pytest.fixture(scope="module")
def stages() -> Iterator[dict[str, Place]]:
    with nodes() as (near, far), contextlib.ExitStack() as stack:
        servers = {"beside": near.pod("beside", service_account="beside"), "elsewhere": far.pods["server"]}
        for name, pod in servers.items():
            seen = far.directory / name
            seen.mkdir()
            argv = [sys.executable, running.HERE / "src" / "faulty.py", PORT, RESETS_PORT, seen]
            stack.enter_context(running.running(pod, argv, RESETS_PORT, far.directory / f"{name}.log"))
        with meshed(near, far, "strict", [POLICY], workers=1) as site:
            masters = [each.pid for each in site.proxies]
            workers = [int(Path(f"/proc/{pid}/task/{pid}/children").read_text()) for pid in masters]
            meshes = {"beside": site.near_mesh, "elsewhere": site.far_mesh}
            places = {
                name: Place(site.client, pod, meshes[name], workers, far.directory / name)
                for name, pod in servers.items()
            }
            for place in places.values():
                wait_until(place.is_led, "HTTP is led to the proxy", 20)
            yield places
            assert all(Path(f"/proc/{worker}").exists() for worker in workers), "a worker has died of it"


@pytest.fixture(params=["beside", "elsewhere"])
def place(stages: dict[str, Place], request: pytest.FixtureRequest) -> Iterator[Place]:
    """Whatever fails, the workers have let go of its connections in the end, but for one that is kept for the next."""
    place = stages[request.param]
    for path in place.seen.iterdir():
        path.unlink()
    before = place.open_files()
    yield place

    def are_closed() -> bool:
        return all(now <= then + 1 for now, then in zip(place.open_files(), before, strict=True))

    wait_until(are_closed, "the workers have closed both ends", 15)


@FLAGS
def test_the_server_refuses(place: Place, flag: str) -> None:
    path = f"refused{flag}"
    assert place.status(flag, place.url(path, NOBODY)) == ("503", 0)
    assert place.why(path) == (503, "the server cannot be reached: Connection refused")


@FLAGS
def test_the_server_resets_before_it_answers(place: Place, flag: str) -> None:
    path = f"reset{flag}"
    assert place.status(flag, place.url(path, RESETS_PORT)) == ("503", 0)
    assert place.why(path) == (503, "the server is lost: Connection reset by peer")


def test_the_server_resets_when_it_has_read_the_request(place: Place) -> None:
    assert place.status(place.url("resets/it")) == ("503", 0)


@pytest.mark.parametrize("key", ["length-ends", "length-reset", "chunks-ends", "chunks-reset", "close-reset"])
def test_half_an_answer_is_never_taken_for_a_whole_one(place: Place, key: str) -> None:
    command = ["curl", "-sN", "-m", "10", "-w", "%{http_code}", place.url(f"breaks/{key}")]
    curl = place.client.popen(command, stdout=subprocess.PIPE)
    assert curl.stdout and curl.stdout.read(100) == b"x" * 100  # the half has come through
    place.go_on(key)
    rest, _ = curl.communicate(timeout=15)
    assert rest == b"200" and curl.returncode in (18, 56), curl.returncode  # not whole, or reset
    assert place.why(f"breaks/{key}")[1]


def test_the_end_of_the_connection_is_the_end_of_an_answer_that_says_so(place: Place) -> None:
    printed, code = place.curl("-o", str(place.seen / "got"), "-w", "%{http_code}", place.url("half-closes/end"))
    assert (printed, code) == ("200", 0)
    assert (place.seen / "got").stat().st_size == 1 << 20
    wait_until(lambda: place.says("end") == "0 ended", "the server hears of the client's end")


def test_the_client_ends_its_side_and_is_answered(place: Place) -> None:
    with place.connect() as sock:
        sock.sendall(b"GET /open/half-closes/client HTTP/1.1\r\nHost: a\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("rb") as file:
            assert file.read().endswith(bytes(range(256)))


def test_the_server_stalls_until_the_client_goes(place: Place) -> None:
    with place.connect() as sock:
        sock.sendall(b"GET /open/stalls/it HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: place.says("it") == "asked", "the server is asked")
    wait_until(lambda: place.says("it").startswith("0 "), "the server hears that the client is gone")
    assert place.why("stalls/it") == (502, "the client ended, and then the server before its answer was whole")


def _linger(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("leave", [_linger, lambda sock: None], ids=["reset", "end"])
def test_the_client_vanishes_amid_a_body(place: Place, leave: Callable[[socket.socket], None]) -> None:
    with place.connect() as sock:
        sock.sendall(b"POST /open/stalls/half HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
        wait_until(lambda: place.says("half") == "asked", "the server is asked")
        leave(sock)
    wait_until(lambda: place.says("half").split()[0].isdigit(), "the server hears that the client is gone")


@pytest.mark.parametrize("field", ["Connection: close", "Expect: 100-continue", "X: y"])
def test_a_refused_client_vanishes_amid_its_body(place: Place, field: str) -> None:
    """Several of them: nothing is left of any."""
    for _ in range(5):
        with place.connect() as sock, sock.makefile("rb") as file:
            sock.sendall(f"POST /shut HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n{field}\r\n\r\nhalf".encode())
            assert file.readline() == b"HTTP/1.1 403 Forbidden\r\n"


def test_an_answer_before_the_body_is_read(place: Place) -> None:
    """The body follows it, and on the same connection the next request."""
    with place.connect() as sock, sock.makefile("rb") as file:
        for key in ("one", "two"):
            sock.sendall(f"POST /open/early/{key} HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n".encode())
            assert b"".join(file.readline() for _ in range(3)).startswith(b"HTTP/1.1 200 OK\r\n")
            assert file.read(5) == b"early"
            sock.sendall(bytes(100_000))
            place.go_on(key)
            wait_until(functools.partial(place.has_seen, key, "100000"), "the server has the body")


def test_an_answer_in_place_of_reading_the_body(place: Place) -> None:
    (place.seen / "body").write_bytes(bytes(20_000_000))
    words = ["-H", "Expect:", "--data-binary", f"@{place.seen}/body", place.url("early-end/it")]
    assert place.status(*words) == ("413", 0)
    wait_until(lambda: place.says("it").split()[-1:] != [], "the server hears of the end")


@pytest.mark.parametrize("way", ["down", "up"])
def test_a_large_body_and_a_slow_reader(place: Place, way: str) -> None:
    for worker in place.workers:
        Path(f"/proc/{worker}/clear_refs").write_text("5")  # forget the most that there was
    before = place.memory("VmRSS")
    argv = [sys.executable, str(running.HERE / "src" / "bulk.py"), way, place.server.ip, str(PORT), str(MIB)]
    client = place.client.popen([*argv, str(place.seen)], stdout=subprocess.PIPE)
    last: list[str] = []

    def stands() -> bool:
        """Whether nothing has moved for as long as twenty looks, a tenth of a second apart."""
        last.append(place.says("sent"))
        return len(last) > 20 and last[-1] != "" and len(set(last[-20:])) == 1

    wait_until(stands, "nobody reads, and so nobody sends", 60, pause=0.1)
    assert 0 < int(place.says("sent")) < MOST_HELD
    place.go_on(str(MIB))
    out, _ = client.communicate(timeout=120)
    assert json.loads(out) == {"status": "200", "good": MIB}
    assert all(most - then < MOST_GROWN for most, then in zip(place.memory("VmHWM"), before, strict=True))
