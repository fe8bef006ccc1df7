"""Prometheus' view of the agent: one plain snapshot in, the text of /metrics out.

Every slot of abi.Metric has a name here, so a counter that C gains cannot stay unseen: a unit test compares them.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping

import prometheus_client
from prometheus_client import core, registry
from prometheus_client.utils import floatToGoString

from control.agent.handshakes import Handshakes
from control.flow import log, request_counts, summary
from control.tracing import sender
from loader import abi

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST


@dataclasses.dataclass(frozen=True)
class TrafficRow:
    """One row of the `traffic` map, summed over the CPUs: what was dropped, and why."""

    reason: int
    direction: int
    packets: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class MapFill:
    name: str
    entries: int
    max_entries: int


@dataclasses.dataclass(frozen=True)
class Proxy:
    """The node proxy, as the agent knows it; `lost` are records of requests."""

    connected: int
    workers: int
    lost: int


@dataclasses.dataclass(frozen=True)
class Spans:
    """What became of spans of requests; `lost` by sender.LOSSES."""

    sent: int = 0
    lost: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Mtls:
    """Between nodes: when each service account's certificate ends, renewals by result, and what the proxies count."""

    ends: Mapping[str, float] = dataclasses.field(default_factory=dict)
    renewals: Mapping[str, int] = dataclasses.field(default_factory=dict)
    handshakes: Handshakes = dataclasses.field(default_factory=Handshakes)


@dataclasses.dataclass(frozen=True)
class MetricsSnapshot:
    """All that /metrics shows. `open_connections` counts sides of open TCP connections by AccelReason."""

    counters: Mapping[int, int] = dataclasses.field(default_factory=dict)  # by abi.Metric, summed over the CPUs
    traffic: tuple[TrafficRow, ...] = ()
    flow_log: log.FlowLogStats = dataclasses.field(default_factory=log.FlowLogStats)
    ring_lost: int = 0  # what the agent could not read from the ring buffer, beside what C counts in EVENTS_LOST
    ends_lost: int = 0  # of connections that conntrack had no room for
    requests: request_counts.RequestCounts = dataclasses.field(default_factory=request_counts.RequestCounts)
    open_connections: Mapping[int, int] = dataclasses.field(default_factory=dict)
    maps: tuple[MapFill, ...] = ()
    endpoints: int = 0
    policy_revision: int = 0
    config_problems: int = 0
    hooks_restored: int = 0
    acceleration: bool = False
    proxy: Proxy | None = None  # None: the agent leads nothing there
    mtls: Mtls = dataclasses.field(default_factory=Mtls)
    spans: Spans = dataclasses.field(default_factory=Spans)
    agent_rss_bytes: int = 0
    node: str = ""


@dataclasses.dataclass(frozen=True)
class Series:
    """One counter of the datapath: the metric it belongs to, and its label there."""

    metric: str
    help: str
    label: tuple[str, str] | None = None


_SHORTCUT_PASS = "Messages that went over TCP although the short cut was open to them, by reason."
_SHORTCUT_CAUSE = "shortcut_passes"
_PACKETS = "Packets forwarded on pods' interfaces."
_BYTES = "Bytes of packets forwarded on pods' interfaces."

