"""What the agent itself costs: memory, processor time for each flow record, and how many it could write."""

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

from bench.ground import Ground
from bench.result import MESH, Goal, Result
from control.agent import state
from control.flow import log, recorder, sink
from loader import abi, events, record

_TICKS = os.sysconf("SC_CLK_TCK")


def memory() -> Result:
    return Result("agent-memory", "the agent's resident memory after all this", "MB", [Goal(100, most=True)])


def measure_memory(ground: Ground, result: Result) -> None:
    result.add(MESH, ground.mesh.call("status")["resident_memory_bytes"] / 1e6)


class Usage:
    """The agent's processor time and records while something else runs: `with Usage(ground) as used: ...`."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.found: dict[str, Any] = {}

    def _now(self) -> tuple[float, float, int, int]:
        agent = self._ground.mesh.agent
        assert agent is not None
        fields = Path(f"/proc/{agent.pid}/stat").read_text().rpartition(")")[2].split()
        with self._ground.mesh.open_maps() as opened:
            lost = opened.counter(abi.Metric.EVENTS_LOST)
        lines = int(self._ground.mesh.call("status")["flow_log"]["lines"])
        return time.monotonic(), (int(fields[11]) + int(fields[12])) / _TICKS, lines, lost

    def __enter__(self) -> "Usage":
        self._before = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        seconds, cpu, lines, lost = (b - a for a, b in zip(self._before, self._now(), strict=True))
        self.found = {
            "cores": round(cpu / seconds, 3),
            "records": lines,
            "lost": lost,
            "us_per_record": round(cpu / lines * 1e6, 2) if lines else None,
        }


def records_per_second(ground: Ground, seconds: float) -> Result:
    """Write as many records of short connections as one core can, into a file as the agent does."""
    result = Result("agent-records", "flow records the agent can write with one core", "1/s")
    ends: dict[str, Any] = {
        "saddr": record.pack_addr(ground.pairs[MESH].client.ip),
        "daddr": record.pack_addr(ground.pairs[MESH].server.ip),
        "proto": int(abi.Proto.TCP),
        "verdict": int(abi.Verdict.ALLOW),
    }
    made = []
    for number in range(1000):
        of_this = abi.FlowEvent.blank(**ends, time=time.monotonic_ns(), cookie=number + 1, sport=20_000 + number)
        made.append(dataclasses.replace(of_this, type=int(abi.EventType.OPEN)))
        close: dict[str, Any] = {
            "type": int(abi.EventType.CLOSE),
            "tx_bytes": 65,
            "rx_bytes": 64,
            "duration": 90_000 + number,
        }
        made.append(dataclasses.replace(of_this, **close))
    slots = [bytes(events.HEADER) + event.pack() for event in made]
    batches = [slots[at : at + events.BATCH] for at in range(0, len(slots), events.BATCH)]
    writer = recorder.Recorder(state.load_names(ground.mesh.run_dir))
    path = ground.pairs[MESH].directory / "records.json"
    flows = log.FlowLog([sink.make(str(path), 100_000_000, 1)], "bench")
    start = time.process_time()
    count = 0
    while time.process_time() - start < seconds:
        for batch in batches:
            flows.write(writer.lines(b"".join(batch)))
            flows.flush()
        count += len(slots)
    result.add(MESH, count / (time.process_time() - start))
    flows.close()
    return result
