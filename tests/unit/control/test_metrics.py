"""/metrics: valid for Prometheus' own parser, complete over the enums, and nothing renamed by accident."""

import re
from collections.abc import Iterator

import pytest
from prometheus_client import parser

from control import metrics
from control.agent.handshakes import Handshakes
from control.flow import log, request_counts
from loader import abi

SNAPSHOT = metrics.MetricsSnapshot(
    counters={metric: 100 + metric for metric in abi.Metric},
    traffic=(
        metrics.TrafficRow(abi.DropReason.POLICY_DENIED, abi.Direction.INGRESS, 2, 120),
        metrics.TrafficRow(250, abi.Direction.EGRESS, 1, 60),
    ),
    flow_log=log.FlowLogStats(
        50, (log.SinkStats("flows.log", 40, 10, "flows.log: No space left on device"), log.SinkStats("-", 50, 0)), 2, 7
    ),
    ring_lost=3,
    ends_lost=6,
    open_connections={abi.AccelReason.ACTIVE: 8, abi.AccelReason.PEER_REMOTE: 1},
    maps=(metrics.MapFill("policy", 12, 65536),),
    endpoints=4,
    policy_revision=9,
    config_problems=1,
    hooks_restored=3,
    acceleration=True,
    proxy=metrics.Proxy(connected=1, workers=4, lost=8),
    mtls=metrics.Mtls({"spiffe://a/ns/b/sa/c": 1.5}, {"ok": 3}, Handshakes(4, {"expired": 2}, 0.5, 7, 8)),
    spans=metrics.Spans(6, {"queue": 2}),
    agent_rss_bytes=50_000_000,
    node="n1",
    requests=request_counts.RequestCounts(
        {(("a/web", "b/api"), "GET", "2xx"): 3},
        {("a/web", "b/api"): ((0, 2, *[0] * 11, 1), 250_000_000)},
        {"policy": 1},
    ),
)
LE = [("0.001", 0), *((str(bound), 2) for bound in request_counts.BOUNDS_S[1:]), ("+Inf", 3)]


def samples(snapshot: metrics.MetricsSnapshot) -> Iterator[tuple[str, float]]:
    for family in parser.text_string_to_metric_families(metrics.render(snapshot).decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            yield f"{sample.name}{{{labels}}}" if labels else sample.name, sample.value


def test_everything_that_is_no_datapath_counter() -> None:
    found = {name.removeprefix("sockmesh_"): value for name, value in samples(SNAPSHOT)}
    datapath = {f"{series.metric}_total" for series in metrics.SERIES.values()}
    rest = {name: value for name, value in found.items() if name.partition("{")[0] not in datapath}
    assert rest == {
        "drop_count_total{direction=ingress,reason=POLICY_DENIED}": 2,
        "drop_count_total{direction=egress,reason=250}": 1,
        "drop_bytes_total{direction=ingress,reason=POLICY_DENIED}": 120,
        "drop_bytes_total{direction=egress,reason=250}": 60,
        "flows_total": 50,
        "flow_sink_written_total{sink=flows.log}": 40,
        "flow_sink_written_total{sink=-}": 50,
        "flow_sink_lost_total{sink=flows.log}": 10,
        "flow_sink_lost_total{sink=-}": 0,
        "flow_sink_failing{sink=flows.log}": 1,
        "flow_sink_failing{sink=-}": 0,
        "flow_observers": 2,
        "http_requests_total{destination=b/api,method=GET,source=a/web,status=2xx}": 3,
        **{
            f"http_request_duration_seconds_bucket{{destination=b/api,le={le},source=a/web}}": count for le, count in LE
        },
        "http_request_duration_seconds_count{destination=b/api,source=a/web}": 3,
        "http_request_duration_seconds_sum{destination=b/api,source=a/web}": 0.25,
        **{f"http_requests_refused_total{{reason={why}}}": int(why == "policy") for why in request_counts.REASONS},
        "open_connection_sides{reason=active}": 8,
        "open_connection_sides{reason=peer-remote}": 1,
        "bpf_map_entries{map=policy}": 12,
        "bpf_map_max_entries{map=policy}": 65536,
        "endpoints": 4,
        "policy_revision": 9,
        "config_problems": 1,
        "hooks_restored_total": 3,
        "shortcut_enabled": 1,
        "proxy_enabled": 1,
        "proxy_connected": 1,
        "proxy_workers": 4,
        "certificate_not_after_seconds{spiffe_id=spiffe://a/ns/b/sa/c}": 1.5,
        "certificate_renewals_total{result=ok}": 3,
        "certificate_renewals_total{result=failed}": 0,
        "mtls_handshakes_total{reason=,result=ok}": 4,
        "mtls_handshakes_total{reason=expired,result=refused}": 2,
        "mtls_handshake_seconds_count": 4,
        "mtls_handshake_seconds_sum": 0.5,
        "mtls_pool_connections{state=open}": 7,
        "mtls_pool_connections{state=idle}": 8,
        "spans_sent_total": 6,
        "spans_lost_total{reason=queue}": 2,
        "spans_lost_total{reason=collector}": 0,
        "spans_lost_total{reason=exporter}": 0,
        "agent_resident_memory_bytes": 50_000_000,
        "node_info{node=n1}": 1,
    }


def test_the_help_says_what_a_revision_counts_and_what_the_proxy_is_for() -> None:
    families = parser.text_string_to_metric_families(metrics.render(SNAPSHOT).decode())
    told = {family.name: family.documentation for family in families}
    assert "and starts of the agent" in told["sockmesh_policy_revision"]
    assert told["sockmesh_proxy_enabled"].startswith(
        "1: connections that policy wants looked into go to the node proxy"
    )


@pytest.mark.parametrize("metric", list(abi.Metric))
def test_every_counter_of_the_datapath_is_shown(metric: abi.Metric) -> None:
    series = metrics.SERIES[metric]
    name = f"sockmesh_{series.metric}_total" + ("{{{}={}}}".format(*series.label) if series.label else "")
    assert dict(samples(SNAPSHOT))[name] == 100 + metric


def test_no_two_counters_share_a_name() -> None:
    names = [(series.metric, series.label) for series in metrics.SERIES.values()]
    assert len(set(names)) == len(names) == len(abi.Metric)


def test_what_was_lost_is_shown_by_where() -> None:
    lost = {name: value for name, value in samples(SNAPSHOT) if name.startswith("sockmesh_flows_lost_total")}
    assert lost == {
        "sockmesh_flows_lost_total{source=kernel}": 100,
        "sockmesh_flows_lost_total{source=ring_buffer}": 3,
        "sockmesh_flows_lost_total{source=conntrack}": 6,
        "sockmesh_flows_lost_total{source=observer}": 7,
        "sockmesh_flows_lost_total{source=proxy}": 8,
        "sockmesh_flows_lost_total{source=sink}": 10,
    }


def test_each_family_has_one_help_and_no_sample_comes_twice() -> None:
    text = metrics.render(SNAPSHOT).decode()
    helped = re.findall(r"^# HELP (\S+) \S", text, re.M)
    assert sorted(helped) == sorted(re.findall(r"^# TYPE (\S+) \S", text, re.M)) == sorted(set(helped))
    lines = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def test_an_agent_that_has_seen_nothing_yet() -> None:
    found = dict(samples(metrics.MetricsSnapshot()))
    assert set(found.values()) == {0.0}
    assert "sockmesh_shortcut_bytes_total" in found