SERIES: dict[abi.Metric, Series] = {
    abi.Metric.EVENTS_LOST: Series("flows_lost", "Flow events or lines lost, by where.", ("source", "kernel")),
    abi.Metric.REDIRECT_MESSAGES: Series("shortcut_messages", "Messages that took the short cut."),
    abi.Metric.REDIRECT_BYTES: Series("shortcut_bytes", "Bytes that took the short cut."),
    abi.Metric.TCP_MESSAGES: Series("tcp_messages", "Messages of enrolled sockets that went over TCP."),
    abi.Metric.TCP_BYTES: Series("tcp_bytes", "Bytes of enrolled sockets that went over TCP."),
    abi.Metric.PASS_NOT_DRAINED: Series(_SHORTCUT_CAUSE, _SHORTCUT_PASS, ("reason", "not_drained")),
    abi.Metric.PASS_QUEUE_FULL: Series(_SHORTCUT_CAUSE, _SHORTCUT_PASS, ("reason", "queue_full")),
    abi.Metric.PASS_MARKED: Series(_SHORTCUT_CAUSE, _SHORTCUT_PASS, ("reason", "marked")),
    abi.Metric.PASS_DENIED: Series(_SHORTCUT_CAUSE, _SHORTCUT_PASS, ("reason", "denied")),
    abi.Metric.PASS_SWITCHING: Series(_SHORTCUT_CAUSE, _SHORTCUT_PASS, ("reason", "switching")),
    abi.Metric.PASS_GONE: Series(_SHORTCUT_CAUSE, _SHORTCUT_PASS, ("reason", "gone")),
    abi.Metric.REDIRECT_FAILED: Series(_SHORTCUT_CAUSE, _SHORTCUT_PASS, ("reason", "redirect_failed")),
    abi.Metric.CONNECTIONS_OPENED: Series("connections_opened", "TCP connections opened by or to enrolled endpoints."),
    abi.Metric.CONNECTIONS_CLOSED: Series("connections_closed", "TCP connections of enrolled endpoints that closed."),
    abi.Metric.CONNS_MAP_FULL: Series("connections_untracked", "Connections the full conns map had no room for."),
    abi.Metric.CT_CREATED: Series("conntrack_created", "Connection tracking entries made."),
    abi.Metric.CT_INSERT_FAILED: Series("conntrack_insert_failures", "Connection tracking entries refused."),
    abi.Metric.ENROLLED_SOCKETS: Series("shortcut_enrolled_sockets", "Sockets put into the short cut's map."),
    abi.Metric.ENROL_FAILED: Series("shortcut_enrol_failures", "Sockets the kernel refused to put there."),
    abi.Metric.MARKED_READERS: Series(
        "shortcut_readers_marked", "Sockets marked because of how their program uses them."
    ),
    abi.Metric.STUCK_READERS: Series(
        "shortcut_readers_stuck", "Connections reset because a reader could not see bytes of the short cut."
    ),
    abi.Metric.LB_TRANSLATED: Series("service_translations", "Calls to a service address sent to a backend."),
    abi.Metric.LB_NO_BACKEND: Series("service_no_backend", "Calls to a service address without a ready backend."),
    abi.Metric.HELD_PACKETS: Series(
        "shortcut_held_packets", "TCP packets held back until the bytes before them, redirected, have been read."
    ),
    abi.Metric.DIRECT_PACKETS: Series("direct_packets", "Packets put from one pod's interface into another's."),
    abi.Metric.WITHDRAWN_SOCKETS: Series("shortcut_withdrawn_sockets", "Sockets taken out of the short cut's map."),
    abi.Metric.REFUSED_CALLS: Series("refused_calls", "connect and sendmsg calls that policy refused with EPERM."),
    abi.Metric.FAILED_CALLS: Series("failed_calls", "TCP calls that policy let through and nobody took."),
    abi.Metric.FORWARDED_INGRESS_PACKETS: Series("forward_count", _PACKETS, ("direction", "ingress")),
    abi.Metric.FORWARDED_EGRESS_PACKETS: Series("forward_count", _PACKETS, ("direction", "egress")),
    abi.Metric.FORWARDED_INGRESS_BYTES: Series("forward_bytes", _BYTES, ("direction", "ingress")),
    abi.Metric.FORWARDED_EGRESS_BYTES: Series("forward_bytes", _BYTES, ("direction", "egress")),
    abi.Metric.AUDITED: Series("policy_audited", "Verdicts that a policy in audit mode would have made a denial."),
    abi.Metric.POLICY_LOOKUPS: Series("policy_lookups", "Questions to the policy map."),
    abi.Metric.PROXY_PACKETS: Series("proxy_packets", "Packets led to the node proxy."),
    abi.Metric.PROXY_LOST: Series("proxy_packets_lost", "Packets of the node proxy for which there was no way."),
}


