"""The rows that are a rate: the same load on each side in turn, every round."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import load
from bench.ground import CLIENT_CPU, SERVER_CPU, Ground
from bench.result import MESH, PLAIN, UNIX, Goal, Result

Sample = Callable[[Ground, str, float], tuple[float, float | None]]  # the rate, and the median time of one in us
BOTH, ALL = (PLAIN, MESH), (PLAIN, MESH, UNIX)


@dataclass(frozen=True)
class Row:
    """How one sample of a row is taken, and what must come out."""

    key: str
    title: str
    unit: str
    sides: Sequence[str]
    sample: Sample
    goals: Sequence[Goal]

    def result(self) -> Result:
        return Result(self.key, self.title, self.unit, self.goals)


def _ours(mode: str, field: str, cpu: int, *options: object) -> Sample:
    def sample(ground: Ground, side: str, seconds: float) -> tuple[float, float | None]:
        report = load.pingpong(ground.host(side), mode, seconds, *ground.address(side), "--cpu", cpu, *options)
        return float(report[field]), report.get("p50_us")

    return sample


def _wrk(path: str, connections: int, close: bool = False) -> Sample:
    def sample(ground: Ground, side: str, seconds: float) -> tuple[float, float | None]:
        pair = ground.pairs[side]
        return load.wrk(pair.client, f"{pair.http}/{path}", connections, seconds, close=close), None

    return sample


ROWS = (
    Row("rr-one-core", "64 B request/response, both ends on one core", "1/s", ALL, _ours("rr", "rate", SERVER_CPU),
        (Goal(1.7, PLAIN), Goal(0.9, UNIX))),
    Row("rr-two-cores", "64 B request/response, one core each", "1/s", ALL, _ours("rr", "rate", CLIENT_CPU),
        (Goal(1.0, PLAIN),)),
    Row("bulk", "bulk, 64 KiB writes, one core each", "Gbit/s", ALL, _ours("bulk", "gbit_s", CLIENT_CPU),
        (Goal(1.7, PLAIN),)),
    Row("nginx-large", "nginx, 1.5 MB file, 16 connections", "1/s", BOTH, _wrk("large", 16), (Goal(2.0, PLAIN),)),
    Row("nginx-small", "nginx, 90 B answer from memory, 32 connections", "1/s", BOTH, _wrk("answer", 32),
        (Goal(1.8, PLAIN),)),
    Row("nginx-small-file", "the same from a file: open, sendfile, close", "1/s", BOTH, _wrk("small", 32), ()),
    Row("connect", "a new connection for every 64 B request", "1/s", ALL, _ours("crr", "rate", CLIENT_CPU),
        (Goal(0.85, PLAIN),)),
    Row("connect-http", "the same: nginx, wrk, Connection: close", "1/s", BOTH, _wrk("small", 32, close=True),
        (Goal(0.85, PLAIN),)),
)  # fmt: skip


def measure(row: Row, ground: Ground, result: Result, number: int, seconds: float) -> None:
    """Take one sample of each side; who comes first changes from round to round."""
    turn = number % len(row.sides)
    for side in (*row.sides[turn:], *row.sides[:turn]):
        rate, median = row.sample(ground, side, seconds)
        result.add(side, rate)
        if median is not None:  # on a busy machine it tells more than the rate
            result.notes.setdefault("p50_us", {}).setdefault(side, []).append(median)
