"""One run: which ways are there, that each proxy does its duties, and the rounds, every way in turn."""

import contextlib
import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from bench.proxy import between, idle, rows, ways
from bench.proxy.envoy import envoy
from bench.proxy.mesh import sockmesh, there
from bench.proxy.result import Row
from bench.proxy.ways import ENVOY, NO_MESH, SOCKMESH, NotThere, Way
from bench.run import machine

Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    rounds: int = 5
    seconds: float = 2.0
    idle: int = rows.IDLE
    workers: int | None = None  # of each proxy; as many as there are cores if None
    only: Collection[str] = ()

    def has(self, key: str) -> bool:
        return not self.only or key in self.only


@dataclass
class Outcome:
    """The rows by key, what they were measured on, and the ways that were not there, each with the reason."""

    rows: dict[str, Row]
    about: dict[str, Any]
    skipped: dict[str, str]


def run(plan: Plan, say: Say) -> Outcome:
    """Measure. Raises AssertionError when a program fails, or a proxy lets through what it must refuse."""
    workers = plan.workers or os.cpu_count() or 1
    loads = [load for load in rows.LOADS if plan.has(load.key)]
    out = Outcome({row.key: row for load in loads for row in load.rows()}, machine(), {})
    if plan.has(rows.MEMORY):
        out.rows[rows.MEMORY] = rows.memory(plan.idle)
    out.about |= {"rounds": plan.rounds, "seconds_per_sample": plan.seconds, "workers": workers}
    out.about["open_files"] = idle.raise_limit()  # for the servers, the proxies and the idle connections
    started = time.monotonic()
    groups = [[load for load in loads if load.across is across] for across in (False, True)]
    for group, make in zip(groups, (_one_node, _two_nodes), strict=True):
        if group or (make is _one_node and rows.MEMORY in out.rows):
            with contextlib.ExitStack() as stack:
                _measure(plan, group, make(plan, workers, group, out, stack, say), out, say)
    out.about["took_seconds"] = round(time.monotonic() - started, 1)
    return out


def _one_node(
    plan: Plan, workers: int, loads: list[rows.Load], out: Outcome, stack: contextlib.ExitStack, say: Say
) -> list[Way]:
    say("making the pods")
    running = [stack.enter_context(ways.no_mesh())]
    _try(ENVOY, lambda: running.append(stack.enter_context(envoy(workers))), out, say)
    if _try(SOCKMESH, there, out, say):
        # While no program of ours is on the kernel: its hooks on system calls reach every process of the machine.
        for load in loads:
            for way in running:
                sample = load.take(way, plan.seconds)
                way.made += sample.requests
                out.rows[load.key].note("before_the_mesh", way.name, sample.rate)
        args = [] if plan.workers is None else ["--workers", str(plan.workers)]
        running.append(stack.enter_context(sockmesh(args)))
    return running


def _two_nodes(
    _: Plan, workers: int, __: list[rows.Load], out: Outcome, stack: contextlib.ExitStack, say: Say
) -> list[Way]:
    say("making two nodes, three times")
    running: list[Way] = [stack.enter_context(between.no_mesh())]
    _try(ENVOY, lambda: running.append(stack.enter_context(between.two_envoys(workers))), out, say)
    if _try(SOCKMESH, there, out, say):
        running.append(stack.enter_context(between.two_nodes(workers)))
    return running


def _measure(plan: Plan, loads: list[rows.Load], running: list[Way], out: Outcome, say: Say) -> None:
    inspect(running)
    for number in range(plan.rounds):
        say(f"round {number + 1} of {plan.rounds}")
        _round(plan, running, loads, out.rows, number)
    inspect(running)  # nor did it stop doing them under load
    out.about.setdefault("told", {}).update(
        {f"{way.name}{way.where}": told for way in running[1:] if (told := way.told())}
    )


def _try(name: str, start: Callable[[], object], out: Outcome, say: Say) -> bool:
    try:
        start()
    except NotThere as reason:
        out.skipped[name] = str(reason)
        say(f"{name} is left out: {reason}")
        return False
    return True


def inspect(running: list[Way]) -> None:
    """Raise AssertionError for a proxy that lets through what it must refuse, or the other way round."""
    for way in running:
        found, duties = way.duties(), way.DUTIES
        if way.name != NO_MESH and found != duties:
            raise AssertionError(f"{way.name} does not do its duties: {found}, and not {duties}")


def _round(plan: Plan, running: list[Way], loads: list[rows.Load], found: dict[str, Row], number: int) -> None:
    turn = number % len(running)  # who comes first changes from round to round
    order = [*running[turn:], *running[:turn]]
    for load in loads:
        for way in order:
            load.measure(way, found, plan.seconds)
            way.tidy()
    if rows.MEMORY in found and not any(isinstance(way, between.Across) for way in running):
        for way in order:
            rows.measure_memory(way, found[rows.MEMORY], plan.idle)