def _datapath(snapshot: MetricsSnapshot) -> Iterator[core.CounterMetricFamily]:
    families: dict[str, core.CounterMetricFamily] = {}
    for metric, series in SERIES.items():
        label = series.label
        family = families.get(series.metric)
        if family is None:
            name = f"sockmesh_{series.metric}"
            family = core.CounterMetricFamily(name, series.help, labels=[label[0]] if label else [])
            families[series.metric] = family
        family.add_metric([label[1]] if label else [], snapshot.counters.get(metric, 0))
    lost = families["flows_lost"]
    lost.add_metric(["ring_buffer"], snapshot.ring_lost)
    lost.add_metric(["conntrack"], snapshot.ends_lost)
    lost.add_metric(["observer"], snapshot.flow_log.observers_lost)
    lost.add_metric(["proxy"], snapshot.proxy.lost if snapshot.proxy else 0)
    lost.add_metric(["sink"], sum(sink.lost for sink in snapshot.flow_log.sinks))
    yield from families.values()


def _reason(number: int) -> str:
    try:
        return abi.DropReason(number).name
    except ValueError:
        return str(number)


def _direction(number: int) -> str:
    return "egress" if number == abi.Direction.EGRESS else "ingress"


def _traffic(rows: Iterable[TrafficRow]) -> Iterator[core.CounterMetricFamily]:
    drops = core.CounterMetricFamily("sockmesh_drop_count", "Packets dropped.", labels=["reason", "direction"])
    drop_bytes = core.CounterMetricFamily("sockmesh_drop_bytes", "Bytes dropped.", labels=["reason", "direction"])
    for row in rows:
        direction = _direction(row.direction)
        drops.add_metric([_reason(row.reason), direction], row.packets)
        drop_bytes.add_metric([_reason(row.reason), direction], row.bytes)
    yield from (drops, drop_bytes)


def _flow_log(stats: log.FlowLogStats) -> Iterator[core.Metric]:
    yield core.CounterMetricFamily("sockmesh_flows", "Flow records made.", value=stats.lines)
    written = core.CounterMetricFamily("sockmesh_flow_sink_written", "Flow lines written, by sink.", labels=["sink"])
    lost = core.CounterMetricFamily("sockmesh_flow_sink_lost", "Flow lines a sink could not take.", labels=["sink"])
    failing = core.GaugeMetricFamily("sockmesh_flow_sink_failing", "1: the last write failed.", labels=["sink"])
    for sink in stats.sinks:
        written.add_metric([sink.name], sink.written)
        lost.add_metric([sink.name], sink.lost)
        failing.add_metric([sink.name], float(bool(sink.error)))
    yield from (written, lost, failing)
    yield core.GaugeMetricFamily("sockmesh_flow_observers", "Followers of the flow log.", value=stats.observers)


def _requests(counts: request_counts.RequestCounts) -> Iterator[core.Metric]:
    ends = ["source", "destination"]
    served = core.CounterMetricFamily(
        "sockmesh_http_requests", "Requests that the node proxy has seen.", labels=[*ends, "method", "status"]
    )
    for (pair, method, status), count in sorted(counts.served.items()):
        served.add_metric([*pair, method, status], count)
    seconds = core.HistogramMetricFamily(
        "sockmesh_http_request_duration_seconds", "From a request's head to the end of its answer.", labels=ends
    )
    for pair, (row, total_ns) in sorted(counts.latency.items()):
        bounds = [*map(floatToGoString, request_counts.BOUNDS_S), "+Inf"]
        buckets = list(zip(bounds, map(float, itertools.accumulate(row)), strict=True))
        seconds.add_metric(list(pair), buckets, total_ns / 1e9)
    refused = core.CounterMetricFamily(
        "sockmesh_http_requests_refused", "Requests that the node proxy answered or ended itself.", labels=["reason"]
    )
    for reason in request_counts.REASONS:
        refused.add_metric([reason], counts.refused.get(reason, 0))
    yield from (served, seconds, refused)


def _spans(spans: Spans) -> Iterator[core.Metric]:
    yield core.CounterMetricFamily("sockmesh_spans_sent", "Spans that the collector has taken.", value=spans.sent)
    lost = core.CounterMetricFamily(
        "sockmesh_spans_lost", "Spans that it has not, by where they were lost.", labels=["reason"]
    )
    for reason in sender.LOSSES:
        lost.add_metric([reason], spans.lost.get(reason, 0))
    yield lost


