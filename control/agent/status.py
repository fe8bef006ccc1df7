"""What an agent says of itself: the answer of the admin socket's `status`, and the snapshot behind /metrics."""

import os
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from control import metrics
from control.agent import trial
from loader import abi, selftest
from loader.maps import Maps

if TYPE_CHECKING:
    from control.agent.agent import Agent

Json = dict[str, Any]
_COUNTED = ("endpoints", "policy", "ipcache", "ct", "conns", "services", "backends")


def rss_bytes() -> int:
    """Return this process's resident memory."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def open_sides(opened: Maps) -> Counter[int]:
    """Count the sides of open TCP connections on this node by AccelReason."""
    sides: Counter[int] = Counter()
    for _, conn in opened.conns.items():
        for side in (0, 1):
            if conn.cookie[side] and not conn.closed[side]:
                sides[conn.reason[side]] += 1
    return sides


def fills(opened: Maps) -> tuple[metrics.MapFill, ...]:
    return tuple(metrics.MapFill(n, opened[n].count(), abi.MAP_BY_NAME[n].max_entries) for n in _COUNTED)


class Figures:
    """The datapath's counters for /metrics. Make it before the agent begins its self-test: what that moves is put back
    at its end (loader/selftest/figures.py), and Prometheus takes a counter that falls for one that began anew."""

    def __init__(self, agent: "Agent") -> None:
        self._agent = agent
        self._before = self._read(selftest.SHORT_CUT)

    def _read(self, wanted: Iterable[abi.Metric]) -> dict[int, int]:
        return {int(metric): self._agent.mesh.maps.counter(metric) for metric in wanted}

    def read(self) -> dict[int, int]:
        found = self._read(abi.Metric)
        return found | self._before if self._agent.accel_off == trial.RUNNING else found


def snapshot(agent: "Agent", counters: Figures) -> metrics.MetricsSnapshot:
    opened = agent.mesh.maps
    config = opened.config.get_at(0)
    return metrics.MetricsSnapshot(
        counters=counters.read(),
        traffic=tuple(
            metrics.TrafficRow(key.reason, key.direction, value.packets, value.bytes)
            for key, value in opened.traffic.items()
        ),
        flow_log=agent.flows.stats(),
        open_connections=open_sides(opened),
        maps=fills(opened),
        endpoints=len(agent.have["endpoints"]),
        policy_revision=agent.revision,
        config_problems=len(agent.problems),
        hooks_restored=agent.hooks_restored,
        acceleration=bool(config.acceleration and config.self_test),
        agent_rss_bytes=rss_bytes(),
        node=agent.node,
    )


def status(agent: "Agent") -> Json:
    """Return the agent's own words, ready for JSON; what the maps alone tell, the command reads from the maps."""
    flow_log = agent.flows.stats()
    return {
        "node": agent.node,
        "pid": os.getpid(),
        "started": agent.started,
        "config_dir": str(agent.opts.config_dir),
        "pin_dir": str(agent.opts.pin_dir),
        "adopted": agent.mesh.loaded.adopted,
        "compiled": agent.mesh.loaded.compiled,
        "policy_revision": agent.revision,
        "policies": len(agent.snapshot.policies) if agent.snapshot else 0,
        "problems": [str(problem) for problem in agent.problems],
        "acceleration_off": agent.accel_off,
        "self_test": agent.self_test,
        "resets": agent.ledger.resets,
        "hooks_restored": agent.hooks_restored,
        "resident_memory_bytes": rss_bytes(),
        "metrics": agent.opts.metrics,
        "flow_log": {
            "lines": flow_log.lines,
            "sinks": [{"name": s.name, "written": s.written, "lost": s.lost, "error": s.error} for s in flow_log.sinks],
            "observers": flow_log.observers,
            "observers_lost": flow_log.observers_lost,
        },
    }
