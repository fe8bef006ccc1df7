"""Figures out of wrk and redis-benchmark: their words in, numbers out."""

import csv
import dataclasses
import re
import statistics
from collections.abc import Sequence

_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
_UNITS_B = {"": 1, "B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30}


@dataclasses.dataclass(frozen=True)
class Sample:
    """One run: calls per second, bytes per second of answers (None: not told), and latencies in seconds."""

    rate: float
    bytes_per_s: float | None
    p50_s: float
    p99_s: float


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One kind of work over plain TCP and over the short cut: medians of interleaved runs."""

    work: str
    tcp: Sample
    short_cut: Sample
    share: float  # of the bytes that the enrolled sockets sent in the short cut's runs, how many took it

    @property
    def ratio(self) -> float:
        """Return how many times more calls a second the short cut makes."""
        return self.short_cut.rate / self.tcp.rate if self.tcp.rate else 0.0


class NoFigures(Exception):
    """A program's output held no figures: the output."""


def seconds(text: str) -> float:
    """Return wrk's way to write a time.

    >>> seconds("1.50ms"), seconds("250.00us")
    (0.0015, 0.00025)
    """
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if not found:
        raise NoFigures(text)
    return round(float(found[1]) * _UNITS_S[found[2]], 9)


def parse_wrk(output: str) -> Sample:
    """Return the figures of `wrk --latency`; raises NoFigures, also when a call failed."""
    rate = re.search(r"Requests/sec:\s*([\d.]+)", output)
    size = re.search(r"Transfer/sec:\s*([\d.]+)([KMG]?B)", output)
    p50, p99 = (re.search(rf"\s{percent}%\s+([\d.]+\w+)", output) for percent in (50, 99))
    if not (rate and size and p50 and p99) or "Non-2xx" in output:
        raise NoFigures(output.strip() or "no output")
    return Sample(float(rate[1]), float(size[1]) * _UNITS_B[size[2]], seconds(p50[1]), seconds(p99[1]))


def parse_redis(output: str) -> Sample:
    """Return the figures of `redis-benchmark --csv`; raises NoFigures."""
    rows = list(csv.DictReader(line for line in output.splitlines() if line.startswith('"')))
    try:
        row = rows[-1]
        return Sample(
            float(row["rps"]), None, *(round(float(row[f"p{n}_latency_ms"]) / 1e3, 9) for n in (50, 99))
        )  # fmt: skip
    except (IndexError, KeyError, ValueError):
        raise NoFigures(output.strip() or "no output") from None


def median(samples: Sequence[Sample]) -> Sample:
    """Return each figure's median, None of a figure that was not told."""
    told = [s.bytes_per_s for s in samples if s.bytes_per_s is not None]
    rate, p50, p99 = (statistics.median(getattr(s, name) for s in samples) for name in ("rate", "p50_s", "p99_s"))
    return Sample(rate, statistics.median(told) if told else None, p50, p99)
