"""Thousands of connections of every kind in bad weather: no byte wrong, no stall, and a good part by short cut.

SOCKMESH_TORTURE says how many connections; SOCKMESH_SEED which ones. A failure says how to replay it alone.
"""

import contextlib
import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from loader import abi
from loader.maps import Maps
from tests.hosts import Mesh, Node, Pod
from tests.hosts.wait import wait_until
from tests.torture import batch, build
from tests.torture.batch import PORTS, Batch, Result
from tests.torture.evidence import CloseRecords, Evidence
from tests.torture.weather import Weather

pytestmark = [pytest.mark.e2e, pytest.mark.torture]

TOTAL = int(os.environ.get("SOCKMESH_TORTURE", "4000"))
SEED = int(os.environ.get("SOCKMESH_SEED", "0")) or time.time_ns() % 1_000_000_007
AT_ONCE = 2500  # connections of a batch
LATE_AT_ONCE = 30  # the mesh remembers a program at its first late splice: few connections each, of many programs


@dataclass
class Stage:
    mesh: Mesh
    client: Pod
    server: Pod
    bystander: Pod
    directory: Path
    records: CloseRecords
    port: int = 1000

    def batch(self, program: Path, first: int, count: int, parallel: int = 64) -> Batch:
        """Return a batch on ports of its own."""
        self.port = self.port + PORTS if self.port < 9000 else 1000
        return Batch(program, SEED, first, count, self.port, parallel)

    def weather(self, kills: bool = True) -> Weather:
        return Weather(self.mesh, self.client, self.server, self.bystander, SEED, kills)

    def run(self, each: Batch, evidence: Evidence) -> list[Result]:
        """Run one batch, judge it, and return its results."""
        plans = each.plans()
        evidence.expect(each, plans)
        results = batch.run(each, self.client, self.server, self.directory)
        late = each.program.name.startswith("late")
        wrong = [one for one in results if not one.ok and not (late and one.by_design)]
        if wrong:
            pytest.fail(described(wrong, plans, each.program.name), pytrace=False)
        return results

    def collect(self, evidence: Evidence) -> None:
        """Wait for the close records of all connections, and say what they tell."""

        def all_there() -> bool:
            evidence.take(self.records.new())
            return evidence.connections >= evidence.expected

        with contextlib.suppress(TimeoutError):  # on_record judges
            wait_until(all_there, "a close record for every connection", 20)
        print(evidence.summary())

    def on_record(self, evidence: Evidence, kills: bool = True) -> None:
        """Nothing is silent: every connection's close is on record with its exact bytes, or counted as lost.

        Once, unless agents were killed: one may have written what it had yet to let go of.
        """
        with self.mesh.open_maps() as maps:
            lost = maps.counter(abi.Metric.EVENTS_LOST)
        assert evidence.connections == evidence.expected, f"no close record, and {lost} events said to be lost"
        assert not evidence.miscounted
        assert kills or not evidence.repeated


def described(wrong: list[Result], plans: dict[int, batch.Json], program: str) -> str:
    """Say what was planned, what came of it, and how to see it again."""
    kinds = Counter(f"{end['result']}: {re.sub('[0-9]+', 'N', end['detail'])}" for one in wrong for end in one.told())
    out = [
        f"{len(wrong)} connections of seed {SEED} went wrong",
        *(f"{n} times {kind}" for kind, n in kinds.most_common(9)),
    ]
    for one in wrong[:5]:
        out += ["", f"plan   {json.dumps(plans[one.id])}", f"client {json.dumps(one.client)}"]
        out += [f"server {json.dumps(one.server)}"]
        out += [f"replay .venv/bin/python -m tests.torture {program} {SEED} {one.id}"]
    return "\n".join(out)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Node("torture") as node:
        client, server, bystander = node.pod("client"), node.pod("server"), node.pod("bystander")
        directory = node.directory / "torture"
        directory.mkdir()
        with Mesh(node) as mesh:
            print(f"seed {SEED}")
            yield Stage(mesh, client, server, bystander, directory, CloseRecords(mesh.flow_log))


