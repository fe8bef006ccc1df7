"""What an agent says of itself: the answer of the admin socket's `status`, and the snapshot behind /metrics."""

import os
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from control import metrics
from control.agent import handshakes, trial
from loader import abi
from loader.maps import Maps

if TYPE_CHECKING:
    from control.agent.agent import Agent

Json = dict[str, Any]
# Not `socks`: the kernel counts a sockhash one entry by one. It has room for both ends of all that is in `conns`.
_COUNTED = (
    "endpoints", "endpoint_ips", "policy", "services", "backends", "conns", "ct", "reverse", "frags", "ipcache",
)  # fmt: skip
_BUDGET_S = 0.02


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
        sides.update(end.reason for end in conn.open_ends)
    return sides


class Fills:
    """How full the maps are. Counting a map means walking over it, so a reading stops when it has taken its share of
    CPU time, and the next one goes on from there: all maps of a usual node at once, those of a full one in turn."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}
        self._next = deque(_COUNTED)

    def read(self, opened: Maps) -> tuple[metrics.MapFill, ...]:
        began = time.thread_time()
        for _ in _COUNTED:
            name = self._next[0]
            self._found[name] = opened[name].count()
            self._next.rotate(-1)
            if time.thread_time() - began > _BUDGET_S:
                break
        return tuple(
            metrics.MapFill(name, self._found[name], abi.MAP_BY_NAME[name].max_entries)
            for name in _COUNTED
            if name in self._found
        )


def snapshot(agent: "Agent", fills: Fills) -> metrics.MetricsSnapshot:
    opened = agent.mesh.maps
    config = opened.config.get_at(0)
    return metrics.MetricsSnapshot(
        counters={int(metric): opened.counter(metric) for metric in abi.Metric},
        traffic=tuple(
            metrics.TrafficRow(key.reason, key.direction, value.packets, value.bytes)
            for key, value in opened.traffic.items()
        ),
        flow_log=agent.flows.stats(),
        ends_lost=agent.ledger.ends_lost,
        requests=agent.ledger.request_counts,
        open_connections=open_sides(opened),
        maps=fills.read(opened),
        endpoints=agent.reconciler.under_policy,
        policy_revision=agent.reconciler.revision,
        config_problems=len(_problems(agent)),
        hooks_restored=agent.reconciler.hooks_restored,
        acceleration=bool(config.acceleration and config.self_test),
        proxy=metrics.Proxy(**there) if (there := _proxy(agent)) else None,
        mtls=_mtls(agent),
        spans=metrics.Spans(agent.spans.sent, agent.spans.losses()) if agent.spans else metrics.Spans(),
        agent_rss_bytes=rss_bytes(),
        node=agent.node,
    )


def _problems(agent: "Agent") -> list[str]:
    return [*map(str, agent.reconciler.problems), *(agent.mtls.problems if agent.mtls else ())]


def _policies(agent: "Agent") -> int:
    """Return how many are in force; the deny in place of all that does not fit is none."""
    there = agent.reconciler.snapshot
    return len(there.policies) if there and not agent.reconciler.is_closed else 0


def _mtls(agent: "Agent") -> metrics.Mtls:
    seen = agent.proxies.handshakes.total() if agent.proxies else handshakes.Handshakes()
    if not agent.mtls:
        return metrics.Mtls(handshakes=seen)
    return metrics.Mtls(agent.mtls.view.ends, agent.mtls.view.renewals, seen)


def _proxy(agent: "Agent") -> Json | None:
    """Return what is known of the node proxy; nothing if this agent leads nothing there."""
    if (there := agent.proxies) is None:
        return None
    return {"connected": there.connected, "workers": there.workers, "lost": there.lost}


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
        "policy_revision": agent.reconciler.revision,
        "policies": _policies(agent),
        "closed": agent.reconciler.is_closed,
        "problems": _problems(agent),
        "warnings": [*agent.unfulfilled.warnings, *(agent.spans.warnings if agent.spans else ())],
        "acceleration_off": agent.accel_off,
        "self_test": agent.self_test,
        "self_test_running": agent.accel_off == trial.RUNNING,
        "resets": agent.ledger.resets,
        "hooks_restored": agent.reconciler.hooks_restored,
        "resident_memory_bytes": rss_bytes(),
        "metrics": agent.opts.metrics,
        "proxy": _proxy(agent),
        "mtls": agent.mtls.status() if agent.mtls else None,
        "tracing": agent.spans.status() if agent.spans else None,
        "flow_log": {
            "lines": flow_log.lines,
            "sinks": [{"name": s.name, "written": s.written, "lost": s.lost, "error": s.error} for s in flow_log.sinks],
            "observers": flow_log.observers,
            "observers_lost": flow_log.observers_lost,
            "ends_lost": agent.ledger.ends_lost,
        },
    }
