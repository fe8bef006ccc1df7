"""Real programs behave the same with the short cut and without, and what the mesh did for them is on record."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts import Mesh, Node, Pod
from tests.programs import golang, haproxy, http, nginx, nodejs, postgres, running, stores, streams, trial

pytestmark = pytest.mark.e2e
ROWS = 200_000
ACTIVE = ("active", "active")


@dataclass(frozen=True)
class Stage:
    """Three pods under one agent: `client` asks, `server` answers, `proxy` stands between them where there is one."""

    mesh: Mesh
    server: Pod
    proxy: Pod
    client: Pod
    directory: Path


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Node("programs") as node:
        server, proxy, client = node.pod("server"), node.pod("proxy"), node.pod("client")
        files = node.directory / "programs"
        files.mkdir()
        with Mesh(node) as mesh:
            yield Stage(mesh, server, proxy, client, files)


def downloads(client: Pod, origin: str, count: int = 40) -> dict[str, dict[str, int]]:
    """Fetch both bodies again and again over one connection each."""
    return {path: http.fetch(client, f"http://{origin}/{path}", count) for path in ("small", "large")}


def all_whole(count: int = 40) -> dict[str, dict[str, int]]:
    """Return what `downloads` finds when not one byte is wrong."""
    return {path: http.wanted(path, count) for path in ("small", "large")}


def test_nginx_files(stage: Stage) -> None:
    def scenario() -> object:
        with nginx.serve(stage.server, stage.directory) as origin:
            found = downloads(stage.client, origin)
            http.load(stage.client, f"http://{origin}/small", 16)
            http.load(stage.client, f"http://{origin}/large", 16)
            return found, http.requests(stage.client, f"http://{origin}/large", 2000, 2, "--h1")

    with_it, _ = trial.both(stage.mesh, scenario)
    assert with_it.result == (all_whole(), (2000, 2000 * running.LARGE))
    print(with_it.to(nginx.PORT)[-2:])
    assert with_it.share(nginx.PORT, long=1 << 30) >= 0.99


def test_nginx_reverse_proxy(stage: Stage) -> None:
    def scenario() -> object:
        with ExitStack() as stack:
            origin = stack.enter_context(nginx.serve(stage.server, stage.directory))
            front = stack.enter_context(nginx.proxy(stage.proxy, stage.directory, origin))
            found = downloads(stage.client, front)
            http.load(stage.client, f"http://{front}/small", 16)
            http.load(stage.client, f"http://{front}/large", 8)
            return found

    with_it, _ = trial.both(stage.mesh, scenario)
    assert with_it.result == all_whole()
    print(with_it.share(nginx.PROXY_PORT), with_it.share(nginx.PORT), with_it.reasons(nginx.PORT))


@pytest.mark.parametrize("way", haproxy.PORTS)
def test_haproxy(stage: Stage, way: str) -> None:
    def scenario() -> object:
        with ExitStack() as stack:
            origin = stack.enter_context(nginx.serve(stage.server, stage.directory))
            front = stack.enter_context(haproxy.proxy(stage.proxy, stage.directory, origin))[way]
            found = downloads(stage.client, front)
            http.load(stage.client, f"http://{front}/small", 8)
            http.load(stage.client, f"http://{front}/large", 8)
            return found

    with_it, _ = trial.both(stage.mesh, scenario)
    assert with_it.result == all_whole()
    print(way, with_it.share(haproxy.PORTS[way]), with_it.share(nginx.PORT))
    print(with_it.reasons(haproxy.PORTS[way]), with_it.reasons(nginx.PORT))


def test_go_relay(stage: Stage) -> None:
    def scenario() -> object:
        with ExitStack() as stack:
            origin = stack.enter_context(nginx.serve(stage.server, stage.directory))
            front = stack.enter_context(golang.relay(stage.proxy, stage.directory, origin))
            found = downloads(stage.client, front)
            http.load(stage.client, f"http://{front}/small", 8)
            http.load(stage.client, f"http://{front}/large", 8)
            return found

    with_it, _ = trial.both(stage.mesh, scenario)
    assert with_it.result == all_whole()
    print(with_it.share(golang.RELAY_PORT), with_it.share(nginx.PORT))
    print(with_it.reasons(golang.RELAY_PORT), with_it.reasons(nginx.PORT))


@pytest.mark.parametrize("kind", ["go", "node"])
def test_web_server(stage: Stage, kind: str) -> None:
    serve, port = {"go": (golang.web, golang.WEB_PORT), "node": (nodejs.web, nodejs.PORT)}[kind]

    def scenario() -> object:
        with serve(stage.server, stage.directory) as origin:
            found = downloads(stage.client, origin)
            http.load(stage.client, f"http://{origin}/small", 8)
            http.load(stage.client, f"http://{origin}/large", 4)
            return found, http.echo(stage.client, f"http://{origin}/echo", 30, running.LARGE)

    with_it, _ = trial.both(stage.mesh, scenario)
    assert with_it.result == (all_whole(), http.wanted("large", 30))
    print(kind, with_it.share(port), with_it.reasons(port))


def test_redis(stage: Stage) -> None:
    def scenario() -> object:
        address = stage.server.ip
        with stores.redis(stage.server, stage.directory):
            tests = stores.redis_benchmark(stage.client, address, 20_000, 10, 100, 1)
            tests += stores.redis_benchmark(stage.client, address, 5_000, 4, 20_000, 16)
            checked = running.ask(stage.client, "keyvalue.py", "redis", address, stores.REDIS_PORT)
            words = "".join(f"word{n} " for n in range(20_000))
            said = [stores.redis_cli(stage.client, address, "set", "words", input=words)]
            said += [stores.redis_cli(stage.client, address, *c) for c in (["strlen", "words"], ["get", "words"])]
            return tests, checked, running.sha256("\n".join(said).encode())

    with_it, _ = trial.both(stage.mesh, scenario)
    assert with_it.result[1]["wrong"] == 0
    print(with_it.share(stores.REDIS_PORT), with_it.reasons(stores.REDIS_PORT))
    print(sorted((c.total, c.total - c.short_cut) for c in with_it.to(stores.REDIS_PORT)))


def test_memcached(stage: Stage) -> None:
    def scenario() -> object:
        with stores.memcached(stage.server, stage.directory):
            return running.ask(stage.client, "keyvalue.py", "memcached", stage.server.ip, stores.MEMCACHED_PORT)

    with_it, _ = trial.both(stage.mesh, scenario)
    assert with_it.result["wrong"] == 0
    print(with_it.share(stores.MEMCACHED_PORT), with_it.to(stores.MEMCACHED_PORT))


def test_postgresql(stage: Stage) -> None:
    client, address = stage.client, stage.server.ip

    def scenario() -> object:
        postgres.pgbench(client, address, "-i", "-s", "2", "-q")
        report = postgres.pgbench(client, address, "-c", "4", "-t", "1000", "-S", "-M", "prepared")
        report += postgres.pgbench(client, address, "-c", "4", "-t", "300")
        sums = postgres.psql(
            client,
            address,
            "SELECT (SELECT sum(abalance) FROM pgbench_accounts) - (SELECT sum(delta) FROM pgbench_history), "
            "(SELECT sum(bbalance) FROM pgbench_branches) - (SELECT sum(tbalance) FROM pgbench_tellers), "
            "(SELECT count(*) FROM pgbench_history)",
        )
        rows = f"SELECT i, repeat(md5(i::text), 8) FROM generate_series(1, {ROWS}) i"
        copied = postgres.psql(client, address, f"COPY ({rows}) TO STDOUT")
        selected = postgres.psql(client, address, rows)
        stored = postgres.psql(
            client,
            address,
            "CREATE TEMPORARY TABLE copy (i int, t text)",
            "COPY copy FROM STDIN",
            "SELECT count(*), md5(string_agg(t, ',' ORDER BY i)) FROM copy",
            stdin=copied,
        )
        done = [line for line in report.splitlines() if "actually processed" in line or "failed" in line]
        return done, sums, running.sha256(copied), running.sha256(selected), stored

    with postgres.cluster(stage.server):
        with_it, _ = trial.both(stage.mesh, scenario)
    print(with_it.result)
    print(with_it.share(postgres.PORT), with_it.reasons(postgres.PORT))
    print(sorted((c.total, c.total - c.short_cut) for c in with_it.to(postgres.PORT)))


def test_http2(stage: Stage) -> None:
    def scenario() -> object:
        with streams.nghttpd(stage.server, stage.directory) as origin:
            return (
                http.fetch(stage.client, f"http://{origin}/large", 40, "--http2-prior-knowledge"),
                http.requests(stage.client, f"http://{origin}/small", 20_000, 4, "-m", "16"),
                http.requests(stage.client, f"http://{origin}/large", 200, 4, "-m", "4", "-w", "24", "-W", "24"),
            )

    with_it, _ = trial.both(stage.mesh, scenario)
    assert with_it.result == (
        http.wanted("large", 40),
        (20_000, 20_000 * running.SMALL),
        (200, 200 * running.LARGE),
    )
    print(with_it.share(streams.H2_PORT), with_it.reasons(streams.H2_PORT))


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_iperf3(stage: Stage, direction: str) -> None:
    size = 400_000_000
    args = ["-n", str(size), "-P", "2", *(["-R"] if direction == "download" else [])]

    def scenario() -> object:
        with streams.iperf_server(stage.server, stage.directory):
            end = streams.iperf(stage.client, stage.server.ip, *args)
            return end["sum_sent"]["bytes"] >= size, end["sum_received"]["bytes"] >= size * 0.9

    with_it, _ = trial.both(stage.mesh, scenario)
    assert with_it.result == (True, True)
    print(with_it.to(streams.IPERF_PORT))


def test_socat(stage: Stage) -> None:
    size = 30_000_000

    def scenario() -> object:
        with ExitStack() as stack:
            origin = stack.enter_context(nginx.serve(stage.server, stage.directory))
            front = stack.enter_context(streams.socat_relay(stage.proxy, stage.directory, origin))
            found = downloads(stage.client, front)
        return found, streams.socat_file(stage.client, stage.server, stage.directory, size)

    with_it, _ = trial.both(stage.mesh, scenario)
    assert with_it.result == (all_whole(), running.digest(size))
    print(with_it.reasons(streams.RELAY_PORT), with_it.reasons(nginx.PORT), with_it.reasons(streams.FILE_PORT))
