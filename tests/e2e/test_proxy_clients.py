"""Real clients and real servers with the node proxy between them: on one node, and across two with mTLS.

Each of them must find what it would find without a proxy, and what no rule allows is refused, on connections that live
on.
"""

import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hosts import Pod
from tests.hosts.site import meshed, nodes
from tests.hosts.wait import wait_until
from tests.programs import fronts, http, running

pytestmark = pytest.mark.e2e
Json = dict[str, Any]
Servers = tuple[Pod, dict[str, Pod]]  # who calls them, and they by where they are
FIRST, SECOND = "--http1.1", "--http2-prior-knowledge"
READ = r"/(small|large|huge|open/.*)(\?.*)?"
ROUNDS = 5  # of the clients that try everything
POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "fronts", "namespace": "default"},
    "spec": {
        "endpointSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["beside", "server"]}]},
        "ingress": [
            {
                "fromEndpoints": [{"matchLabels": {"app": "client"}}],
                "toPorts": [
                    {
                        "ports": [
                            {"port": str(port), "protocol": "TCP"} for both in fronts.PORTS.values() for port in both
                        ],
                        "rules": {
                            "http": [{"method": "GET|HEAD", "path": READ}, {"method": "POST", "path": "/open/.*"}]
                        },
                    }
                ],
            }
        ],
    },
}


@dataclass(frozen=True)
class Front:
    """A server in one version of HTTP, and who calls it."""

    client: Pod
    host: str
    port: int
    flag: str

    @property
    def kept(self) -> int:
        """How often curl can ask over one connection: curl 7.88 breaks off in HTTP/2, with no proxy either."""
        return 3 if self.flag == FIRST else 1

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    def answers(self) -> bool:
        return "200" in self.curl("-I", f"{self.origin}/small")[0]

    def curl(self, *words: str) -> tuple[str, str]:
        """Return what curl printed, and what it said of it."""
        done = self.client.run(["curl", "-sS", "-m", "20", self.flag, *words], check=False)
        return done.stdout, done.stderr


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """A client, and servers on its own node and on another one."""
    with nodes() as (near, far), contextlib.ExitStack() as stack:
        found = {"beside": near.pod("beside", service_account="beside"), "elsewhere": far.pods["server"]}
        for name, pod in found.items():
            directory = Path(far.directory / name)
            directory.mkdir()
            stack.enter_context(fronts.serve(pod, directory))
        with meshed(near, far, "strict", [POLICY]) as site:
            for pod in found.values():
                front = Front(site.client, pod.ip, fronts.PORTS["node"][0], FIRST)
                wait_until(front.answers, f"HTTP passes to {pod.name}", 20)
            yield site.client, found


WHERE = ("beside", "elsewhere")
NAMES = [f"{where} {name}" for where in WHERE for name in fronts.PORTS]


def front_of(servers: Servers, words: str, flag: str) -> Front:
    where, name = words.split()
    return Front(servers[0], servers[1][where].ip, fronts.PORTS[name][flag == SECOND], flag)


@pytest.fixture(params=NAMES)
def one(servers: Servers, request: pytest.FixtureRequest) -> Front:
    return front_of(servers, request.param, FIRST)


@pytest.fixture(params=[f"{name} {flag}" for flag in (FIRST, SECOND) for name in NAMES])
def front(servers: Servers, request: pytest.FixtureRequest) -> Front:
    words, _, flag = request.param.rpartition(" ")
    return front_of(servers, words, flag)


def test_curl_downloads(front: Front) -> None:
    for path in running.SIZES:
        assert http.fetch(front.client, f"{front.origin}/{path}", front.kept, front.flag) == http.wanted(
            path, front.kept
        )
    # No length is said: in chunks, or to the end of the stream.
    assert http.fetch(front.client, f"{front.origin}/open/stream", 1, front.flag) == http.wanted("large", 1)