@contextlib.contextmanager
def forgetful(maps: Maps) -> Iterator[None]:
    """Forget again and again which pods have spliced: else the first that does takes all others off the short cut. What
    keeps a reader safe that splices from its first byte on is its connection's own mark."""
    over = threading.Event()

    def forget() -> None:
        while not over.wait(0.001):
            for key, _ in list(maps.caught.items()):
                maps.caught.delete(key)

    thread = threading.Thread(target=forget, name="forget")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_plain_connections(stage: Stage) -> None:
    """Every way to send and to read, while policies change and the agent is killed and restarted."""
    evidence = Evidence()
    program = build.named("stream", stage.directory)
    total = TOTAL * 8 // 10
    with stage.mesh.open_maps() as maps:
        before = maps.counter(abi.Metric.REDIRECT_BYTES)
        with stage.weather() as weather, forgetful(maps):
            for first in range(0, total, AT_ONCE):
                stage.run(stage.batch(program, first, min(AT_ONCE, total - first)), evidence)
                evidence.take(stage.records.new())
        carried = maps.counter(abi.Metric.REDIRECT_BYTES) - before
    stage.collect(evidence)
    print(dict(weather.seen))
    # A pod in which anything splices is off the short cut until that is forgotten, a moment later: hence not more.
    assert carried > evidence.bytes / 50
    for kind in MUST_CARRY:
        assert evidence.carried[kind] > evidence.fit[kind] / 10 > total / 1000, kind
    for kind in MUST_MEET:
        assert evidence.able[kind] > total / 100, kind
    assert min(weather.seen[what] for what in ("policy changes", "agents killed")) > 0
    stage.on_record(evidence)
    assert carried == evidence.short_cut_bytes


MUST_CARRY = (
    *(f"read by {how}" for how in ("recv", "recvmsg", "peek", "waitall", "threads+poll", "poll", "epoll-et")),
    *(f"sent by {how}" for how in ("send", "sendmsg", "sendfile", "splice", "vmsplice")),
)
MUST_MEET = ("read by splice", "read by lowat", "sent by zerocopy")


def test_io_uring(stage: Stage) -> None:
    """A program that uses a ring stays on TCP, and is as right as any."""
    if why := build.rings_refused():
        print(f"this kernel lets nobody have an io_uring ({why}): 0 connections used one")
        return
    evidence = Evidence()
    program = build.named("rings", stage.directory)
    total = TOTAL // 10
    with stage.weather():
        for first in range(0, total, AT_ONCE):
            stage.run(stage.batch(program, first, min(AT_ONCE, total - first)), evidence)
            evidence.take(stage.records.new())
    stage.collect(evidence)
    stage.on_record(evidence)


def test_late_splicers(stage: Stage) -> None:
    """Programs that read first and splice later are reset by design when redirected bytes wait, and only then."""
    evidence = Evidence()
    total = TOTAL // 10
    batches = []
    for number, first in enumerate(range(0, total, LATE_AT_ONCE)):
        program = build.named(f"late-{number}", stage.directory)
        batches.append(stage.batch(program, first, min(LATE_AT_ONCE, total - first), LATE_AT_ONCE))
    resets = 0
    # No kills: a reset needs an agent that lives.
    with stage.weather(kills=False), ThreadPoolExecutor(4) as pool:
        for results in pool.map(lambda each: stage.run(each, evidence), batches):
            with stage.mesh.open_maps() as maps:
                for key, _ in list(maps.caught.items()):
                    maps.caught.delete(key)  # or all but the first programs would stay off the short cut
            resets += sum(one.by_design for one in results)
            evidence.take(stage.records.new())
    stage.collect(evidence)
    stage.on_record(evidence, kills=False)
    print(f"{resets} of {total} connections reset by design")
    with stage.mesh.open_maps() as maps:
        assert resets <= maps.counter(abi.Metric.STUCK_READERS)
