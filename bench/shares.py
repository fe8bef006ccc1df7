"""How much of long-lived connections' bytes took the short cut, by the flow records of their end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import load
from bench.ground import Ground, Pair
from bench.result import MESH, Goal, Result
from control.flow import record
from tests.hosts.wait import wait_until
from tests.programs import nginx, postgres, stores

LONG_LIVED_NS = 500_000_000
_CONNECTIONS = 8
Json = dict[str, Any]


def results() -> dict[str, Result]:
    return {
        name: Result(f"share-{name}", f"bytes by the short cut: {name}", "%", [Goal(99)])
        for name in ("nginx", "redis", "postgresql")
    }


class Tail:
    """The flow records written from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = path.stat().st_size if path.exists() else 0

    def flows(self) -> Iterator[Json]:
        with self._path.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if line.endswith(b"\n") and "flow" in (response := json.loads(line)):
                    yield response["flow"]


def share(flows: Iterator[Json], port: int) -> tuple[float, Json]:
    """Return the percentage over all long-lived connections to a port, and what it is made of."""
    total = short = connections = 0
    reasons: dict[str, int] = {}
    for flow in flows:
        ours = record.extension(flow)
        tcp = flow.get("l4", {}).get("TCP", {})
        if tcp.get("destination_port") != port or int(ours.get("duration_ns", 0)) < LONG_LIVED_NS:
            continue
        connections += 1
        total += int(ours.get("bytes_sent", 0)) + int(ours.get("bytes_received", 0))
        short += int(ours.get("short_cut_bytes_sent", 0)) + int(ours.get("short_cut_bytes_received", 0))
        why = str(ours.get("short_cut_reason"))
        reasons[why] = reasons.get(why, 0) + 1
    found = {"connections": connections, "bytes": total, "short_cut_bytes": short, "reasons": reasons}
    return (100 * short / total if total else 0.0), found


def _measure(ground: Ground, result: Result, tail: Tail, port: int, connections: int) -> None:
    def closed() -> bool:
        return int(share(tail.flows(), port)[1]["connections"]) >= connections

    try:
        wait_until(closed, f"{connections} connections to port {port} have a closing record", 10)
    except TimeoutError as error:
        result.notes["missing"] = str(error)
    percent, found = share(tail.flows(), port)
    result.add(MESH, percent)
    result.notes.update(found)


def measure(ground: Ground, wanted: dict[str, Result], seconds: float) -> None:
    """Run each program once on the mesh side; the first to run, while the flow log is short."""
    pair: Pair = ground.pairs[MESH]
    for name, result in wanted.items():
        tail = Tail(ground.mesh.flow_log)
        port = _LOADS[name](pair, seconds)
        _measure(ground, result, tail, port, _CONNECTIONS)


def _nginx(pair: Pair, seconds: float) -> int:
    load.wrk(pair.client, f"{pair.http}/large", _CONNECTIONS, max(2, round(5 * seconds)))
    return nginx.PORT


def _redis(pair: Pair, seconds: float) -> int:
    with stores.redis(pair.server, pair.directory):
        words = ["redis-benchmark", "-h", pair.server.ip, "-p", str(stores.REDIS_PORT), "-c", str(_CONNECTIONS)]
        count = round(200_000 * max(1, seconds))  # long-lived, whatever the machine
        pair.client.run([*words, "-n", str(count), "-d", "256", "-t", "get", "-q"], timeout=120)
    return stores.REDIS_PORT


def _postgresql(pair: Pair, seconds: float) -> int:
    with postgres.cluster(pair.server):
        postgres.pgbench(pair.client, pair.server.ip, "-i", "-q", "-s", "1")
        clients = ["-c", str(_CONNECTIONS), "-j", "1", "-n", "-S", "-T", str(max(2, round(5 * seconds)))]
        postgres.pgbench(pair.client, pair.server.ip, *clients)
    return postgres.PORT


_LOADS = {"nginx": _nginx, "redis": _redis, "postgresql": _postgresql}