def test_curl_uploads(front: Front, tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(running.body(running.LARGE))
    upload = ["--data-binary", f"@{tmp_path}/body"]
    for how in ("X-Length: is said", "Transfer-Encoding: chunked", "Expect: 100-continue"):
        words, url = [*upload, "-H", how], f"{front.origin}/open/echo"
        assert http.fetch(front.client, url, front.kept, front.flag, *words) == http.wanted("large", front.kept), how
        if front.flag == FIRST:  # in HTTP/2 curl 7.88 takes an answer amid its body for an error, nginx's own too
            words += ["-o", "/dev/null", "-w", "%{http_code}", f"{front.origin}/shut"]
            assert front.curl(*words) == ("403", ""), how


def test_curl_waits_for_a_100(one: Front) -> None:
    words = ["-v", "-H", "Expect: 100-continue", "--data-binary", "0123456789"]
    printed, said = one.curl(*words, f"{one.origin}/open/echo")
    assert printed == "0123456789" and re.findall(r"^< HTTP/1.1 (\d+)", said, re.M) == ["100", "200"]
    printed, said = one.curl(*words, f"{one.origin}/shut")
    assert printed.strip() == "Access denied" and re.findall(r"^< HTTP/1.1 (\d+)", said, re.M) == ["403"]
    assert "bytes data" not in said.partition("< HTTP/1.1 403")[0], "the body was not asked for"


def test_curl_asks_for_what_has_no_body(front: Front) -> None:
    """After each such answer another one comes over the same connection: all agree on where the first ended."""
    rows = {
        "large": (["-I"], "200"),
        "shut": (["-I"], "403"),
        "open/empty": ([], "204"),
        "open/cached": (["-H", 'If-None-Match: "seven"'], "304"),
    }
    for path, (how, status) in rows.items():
        shown = ["-o", "/dev/null", "-w", "%{http_code} %{size_download} %{num_connects}\n"]
        words = [*how, *shown, f"{front.origin}/{path}"]
        if front.kept > 1:
            words += ["--next", "-sS", "-m", "20", front.flag, *shown, f"{front.origin}/small"]
        printed, said = front.curl(*words)
        lines = [f"{status} 0 1", f"200 {running.SMALL} 0"]
        assert printed.splitlines() == lines[: len(printed.splitlines())] and printed, (path, printed, said)


def test_curl_goes_on_after_a_refusal(one: Front) -> None:
    urls = [f"{one.origin}/{path}" for path in ("small", "shut", "small", "shut?x", "small")]
    printed, said = one.curl(
        "-w", "%{http_code} %{num_connects}\n", *(w for url in urls for w in ("-o", "/dev/null", url))
    )
    assert printed.splitlines() == ["200 1", "403 0", "200 0", "403 0", "200 0"], said


def test_curl_of_http_1_0_and_to_a_proxy(one: Front, tmp_path: Path) -> None:
    got = tmp_path / "got"
    for path in ("large", "open/stream"):  # the latter ends with the connection
        printed, said = one.curl("--http1.0", "-o", str(got), "-w", "%{http_code}", f"{one.origin}/{path}")
        assert printed == "200" and running.sha256(got.read_bytes()) == running.digest(running.LARGE), said
    # The whole URL is the request's target.
    words = ["-x", one.origin, "-o", str(got), "-w", "%{http_code} ", f"{one.origin}/small", "-o", str(got)]
    printed, said = one.curl(*words, f"{one.origin}/shut")
    assert printed == "200 403 ", said


def test_python_keeps_its_connection(one: Front) -> None:
    found = running.ask(one.client, "kept.py", one.host, one.port, ROUNDS)
    empty = running.sha256(b"")[:8]
    wanted = {
        f"GET /small 200 {running.digest(running.SMALL)[:8]}": 1,
        "GET /shut 403 Access denied": 1,
        f"HEAD /large 200 0 of {running.LARGE}": 1,
        "HEAD /shut 403 ": 1,
        "POST /open/echo 200 echo": 2,
        "POST /shut 403 Access denied": 2,
        f"GET /open/empty 204 {empty}": 1,
        f"GET /open/cached 304 {empty}": 1,
        f"GET /open/stream 200 {running.digest(running.LARGE)[:8]}": 1,
    }
    assert found == {"connections": 1, "answers": {said: count * ROUNDS for said, count in wanted.items()}}


@pytest.mark.parametrize(("name", "flag"), list(itertools.product(NAMES, (FIRST, SECOND))))
def test_node_keeps_its_connections(servers: Servers, name: str, flag: str) -> None:
    """Four in HTTP/1.1, one in HTTP/2; on them come hints before answers, and trailers after bodies both ways."""
    front = front_of(servers, name, flag)
    is_plain = name.endswith("nginx")  # it passes on no trailers, and takes a hint for the answer
    script = running.HERE / "src" / "agent.js"
    what = [flag == SECOND, is_plain, ROUNDS]
    done = front.client.run(["node", str(script), front.host, str(front.port), *(str(int(n)) for n in what)])
    denied = "" if flag == SECOND else " Access denied"  # an answer in HTTP/2 has no body
    wanted = {
        f"GET /small 200 {running.digest(running.SMALL)[:8]}": 1,
        f"GET /shut 403{denied}": 1,
        "POST /open/echo 200 echo": 1,
        f"POST /shut 403{denied}": 1,
        "HEAD /large 200": 1,
        "GET /open/empty 204": 1,
    }
    if not is_plain:
        wanted |= {"GET /open/trailers 200 one,two 7": 1, "POST /open/trailers 200 11": 1}
        wanted |= {"GET /open/hints 200 after a hint 103": 1}
    if flag == FIRST:
        wanted |= {"POST /open/echo 200 echo 100": 1}
    answers = {said: count * ROUNDS for said, count in wanted.items()}
    assert json.loads(done.stdout) == {"connections": 4 if flag == FIRST else 1, "answers": answers}


def test_websocket(one: Front) -> None:
    """Refused, refused again, and then let through on the same connection."""
    found = running.ask(one.client, "websocket.py", one.host, one.port, "/shut", "/shut/ws", "/open/ws")
    talked = {"understood": True, "welcome": "welcome", "same": True, "closed": "03e8", "rest": ""}
    assert found == {"statuses": [403, 403, 101]} | talked


def test_h2load(front: Front) -> None:
    words = ["h2load", "-n", "1000", "-c", "4", "-N", "5", *(["--h1"] if front.flag == FIRST else ["-m", "16"])]
    for paths, wanted in {"small": (1000, 0), "shut": (0, 1000), "small shut": (500, 500)}.items():
        said = front.client.run([*words, *(f"{front.origin}/{path}" for path in paths.split())]).stdout
        assert "0 errored, 0 timeout" in said, said
        assert f"status codes: {wanted[0]} 2xx, 0 3xx, {wanted[1]} 4xx, 0 5xx" in said, said
