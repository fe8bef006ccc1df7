"""Thousands of connections of every kind in bad weather: no byte wrong, no stall, and a good part by short cut.

SOCKMESH_TORTURE says how many connections; SOCKMESH_SEED which ones. A failure says how to replay it alone.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from loader import abi
from tests.hosts import Mesh, Node, Pod
from tests.torture import batch, build
from tests.torture.batch import Batch, Result
from tests.torture.evidence import CloseRecords, Evidence
from tests.torture.weather import Weather

pytestmark = [pytest.mark.e2e, pytest.mark.torture]

TOTAL = int(os.environ.get("SOCKMESH_TORTURE", "3000"))
SEED = int(os.environ.get("SOCKMESH_SEED", "0")) or time.time_ns() % 1_000_000_007
AT_ONCE = 2500  # connections of a batch
LATE_AT_ONCE = 40


@dataclass
class Stage:
    mesh: Mesh
    client: Pod
    server: Pod
    bystander: Pod
    directory: Path
    records: CloseRecords
    port: int = 1000

    def run(self, program: Path, first: int, count: int, evidence: Evidence) -> list[Result]:
        """Run one batch, judge it, and return its results."""
        self.port = self.port + batch.PORTS if self.port < 9000 else 1000
        each = Batch(program, SEED, first, count, self.port)
        results = batch.run(each, self.client, self.server, self.directory)
        plans = each.plans()
        late = program.name.startswith("late")
        wrong = [one for one in results if not one.ok and not (late and one.by_design)]
        assert not wrong, described(wrong, plans, program.name)
        evidence.add(each, plans, self.records.new())
        return results


def described(wrong: list[Result], plans: dict[int, batch.Json], program: str) -> str:
    """Say what was planned, what came of it, and how to see it again."""
    out = [f"{len(wrong)} connections of seed {SEED} went wrong"]
    for one in wrong[:8]:
        out += [f"plan   {json.dumps(plans[one.id])}", f"client {json.dumps(one.client)}"]
        out += [f"server {json.dumps(one.server)}"]
        out += [f"replay .venv/bin/python -m tests.torture {program} {SEED} {one.id}", ""]
    return "\n".join(out)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Node("torture") as node:
        client, server, bystander = node.pod("client"), node.pod("server"), node.pod("bystander")
        directory = node.directory / "torture"
        directory.mkdir()
        with Mesh(node) as mesh:
            yield Stage(mesh, client, server, bystander, directory, CloseRecords(mesh.flow_log))


def test_plain_connections(stage: Stage) -> None:
    """Every way to send and to read, while policies change and the agent is killed and restarted."""
    evidence = Evidence()
    program = build.named("stream", stage.directory)
    with stage.mesh.open_maps() as maps:
        before = maps.counter(abi.Metric.REDIRECT_BYTES)
        weather = Weather(stage.mesh, stage.client, stage.server, stage.bystander, SEED, kills=True)
        with weather:
            for first in range(0, TOTAL, AT_ONCE):
                stage.run(program, first, min(AT_ONCE, TOTAL - first), evidence)
        carried = maps.counter(abi.Metric.REDIRECT_BYTES) - before
    print(dict(weather.seen), evidence.summary(), f"{carried} bytes redirected by the counter", sep="\n")
