"""One run of the bench: the order of things, and how long each takes."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import agent, rates, shares, slow, verdicts
from bench.ground import Ground, Pair, ground
from bench.result import PLAIN, Result

Say = Callable[[str], None]
ALONE = "p50_us_before_the_mesh"
OTHERS = ("shares", "verdict", "slow-reader", "agent")
KEYS = (*(row.key for row in rates.ROWS), *OTHERS)


@dataclass(frozen=True)
class Plan:
    rounds: int = 9
    seconds: float = 1.0
    only: Collection[str] = ()

    def has(self, key: str) -> bool:
        return not self.only or key in self.only


def machine() -> dict[str, Any]:
    """Say what this ran on, so that two results can be told apart."""
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    return {
        "kernel": platform.release(),
        "cpu": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "commit": commit.stdout.strip() or None,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_before": os.getloadavg(),
    }


def run(plan: Plan, say: Say) -> tuple[dict[str, Result], dict[str, Any]]:
    """Return the results by key, and what they were measured on. Raises AssertionError when a program fails."""
    about = {**machine(), "rounds": plan.rounds, "seconds_per_sample": plan.seconds}
    rows = [row for row in rates.ROWS if plan.has(row.key)]
    results = {row.key: row.result() for row in rows}
    started = time.monotonic()

    def before(plain: Pair) -> None:
        # While no program of ours is on the kernel: its hooks on system calls slow every process of the machine.
        lone = Ground({PLAIN: plain}, None, Path())  # type: ignore[arg-type]
        for row in rows:
            if row.key in ("rr-one-core", "connect"):
                row.sample(lone, PLAIN, 0.3)
                values = [row.sample(lone, PLAIN, plan.seconds)[1] for _ in range(min(3, plan.rounds))]
                results[row.key].notes[ALONE] = values

    say("making the pods and starting the agent")
    with ground(before) as here:
        _measure(plan, here, rows, results, say)
    about["took_seconds"] = round(time.monotonic() - started, 1)
    return results, about


def _measure(plan: Plan, here: Ground, rows: list[rates.Row], results: dict[str, Result], say: Say) -> None:
    if plan.has("shares"):
        say("shares of the short cut")
        found = shares.results()
        shares.measure(here, found, plan.seconds)
        results.update({result.key: result for result in found.values()})
    sizes = verdicts.Sizes() if plan.has("verdict") else None
    reader = slow.result() if plan.has("slow-reader") else None
    usage: dict[str, list[Any]] = {}
    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}")
        for row in rows:
            with agent.Usage(here) as used:
                rates.measure(row, here, results[row.key], number, plan.seconds)
            usage.setdefault(row.key, []).append(used.found)
        if sizes is not None:
            sizes.measure(here, plan.seconds / 2)
        if reader is not None:
            slow.measure(here, reader)
    for key, found_usage in usage.items():
        results[key].notes["agent"] = found_usage
    if sizes is not None:
        sizes.end(here)
        results.update({"verdict": sizes.verdict, "load": sizes.load})
    if reader is not None:
        results[reader.key] = reader
    if plan.has("agent"):
        memory = agent.memory()
        agent.measure_memory(here, memory)
        rate = agent.records_per_second(here, min(1.0, plan.seconds))
        results.update({memory.key: memory, rate.key: rate})


def alone_ratio(result: Result) -> float | None:
    """Return how long the plain side takes with a mesh on the machine, against without; None if not measured."""
    values, now = result.notes.get(ALONE), result.notes.get("p50_us", {}).get(PLAIN)
    return statistics.median(now) / statistics.median(values) if values and now else None