def _mtls(mtls: Mtls) -> Iterator[core.Metric]:
    ends = core.GaugeMetricFamily(
        "sockmesh_certificate_not_after_seconds", "When a service account's certificate ends.", labels=["spiffe_id"]
    )
    for id, at in mtls.ends.items():
        ends.add_metric([id], at)
    renewals = core.CounterMetricFamily(
        "sockmesh_certificate_renewals", "Attempts to get a certificate, by what came of them.", labels=["result"]
    )
    for result in ("ok", "failed"):
        renewals.add_metric([result], mtls.renewals.get(result, 0))
    seen = mtls.handshakes
    shaken = core.CounterMetricFamily(
        "sockmesh_mtls_handshakes", "TLS handshakes of the node proxies with each other.", labels=["result", "reason"]
    )
    shaken.add_metric(["ok", ""], seen.ok)
    for reason, count in sorted(seen.refused.items()):
        shaken.add_metric(["refused", reason], count)
    seconds = core.SummaryMetricFamily(
        "sockmesh_mtls_handshake_seconds", "What successful handshakes took.", seen.ok, seen.seconds
    )
    pool = core.GaugeMetricFamily(
        "sockmesh_mtls_pool_connections", "Connections to other nodes' proxies.", labels=["state"]
    )
    pool.add_metric(["open"], seen.pool_open)
    pool.add_metric(["idle"], seen.pool_idle)
    yield from (ends, renewals, shaken, seconds, pool)


def _state(snapshot: MetricsSnapshot) -> Iterator[core.Metric]:
    connections = core.GaugeMetricFamily(
        "sockmesh_open_connection_sides",
        "Receiving sides of open TCP connections, by why they take the short cut (active) or do not.",
        labels=["reason"],
    )
    for number, count in sorted(snapshot.open_connections.items()):
        connections.add_metric([summary.accel_word(number)], count)
    entries = core.GaugeMetricFamily("sockmesh_bpf_map_entries", "Entries in a BPF map.", labels=["map"])
    most = core.GaugeMetricFamily("sockmesh_bpf_map_max_entries", "Entries a BPF map can hold.", labels=["map"])
    for fill in snapshot.maps:
        entries.add_metric([fill.name], fill.entries)
        most.add_metric([fill.name], fill.max_entries)
    yield from (connections, entries, most)
    for name, text, value in (
        ("endpoints", "Endpoints of this node under policy.", snapshot.endpoints),
        ("policy_revision", "Revision of the policy in force: changes of what the kernel has, and starts of the agent.",
         snapshot.policy_revision),
        ("config_problems", "What is wrong with the configuration: what is not in force, or does not do what it says.",
         snapshot.config_problems),
        ("shortcut_enabled", "1: new connections may take the short cut.", int(snapshot.acceleration)),
        ("proxy_enabled", "1: connections that policy wants looked into go to the node proxy; 0: they are refused.",
         int(snapshot.proxy is not None)),
        ("proxy_connected", "Node proxies that are connected to the agent.",
         snapshot.proxy.connected if snapshot.proxy else 0),
        ("proxy_workers", "Processes of the node proxies that are connected.",
         snapshot.proxy.workers if snapshot.proxy else 0),
        ("agent_resident_memory_bytes", "Memory of the agent's process.", snapshot.agent_rss_bytes),
    ):  # fmt: skip
        yield core.GaugeMetricFamily(f"sockmesh_{name}", text, value=value)
    yield core.CounterMetricFamily(
        "sockmesh_hooks_restored", "Places whose hooks somebody else took off, and where they were put back.",
        value=snapshot.hooks_restored,
    )  # fmt: skip
    if snapshot.node:
        yield core.InfoMetricFamily("sockmesh_node", "The node this agent serves.", value={"node": snapshot.node})


class _Collector(registry.Collector):
    def __init__(self, snapshot: MetricsSnapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[core.Metric]:
        yield from _datapath(self._snapshot)
        yield from _traffic(self._snapshot.traffic)
        yield from _flow_log(self._snapshot.flow_log)
        yield from _requests(self._snapshot.requests)
        yield from _mtls(self._snapshot.mtls)
        yield from _spans(self._snapshot.spans)
        yield from _state(self._snapshot)


def render(snapshot: MetricsSnapshot) -> bytes:
    """Return the text exposition of one snapshot; serve it with CONTENT_TYPE."""
    own = registry.CollectorRegistry(auto_describe=False)
    own.register(_Collector(snapshot))
    return prometheus_client.generate_latest(own)
