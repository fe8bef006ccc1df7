"""Real clients and a real server with a link between them: HTTP/1.1 and HTTP/2, under one policy."""

import asyncio
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvloop

from control.model import HeaderMatch, HttpRule, L7Rules, Mismatch
from l7proxy.edge.link import Link
from l7proxy.exchange import Exchange
from l7proxy.hears import Hears, protocol
from l7proxy.http import Session
from l7proxy.policy.book import Policy
from tests.programs import running

pytestmark = pytest.mark.e2e

POLICY = Policy(
    [
        (
            L7Rules(
                http=(
                    HttpRule(path="/answer", headers=(HeaderMatch("X-Mesh", "mended", Mismatch.REPLACE),)),
                    HttpRule(method="GET", path="/(small|large|huge)"),
                )
            ),
        )
    ]
)
VERSIONS = pytest.mark.parametrize("flag", ["--http1.1", "--http2-prior-knowledge"])
NAMES = {"--http1.1": "HTTP/1.1", "--http2-prior-knowledge": "HTTP/2"}


@dataclass(frozen=True)
class Origin:
    """nginx: a port that speaks HTTP/1.1, one that speaks HTTP/2, and one where nobody listens."""

    first: int
    second: int
    nobody: int

    def port(self, flag: str) -> int:
        return self.first if flag == "--http1.1" else self.second


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    directory = tmp_path_factory.mktemp("nginx")
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        found = Origin(*(each.getsockname()[1] for each in sockets))
    config = running.configuration(
        "nginx-versions.conf",
        directory / "nginx.conf",
        directory=directory,
        root=running.document_root(directory),
        address="127.0.0.1",
        port=found.first,
        port2=found.second,
    )
    child = subprocess.Popen(["nginx", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_listening(found.second, child)
        yield found
    finally:
        child.terminate()
        child.wait(timeout=10)
        shutil.rmtree(directory)


def _wait_listening(port: int, child: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and child.poll() is None:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise AssertionError(f"nginx does not listen: {child.poll()}")


Told = list[tuple[str, int, bool]]


def through(port: int, *argv: str) -> tuple[str, list[Exchange]]:
    """Run a client, DOOR in its words being a link's address to the server's port; return what it printed."""
    told: list[Exchange] = []
    links: set[Link] = set()

    async def scene() -> str:
        loop = asyncio.get_running_loop()

        def make() -> Link:
            def dial(factory: Callable[[], Hears]) -> Awaitable[object]:
                return loop.create_connection(protocol(factory), "127.0.0.1", port)

            link = Link(Session(POLICY.decide, told.append), dial, links.discard)
            links.add(link)
            return link

        door = await loop.create_server(protocol(make), "127.0.0.1", 0)
        address = f"127.0.0.1:{door.sockets[0].getsockname()[1]}"
        words = [word.replace("DOOR", address) for word in argv]
        child = await asyncio.create_subprocess_exec(
            *words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        try:
            printed, _ = await asyncio.wait_for(child.communicate(), 30)
            while links:  # a client that has ended is heard of a little later
                await asyncio.sleep(0.01)
        finally:
            door.close()
        return printed.decode("latin-1")

    async def bounded() -> str:
        return await asyncio.wait_for(scene(), 60)

    return uvloop.run(bounded()), told


def outcomes(told: list[Exchange]) -> Told:
    return [(each.protocol, each.status, each.allowed) for each in told]


def curl(port: int, *args: str) -> tuple[str, list[Exchange]]:
    return through(port, "curl", "--silent", "--show-error", "--max-time", "20", *args)


@VERSIONS
def test_curl_gets_what_it_may(origin: Origin, tmp_path: Path, flag: str) -> None:
    for name, size in running.SIZES.items():
        printed, told = curl(
            origin.port(flag), flag, "-o", f"{tmp_path}/{name}", "-w", "%{http_code}", f"http://DOOR/{name}"
        )
        assert printed == "200" and outcomes(told) == [(NAMES[flag], 200, True)]
        assert running.sha256((tmp_path / name).read_bytes()) == running.digest(size)
    printed, told = curl(origin.port(flag), flag, "-w", "%{http_code}", "http://DOOR/shut")
    assert printed.endswith("403") and "nobody may" not in printed and outcomes(told) == [(NAMES[flag], 403, False)]


def test_a_refusal_and_the_connection_lives_on(origin: Origin) -> None:
    # Over HTTP/2 curl 7.88 does not use a connection again, with no proxy either.
    urls = [f"http://DOOR/{name}" for name in ("answer", "shut", "answer", "shut?x", "answer")]
    printed, told = curl(origin.first, "-w", " %{http_code} %{num_connects}\n", *urls)
    lines = ["GET mended 200 1", "Access denied", " 403 0", "GET mended 200 0"]
    assert [line.rstrip() for line in printed.splitlines()] == [*lines, *lines[1:3], lines[3]]
    one, other = ("HTTP/1.1", 200, True), ("HTTP/1.1", 403, False)
    assert outcomes(told) == [one, other, one, other, one]


@VERSIONS
def test_an_upload_and_a_header_that_a_rule_mends(origin: Origin, tmp_path: Path, flag: str) -> None:
    (tmp_path / "body").write_bytes(running.body(3_000_000))
    upload = ("-H", "X-Mesh: forged", "--data-binary", f"@{tmp_path}/body")
    printed, told = curl(origin.port(flag), flag, *upload, "http://DOOR/answer")
    assert printed == "POST mended" and told[0].told == (b"x-mesh",)
    assert outcomes(told) == [(NAMES[flag], 200, True)]


@VERSIONS
def test_nobody_listens(origin: Origin, flag: str) -> None:
    printed, told = curl(origin.nobody, flag, "-o", "/dev/null", "-w", "%{http_code}", "http://DOOR/small")
    assert printed == "503" and outcomes(told) == [(NAMES[flag], 503, True)]
    assert told[0].why == "the server cannot be reached: Connection refused"


def test_an_offer_to_go_on_in_http2_is_not_heard(origin: Origin) -> None:
    printed, told = curl(origin.first, "--http2", "-w", "\n%{http_version}", "http://DOOR/answer")
    assert printed.split() == ["GET", "mended", "1.1"] and outcomes(told) == [("HTTP/1.1", 200, True)]


def test_tls_where_http_is_expected_ends_at_once(origin: Origin) -> None:
    printed, told = curl(origin.first, "-k", "https://DOOR/small")
    assert "(35)" in printed and outcomes(told) == [("HTTP/1.1", 400, False)]


@pytest.mark.parametrize("flag", ["--h1", "-m32"])
def test_many_requests_at_once(origin: Origin, flag: str) -> None:
    port = origin.first if flag == "--h1" else origin.second
    printed, told = through(port, "h2load", "-n4000", "-c4", flag, "http://DOOR/answer", "http://DOOR/shut")
    assert "2000 2xx, 0 3xx, 2000 4xx" in printed and "0 errored, 0 timeout" in printed, printed
    assert sorted({(each.status, each.allowed) for each in told}) == [(200, True), (403, False)] and len(told) == 4000
