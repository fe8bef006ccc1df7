"""The load programs in the client's pod: wrk, and h2load with a header of its own in every second request."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.load import BUILD
from bench.proxy import origin
from bench.proxy.ways import Way
from loader.errors import PackageMissing
from tests.hosts import Host
from tests.programs import streams

_US = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


@dataclass(frozen=True)
class Sample:
    """One run of a load program: requests a second, how many there were, the time in which 99% were answered."""

    rate: float
    requests: int
    p99_us: float | None = None


def read_wrk(report: str) -> Sample:
    """Return what wrk says; AssertionError if an answer is missing or has a status other than 2xx or 3xx."""
    rate = re.search(r"Requests/sec:\s+([\d.]+)", report)
    count = re.search(r"(\d+) requests in", report)
    slow = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", report)
    wrong = re.search(r"Socket errors: .*|Non-2xx.*", report)
    if rate is None or count is None or slow is None or int(count[1]) == 0 or wrong is not None:
        raise AssertionError(f"wrk: {report}")
    return Sample(float(rate[1]), int(count[1]), float(slow[1]) * _US[slow[2]])


def wrk(host: Host, url: str, connections: int, seconds: float) -> Sample:
    """Ask for the URL over so many kept connections for that long (a whole second at least)."""
    words = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "--latency", url]
    return read_wrk(host.run(words, timeout=seconds + 60).stdout)


def bulk(way: Way, seconds: float) -> Sample:
    """Send as fast as it goes over one connection, in Gbit/s; what counts as requests are so many MB."""
    received = streams.iperf(way.client, way.address, "-t", str(max(1, round(seconds))))["sum_received"]
    return Sample(received["bits_per_second"] / 1e9, max(1, int(received["bytes"]) // 1_000_000))


def library() -> Path:
    """Return traceparent.c as a shared library, compiled again if its source is newer."""
    source, built = Path(__file__).with_suffix("").parent / "traceparent.c", BUILD / "traceparent.so"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        BUILD.mkdir(parents=True, exist_ok=True)
        draft = built.with_suffix(".new")
        words = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(draft), str(source), "-ldl"]
        try:
            subprocess.run(words, check=True)
        except FileNotFoundError as error:
            raise PackageMissing("cc is not installed (package gcc)") from error
        draft.rename(built)
    return built


def read_h2load(report: str, words: str) -> Sample:
    """Return what h2load says; AssertionError if a call failed, or not every second one had a fresh traceparent."""
    rate = re.search(r"finished in .*?, ([\d.]+) req/s", report)
    good = re.search(r"(\d+) succeeded, 0 failed, 0 errored, 0 timeout", report)
    status = re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", report)
    fresh = re.search(r"traceparent: (\d+) of (\d+)", words)
    if rate is None or good is None or status is None or int(good[1]) == 0 or fresh is None:
        raise AssertionError(f"h2load: {report}{words}")
    if int(fresh[1]) != int(fresh[2]) // 2:
        raise AssertionError(f"h2load: {fresh[0]} requests had a fresh traceparent, which should be every second")
    return Sample(float(rate[1]), int(good[1]))


def h2load(host: Host, url: str, connections: int, streams: int, seconds: float, message: Path) -> Sample:
    """Make unary calls over so many connections with so many streams each."""
    message.write_bytes(origin.MESSAGE)
    words = [
        "env", f"LD_PRELOAD={library()}", "h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds:g}",
        "-d", str(message), "-H", "content-type: application/grpc", "-H", "te: trailers", url,
    ]  # fmt: skip
    done = host.run(words, timeout=seconds + 60)
    return read_h2load(done.stdout, done.stderr)
