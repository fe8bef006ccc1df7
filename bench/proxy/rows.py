"""The works that are measured: how one sample is taken, and what of it goes into which row."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.proxy import idle, loads, origin, usage
from bench.proxy.result import Row
from bench.proxy.ways import ENVOY, Way
from bench.result import Goal

IDLE = 10_000
CPU_GOAL = Goal(0.5, ENVOY, most=True)


@dataclass(frozen=True)
class Load:
    """A work that is a rate. The processor time comes from the same samples, and so does p99 where it is asked for."""

    key: str
    title: str
    take: Callable[[Way, float], loads.Sample]
    goal: Goal
    p99: bool = False
    unit: str = "1/s"
    across: bool = False  # from one node to another

    def rows(self) -> list[Row]:
        made = [Row(self.key, self.title, self.unit, (self.goal,))]
        if self.p99:
            made.append(Row(f"{self.key}-p99", f"{self.title}: p99", "us", (Goal(1.0, ENVOY, most=True),)))
        cpu = f"{self.title}: CPU of the proxy"
        return [*made, Row(f"{self.key}-cpu", cpu, "s per 1,000", (CPU_GOAL,) if self.unit == "1/s" else ())]

    def measure(self, way: Way, rows: dict[str, Row], seconds: float) -> None:
        """Take one sample and add it to this work's rows."""
        pids, beside = way.pids(), usage.times(way.beside())
        before = usage.times(pids)
        sample = self.take(way, seconds)
        used = usage.spent(before, usage.times(way.pids()))
        used_beside = usage.spent(beside, usage.times(way.beside()))
        rows[self.key].add(way.name, sample.rate)
        rows[self.key].note("requests", way.name, sample.requests)
        way.made += sample.requests
        if self.p99 and sample.p99_us is not None:
            rows[f"{self.key}-p99"].add(way.name, sample.p99_us)
        if pids:
            cpu = rows[f"{self.key}-cpu"]
            cpu.add(way.name, used / sample.requests * 1000)
            cpu.note("processes", way.name, len(pids))
            if beside:
                cpu.note("beside", way.name, used_beside / sample.requests * 1000)


def _http(path: str, connections: int) -> Callable[[Way, float], loads.Sample]:
    return lambda way, seconds: loads.wrk(way.client, way.http + path, connections, seconds)


def _unary(streams: int) -> Callable[[Way, float], loads.Sample]:
    def take(way: Way, seconds: float) -> loads.Sample:
        return loads.h2load(way.client, way.grpc + origin.CALL, 4, streams, seconds, way.directory / "message")

    return take


LOADS: Sequence[Load] = (
    Load("h1-1", "HTTP/1.1, 90 B answer, 1 connection", _http(origin.ANSWER, 1), Goal(2.0, ENVOY), p99=True),
    Load("h1-32", "HTTP/1.1, 90 B answer, 32 connections", _http(origin.ANSWER, 32), Goal(2.0, ENVOY), p99=True),
    Load("h1-256", "HTTP/1.1, 90 B answer, 256 connections", _http(origin.ANSWER, 256), Goal(2.0, ENVOY), p99=True),
    Load("h1-large", "HTTP/1.1, 1.5 MB body, 16 connections", _http(origin.LARGE, 16), Goal(1.2, ENVOY)),
    Load("h2-1", "HTTP/2 unary, 4 connections, 1 stream each", _unary(1), Goal(2.5, ENVOY)),
    Load("h2-32", "HTTP/2 unary, 4 connections, 32 streams each", _unary(32), Goal(2.5, ENVOY)),
    Load(
        "mtls-h1-32",
        "two nodes, mTLS, HTTP/1.1, 90 B answer, 32 connections",
        _http(origin.ANSWER, 32),
        Goal(1.7, ENVOY),
        across=True,
    ),
    Load("mtls-bulk", "two nodes, mTLS, bulk TCP", loads.bulk, Goal(1.0, ENVOY), unit="Gbit/s", across=True),
)
MEMORY = "idle-memory"
KEYS = (*(load.key for load in LOADS), MEMORY)


def memory(count: int) -> Row:
    return Row(MEMORY, f"memory with {count:,} idle connections", "MB (PSS)", (Goal(2.0, ENVOY, most=True),))


def measure_memory(way: Way, row: Row, count: int) -> None:
    """Add what all of the proxy's processes take while so many connections, each used once, are held idle."""
    if not way.pids():
        return
    before = usage.memory(way.pids())
    share = -(-count // len(way.callers))
    with contextlib.ExitStack() as stack:
        for pod in way.callers:
            stack.enter_context(idle.held(pod, way.address, origin.HTTP_PORT, origin.ANSWER, share))
        found = usage.memory(way.pids())
        beside = usage.memory(way.beside())
    way.made += count
    row.add(way.name, found["pss"])
    row.note("rss", way.name, found["rss"])
    row.note("pss_before", way.name, before["pss"])
    row.note("connections", way.name, count)
    if way.beside():
        row.note("beside", way.name, beside["pss"])
