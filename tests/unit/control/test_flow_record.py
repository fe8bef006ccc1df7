"""Kernel events become Hubble's lines: whole lines compared, every enum member mapped, no event without its line."""

import dataclasses
import doctest
import itertools
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control import names
from control.flow import directory, record, recorder, template
from control.policy import ports
from loader import abi, events
from loader import record as layout

WEB = names.EndpointName(1, "shop", "web", 256, ("k8s:app=web",), ("10.0.0.1", "fd00::1"))
API = names.EndpointName(2, "shop", "api", 257, ("k8s:app=api",), ("10.0.0.2", "fd00::2"))
FAR = names.EndpointName(0, "shop", "far", 258, ("k8s:app=far",), ("10.0.1.9",))
RULE = names.RuleName("CiliumNetworkPolicy", "shop", "web-out", "spec.egress[0]", "web.yaml:12", ("k8s:team=a",))
DENY = names.RuleName("NetworkPolicy", "shop", "api-in", "spec.ingress[1]", "api.yaml:3")
NAMES = names.Names(
    node="n1",
    endpoints={1: WEB, 2: API},
    remote={"10.0.1.9": FAR},
    identities={256: ("k8s:app=web", "k8s:ns=shop"), 257: ("k8s:app=api",)},
    rules={7: RULE, 8: DENY},
    services={
        4: names.ServiceName(4, "shop", "db", ("10.9.0.1", "10.9.0.2")),
        5: names.ServiceName(5, "shop", "db", ("fd09::1",)),
    },
    revision=3,
)
CLOCK = record.ClockOffset(1_700_000_000_000_000_000)
UUID = "00000000-0000-4000-8000-000000000001"


def event(**changes: Any) -> abi.FlowEvent:
    return dataclasses.replace(
        abi.FlowEvent(
            time=5, cookie=0, saddr=layout.pack_addr("10.0.0.1"), daddr=layout.pack_addr("10.0.0.2"), sport=40212,
            dport=8080, proto=abi.Proto.TCP, type=abi.EventType.OPEN, hook=abi.Hook.SOCKOPS,
            direction=abi.Direction.EGRESS, src_identity=256, dst_identity=257, src_endpoint=1, dst_endpoint=2,
            egress_rule=0, ingress_rule=0, verdict=abi.Verdict.ALLOW, reason=0, tcp_flags=0, accel=0,
            accel_reason=(0, 0), icmp_type=0, icmp_code=0, ifindex=0, pad=0, tx_bytes=0, rx_bytes=0, tx_redirected=0,
            rx_redirected=0, duration=0, flags=0,
        ),
        **changes,
    )  # fmt: skip


def slots(found: list[abi.FlowEvent]) -> bytes:
    return b"".join(bytes(events.HEADER) + each.pack() for each in found)


def flow(**changes: Any) -> dict[str, Any]:
    return record.flow(event(**changes), NAMES, CLOCK, lambda: UUID)


def inner(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = flow(**changes)["flow"]
    return found


SOURCE = {
    "ID": 1, "identity": 256, "namespace": "shop", "labels": ["k8s:app=web", "k8s:ns=shop"], "pod_name": "web",
}  # fmt: skip
DESTINATION = {"ID": 2, "identity": 257, "namespace": "shop", "labels": ["k8s:app=api"], "pod_name": "api"}
TIME = "2023-11-14T22:13:20.000000005Z"


def struct(**ours: Any) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.protobuf.Struct", "value": {"sockmesh": ours}}


def test_close_of_a_short_cut_connection() -> None:
    got = flow(
        type=abi.EventType.CLOSE, cookie=42, egress_rule=7, accel=1, accel_reason=(1, 1), tx_bytes=12_345_678,
        rx_bytes=4_100, tx_redirected=12_340_000, rx_redirected=4_000, duration=3_200_000_000,
    )  # fmt: skip
    assert got == {
        "flow": {
            "time": TIME,
            "uuid": UUID,
            "verdict": "FORWARDED",
            "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
            "l4": {"TCP": {"source_port": 40212, "destination_port": 8080}},
            "source": SOURCE,
            "destination": DESTINATION,
            "Type": "SOCK",
            "node_name": "n1",
            "event_type": {"type": 7},
            "traffic_direction": "INGRESS",
            "is_reply": False,
            "socket_cookie": "42",
            "Summary": "TCP; short cut; 12.3 MB sent, 4.1 kB received, 3.2 s",
            "extensions": struct(
                event="close",
                hook="sockops",
                bytes_sent="12345678",
                bytes_received="4100",
                short_cut_bytes_sent="12340000",
                short_cut_bytes_received="4000",
                duration_ns="3200000000",
                short_cut=True,
                short_cut_reason={"source": "active", "destination": "active"},
                rule={"egress": "spec.egress[0]", "source": {"egress": "web.yaml:12"}},
            ),
            "egress_allowed_by": [
                {
                    "name": "web-out",
                    "namespace": "shop",
                    "labels": ["k8s:team=a"],
                    "revision": "3",
                    "kind": "CiliumNetworkPolicy",
                }
            ],
        },
        "node_name": "n1",
        "time": TIME,
    }


def test_packet_dropped_by_an_explicit_rule() -> None:
    got = inner(
        type=abi.EventType.DROP, hook=abi.Hook.TC_TO_POD, direction=abi.Direction.INGRESS, verdict=abi.Verdict.DENY,
        reason=abi.DropReason.POLICY_DENY, tcp_flags=0x02, egress_rule=7, ingress_rule=8,
    )  # fmt: skip
    assert got == {
        "time": TIME,
        "uuid": UUID,
        "verdict": "DROPPED",
        "drop_reason": 181,
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 40212, "destination_port": 8080, "flags": {"SYN": True}}},
        "source": SOURCE,
        "destination": DESTINATION,
        "Type": "L3_L4",
        "node_name": "n1",
        "event_type": {"type": 1, "sub_type": 181},
        "traffic_direction": "INGRESS",
        "trace_observation_point": "TO_ENDPOINT",
        "drop_reason_desc": "POLICY_DENY",
        "is_reply": False,
        "Summary": "TCP Flags: SYN",
        "extensions": struct(
            event="drop",
            hook="tc_to_pod",
            rule={
                "egress": "spec.egress[0]",
                "ingress": "spec.ingress[1]",
                "source": {"egress": "web.yaml:12", "ingress": "api.yaml:3"},
            },
        ),
        "egress_allowed_by": [
            {
                "name": "web-out",
                "namespace": "shop",
                "labels": ["k8s:team=a"],
                "revision": "3",
                "kind": "CiliumNetworkPolicy",
            }
        ],
        "ingress_denied_by": [{"name": "api-in", "namespace": "shop", "revision": "3", "kind": "NetworkPolicy"}],
    }


def test_a_packet_that_is_not_who_it_says_names_where_it_came_in() -> None:
    dropped = {"type": abi.EventType.DROP, "hook": abi.Hook.TC_TO_POD, "reason": abi.DropReason.INVALID_SOURCE_IP}
    assert inner(**dropped, ifindex=12)["interface"] == {"index": 12}
    assert "interface" not in inner(**dropped)


def test_the_world_over_ipv6_by_udp() -> None:
    got = inner(
        saddr=layout.pack_addr("fd00::1"), daddr=layout.pack_addr("2001:db8::5"), proto=abi.Proto.UDP, dport=53,
        hook=abi.Hook.TC_FROM_POD, dst_endpoint=0, dst_identity=2,
    )  # fmt: skip
    assert got == {
        "time": TIME,
        "uuid": UUID,
        "verdict": "FORWARDED",
        "IP": {"source": "fd00::1", "destination": "2001:db8::5", "ipVersion": "IPv6"},
        "l4": {"UDP": {"source_port": 40212, "destination_port": 53}},
        "source": SOURCE,
        "destination": {"identity": 2, "labels": ["reserved:world"]},
        "Type": "L3_L4",
        "node_name": "n1",
        "event_type": {"type": 5},
        "traffic_direction": "EGRESS",
        "trace_observation_point": "FROM_ENDPOINT",
        "is_reply": False,
        "Summary": "UDP",
        "extensions": struct(event="open", hook="tc_from_pod"),
    }


@pytest.mark.parametrize(
    ("changes", "l4", "summary"),
    [
        ({"proto": 1, "icmp_type": 8}, {"ICMPv4": {"type": 8}}, "ICMPv4 EchoRequest"),
        ({"proto": 1}, {"ICMPv4": {}}, "ICMPv4 EchoReply"),
        ({"proto": 58, "icmp_type": 128, "icmp_code": 1}, {"ICMPv6": {"type": 128, "code": 1}},
         "ICMPv6 EchoRequest code 1"),
        ({"proto": 132}, {"SCTP": {"source_port": 40212, "destination_port": 8080}}, "SCTP"),
        ({"proto": 47}, None, "IP protocol 47"),
        ({"tcp_flags": 0xFF, "type": 4}, {"TCP": {"source_port": 40212, "destination_port": 8080, "flags": {
            name: True for name in ("FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR")}}},
         "TCP Flags: FIN, SYN, RST, PSH, ACK, URG, ECE, CWR"),
    ],
)  # fmt: skip
def test_protocols(changes: dict[str, Any], l4: dict[str, Any] | None, summary: str) -> None:
    got = inner(**changes)
    assert (got.get("l4"), got["Summary"]) == (l4, summary)
    assert record.extension(got).get("protocol") == (47 if l4 is None else None)


@pytest.mark.parametrize(
    ("changes", "verdict", "event_type", "kind"),
    [
        ({"type": 1}, "FORWARDED", {"type": 5}, "SOCK"),
        ({"type": 1, "verdict": 2}, "REDIRECTED", {"type": 5}, "SOCK"),
        ({"type": 1, "verdict": 0}, "DROPPED", {"type": 5}, "SOCK"),
        ({"type": 2}, "FORWARDED", {"type": 7}, "SOCK"),
        ({"type": 3, "hook": 3}, "FORWARDED", {"type": 4, "sub_type": 5}, "L3_L4"),
        ({"type": 3, "hook": 4}, "FORWARDED", {"type": 4}, "L3_L4"),
        ({"type": 3, "hook": 8}, "FORWARDED", {"type": 4, "sub_type": 5}, "L3_L4"),
        ({"type": 3, "hook": 8, "direction": 0}, "FORWARDED", {"type": 4}, "L3_L4"),
        ({"type": 3, "hook": 8, "cookie": 9}, "FORWARDED", {"type": 7}, "SOCK"),
        ({"type": 4, "hook": 1, "verdict": 0, "reason": 133}, "DROPPED", {"type": 1, "sub_type": 133}, "SOCK"),
        ({"type": 4, "hook": 3, "verdict": 0}, "DROPPED", {"type": 1}, "L3_L4"),
        ({"type": 5, "verdict": 0, "reason": 133}, "AUDIT", {"type": 5}, "SOCK"),
        ({"type": 6, "hook": 7}, "ERROR", {"type": 7}, "L3_L4"),
        ({"type": 7, "hook": 8, "cookie": 9}, "DROPPED", {"type": 1, "sub_type": 133}, "SOCK"),
        ({"type": 7, "hook": 8, "cookie": 9, "egress_rule": 7}, "DROPPED", {"type": 1, "sub_type": 181}, "SOCK"),
    ],
)
def test_verdicts_and_event_types(changes: dict[str, Any], verdict: str, event_type: dict[str, int], kind: str) -> None:
    got = inner(**changes)
    assert (got["verdict"], got["event_type"], got["Type"]) == (verdict, event_type, kind)
    assert ("drop_reason_desc" in got) == (verdict == "DROPPED" and "sub_type" in event_type)


@pytest.mark.parametrize("kind", [abi.EventType.OPEN, abi.EventType.PERIODIC, abi.EventType.CLOSE])
@pytest.mark.parametrize("proto", [abi.Proto.TCP, abi.Proto.UDP, abi.Proto.ICMP])
@pytest.mark.parametrize("noted", list(abi.Direction))
@pytest.mark.parametrize(("ends", "wanted"), [((1, 0), "EGRESS"), ((0, 2), "INGRESS"), ((1, 2), "INGRESS")])
def test_the_direction_of_what_was_allowed_tells_who_was_asked_last(
    kind: abi.EventType, proto: abi.Proto, noted: abi.Direction, ends: tuple[int, int], wanted: str
) -> None:
    """Whichever hook noted it: sock_ops knows no direction, and the packet hook that comes first notes its own."""
    got = inner(type=kind, proto=proto, direction=noted, src_endpoint=ends[0], dst_endpoint=ends[1])
    assert got["traffic_direction"] == wanted


@pytest.mark.parametrize("kind", [abi.EventType.DROP, abi.EventType.AUDIT, abi.EventType.POLICY_RESET])
@pytest.mark.parametrize("noted", list(abi.Direction))
def test_the_direction_of_a_refusal_is_that_of_the_policy_that_refused(kind: int, noted: abi.Direction) -> None:
    assert inner(type=kind, direction=noted, verdict=0)["traffic_direction"] == noted.name


def test_audit_names_the_rule_that_would_deny() -> None:
    got = inner(type=abi.EventType.AUDIT, direction=abi.Direction.INGRESS, ingress_rule=8)
    assert [key for key in got if key.endswith("_by")] == ["ingress_denied_by"]


@pytest.mark.parametrize("member", [m for e in (abi.EventType, abi.Hook, abi.DropReason, abi.AccelReason) for m in e])
def test_every_enum_member_has_a_name(member: abi.EventType | abi.Hook | abi.DropReason | abi.AccelReason) -> None:
    match member:
        case abi.EventType():
            assert record.extension(inner(type=member))["event"] == member.name.lower()
        case abi.Hook():
            assert record.extension(inner(hook=member)).get("hook", "none") == member.name.lower()
        case abi.DropReason():
            got = inner(type=abi.EventType.DROP, verdict=0, reason=member)
            assert got.get("drop_reason_desc", "NONE") == member.name
        case abi.AccelReason():
            got = inner(type=abi.EventType.CLOSE, accel_reason=(member, abi.AccelReason.PROGRAM))
            words = record.extension(got)["short_cut_reason"]
            assert words == {"source": member.name.lower().replace("_", "-"), "destination": "program"}


@pytest.mark.parametrize("identity", list(abi.ReservedIdentity))
def test_reserved_identities_have_their_label(identity: abi.ReservedIdentity) -> None:
    end = directory.Directory(names.Names()).side(0, identity, "192.0.2.1")
    label = "reserved:" + identity.name.lower().replace("_", "-")
    assert end == ({"identity": int(identity)} if identity else {}) | {"labels": [label]}


@pytest.mark.parametrize("proto", [p for p in abi.Proto if p])
def test_every_protocol_with_ports_or_types_has_its_field(proto: abi.Proto) -> None:
    assert len(inner(proto=proto).get("l4", ())) == (proto not in ports.PORTLESS)


@pytest.mark.parametrize(
    ("changes", "summary"),
    [
        ({"type": 1}, "TCP"),
        ({"type": 1, "accel_reason": (2, 2)}, "TCP"),
        ({"type": 3, "accel_reason": (6, 6)}, "TCP; no short cut (peer-remote); 0 B sent, 0 B received, 0 ns"),
        ({"type": 3, "accel_reason": (1, 8)}, "TCP; no short cut (destination: splice); 0 B sent, 0 B received, 0 ns"),
        ({"type": 3, "accel_reason": (7, 8)},
         "TCP; no short cut (source: blocking, destination: splice); 0 B sent, 0 B received, 0 ns"),
        ({"type": 3, "accel_reason": (1, 1)}, "TCP; no short cut; 0 B sent, 0 B received, 0 ns"),
        ({"type": 3, "proto": 17, "tx_bytes": 100, "rx_bytes": 1000, "duration": 10**7},
         "UDP; 100 B sent, 1.0 kB received, 10.0 ms"),
        ({"type": abi.EventType.STUCK, "direction": abi.Direction.INGRESS, "reason": 8},
         "TCP; reset for its reader (destination: splice)"),
        ({"type": abi.EventType.STUCK, "direction": abi.Direction.EGRESS, "reason": 22},
         "TCP; reset for its reader (source: counts)"),
    ],
)  # fmt: skip
def test_summaries(changes: dict[str, Any], summary: str) -> None:
    assert inner(**changes)["Summary"] == summary


EVENTS = st.builds(
    abi.FlowEvent,
    **{
        name: st.binary(min_size=16, max_size=16)
        if scalar.code == "16s"
        else st.tuples(*[st.integers(0, 2 ** (8 * scalar.size) - 1)] * scalar.count)
        if scalar.count
        else st.integers(0, 2 ** (8 * scalar.size) - 1)
        for name, scalar, _ in abi.FlowEvent.FIELDS
    },
)


@given(EVENTS)
def test_any_event_gives_exactly_one_line(any_event: abi.FlowEvent) -> None:
    found = record.flow(any_event, NAMES, CLOCK, lambda: UUID)
    line = record.line(found)
    assert line.count(b"\n") == 1 and line.endswith(b"\n") and line.isascii()
    assert json.loads(line) == found
    assert abi.FlowEvent.unpack(any_event.pack()) == any_event


TEXT = st.text(max_size=8)
ENDPOINTS = st.builds(
    names.EndpointName, id=st.integers(0, 9), namespace=TEXT, name=TEXT, identity=st.integers(0, 2**32 - 1),
    labels=st.tuples(TEXT), ips=st.tuples(TEXT, TEXT),
)  # fmt: skip
RULES = st.builds(names.RuleName, kind=TEXT, namespace=TEXT, name=TEXT, rule=TEXT, source=TEXT, labels=st.tuples(TEXT))
ALL_NAMES = st.builds(
    names.Names, node=TEXT, endpoints=st.dictionaries(st.integers(0, 9), ENDPOINTS),
    remote=st.dictionaries(TEXT, ENDPOINTS), identities=st.dictionaries(st.integers(0, 300), st.tuples(TEXT)),
    rules=st.dictionaries(st.integers(0, 9), RULES), revision=st.integers(0, 9),
    services=st.dictionaries(
        st.integers(0, 9), st.builds(names.ServiceName, st.integers(0, 9), TEXT, TEXT, st.tuples(TEXT))
    ),
)  # fmt: skip


@given(ALL_NAMES, EVENTS)
def test_names_survive_their_file_and_name_the_same_flows(known: names.Names, any_event: abi.FlowEvent) -> None:
    again = names.Names.from_json(known.to_json())
    assert again == known
    assert record.flow(any_event, again, CLOCK, lambda: UUID) == record.flow(any_event, known, CLOCK, lambda: UUID)


def test_a_pod_that_is_gone_still_closes_under_its_name() -> None:
    made = recorder.Recorder(NAMES, CLOCK, itertools.repeat(UUID.encode()))
    # Its address is another pod's by now, and its rule has gone with its policy.
    reused = names.EndpointName(3, "shop", "next", 300, ips=("10.0.0.1",))
    made.update(names.Names(node="n1", endpoints={2: API, 3: reused}, identities=NAMES.identities, revision=3))
    closing = event(type=abi.EventType.CLOSE, egress_rule=7)
    assert made.flow(closing) == record.flow(closing, NAMES, CLOCK, lambda: UUID)


def test_departed_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "DEPARTED", 2)
    made = directory.Directory(names.Names())
    for id in range(1, 6):
        endpoint = names.EndpointName(id, "shop", f"pod{id}", 256)
        made = directory.Directory(names.Names(endpoints={id: endpoint}, rules={id: RULE}), made)
    assert [made.side(id, 256, "").get("pod_name") for id in range(1, 6)] == [None, None, "pod3", "pod4", "pod5"]
    assert [made.rule(id) for id in range(1, 6)] == [None, None, RULE, RULE, RULE]


@pytest.mark.parametrize(
    ("endpoint", "identity", "ip", "name"),
    [
        (1, 256, "10.9.9.9", "web"),  # the id wins
        (0, 258, "10.0.1.9", "far"),  # another node's pod, by address
        (0, 0, "10.0.1.9", "far"),
        (0, 999, "10.0.1.9", None),  # the kernel saw another identity there: the address has changed hands
        (0, 257, "10.0.0.2", "api"),  # a local pod that the hook knew by address only
        (77, 256, "10.0.0.1", None),  # an id we do not know is never guessed from an address
    ],
)
def test_who_an_end_is(endpoint: int, identity: int, ip: str, name: str | None) -> None:
    assert directory.Directory(NAMES).side(endpoint, identity, ip).get("pod_name") == name


def test_unknown_rule_keeps_its_number() -> None:
    assert inner(egress_rule=99)["egress_allowed_by"] == [{"name": "unknown rule 99"}]


def test_lost_events() -> None:
    made = recorder.Recorder(NAMES, CLOCK)
    assert made.lost(5, 5) == (
        b'{"lost_events":{"source":"PERF_EVENT_RING_BUFFER","num_events_lost":"5"},'
        b'"node_name":"n1","time":"2023-11-14T22:13:20.000000005Z"}\n'
    )


def test_uuids_are_version_4_and_differ() -> None:
    ids = {record.new_uuid() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", i) for i in ids)


def test_clock_offset_takes_the_closest_reading() -> None:
    ticks = iter([0, 1000, 2000, 2010, 3000, 3500])
    walls = iter([10_500, 12_005, 99_999])
    assert record.ClockOffset.measure(lambda: next(walls), lambda: next(ticks), 3) == record.ClockOffset(10_000)


_BYTES = st.sampled_from([0, 1, 999, 1000, 123_456_789, 2**63])
_SMALL = st.integers(0, 30)


@given(
    st.lists(
        st.builds(
            event, time=st.integers(0, 10**15),
            cookie=st.sampled_from([0, 1, 77]), sport=st.sampled_from([0, 1, 40212]),
            saddr=st.sampled_from([layout.pack_addr(a) for a in ("10.0.0.1", "fd00::1", "192.0.2.9")] + [bytes(16)]),
            daddr=st.sampled_from([layout.pack_addr(a) for a in ("10.0.0.2", "10.9.0.2", "fd09::1")]),
            dst_endpoint=st.sampled_from([0, 2]),
            proto=st.sampled_from([1, 6, 17, 58, 132, 99]), type=st.integers(0, 9), hook=st.integers(0, 9),
            direction=st.integers(0, 1), src_endpoint=st.integers(0, 3), egress_rule=st.sampled_from([0, 7, 99]),
            verdict=st.integers(0, 2), reason=st.sampled_from([0, 133, 181, 250]), tcp_flags=st.integers(0, 255),
            accel=st.integers(0, 1), accel_reason=st.tuples(_SMALL, _SMALL), icmp_type=_SMALL, icmp_code=_SMALL,
            ifindex=st.sampled_from([0, 12]), tx_bytes=_BYTES, rx_bytes=_BYTES, tx_redirected=_BYTES,
            rx_redirected=_BYTES, duration=st.sampled_from([0, 1, 10**6, 10**9, 10**14]), flags=_SMALL,
        ),
        min_size=1, max_size=3,
    )
)  # fmt: skip
def test_forms_write_the_same_bytes(found: list[abi.FlowEvent]) -> None:
    made = recorder.Recorder(NAMES, CLOCK, itertools.repeat(UUID.encode()))
    changed = [
        dataclasses.replace(each, time=each.time + 10**9, sport=each.sport and 555, cookie=each.cookie and 8)
        for each in found
    ]
    other = [dataclasses.replace(each, tx_redirected=9, rx_bytes=0, duration=10**8) for each in found]
    batch = found * 3 + changed + found + other * 2 + found
    assert made.lines(slots(batch)) == [made.line(each) for each in batch]


def test_a_kind_is_made_in_full_twice_and_a_rare_one_always() -> None:
    in_full: list[int] = []

    def make(each: abi.FlowEvent) -> record.Json:
        in_full.append(each.type)
        return record.flow(each, NAMES, CLOCK, lambda: UUID)

    forms = template.Forms(make)
    short = [event(cookie=n, sport=n, time=n) for n in range(1, 100)]
    closes = [dataclasses.replace(each, type=abi.EventType.CLOSE, duration=each.time, rx_bytes=9) for each in short]
    datagrams = [dataclasses.replace(each, proto=abi.Proto.UDP, hook=abi.Hook.TC_FROM_POD) for each in closes]
    dropped = [event(type=abi.EventType.DROP, sport=n) for n in range(1, 100)]
    forms.lines(slots(short + closes + datagrams + dropped), CLOCK.ns, itertools.repeat(UUID.encode()))
    assert in_full == [abi.EventType.OPEN] * 2 + [abi.EventType.CLOSE] * 4 + [abi.EventType.DROP] * 2
    in_full.clear()
    forms.lines(slots([event(tx_bytes=5)] * 5), CLOCK.ns, itertools.repeat(UUID.encode()))
    assert in_full == [abi.EventType.OPEN] * 5


def test_times_of_a_batch_may_go_back_and_forth() -> None:
    made = recorder.Recorder(NAMES, record.ClockOffset(1_700_000_000_999_999_990), itertools.repeat(UUID.encode()))
    found = [event(time=time) for time in (5, 5, 5, 9, 10, 11, 10**9 + 9, 10**9 + 10, 9, 10**18, 0)]
    assert made.lines(slots(found)) == [made.line(each) for each in found]


@pytest.mark.parametrize("name", ["a\0time\0", "\0#sport\0", "\0", r"\u0000time\u0000"])
def test_a_name_that_looks_like_a_hole_is_only_a_name(name: str) -> None:
    odd = dataclasses.replace(NAMES, endpoints={1: dataclasses.replace(WEB, name=name), 2: API})
    made = recorder.Recorder(odd, CLOCK, itertools.repeat(UUID.encode()))
    assert made.lines(slots([event()] * 3)) == [made.line(event())] * 3


def test_a_percent_sign_in_a_name_is_only_a_percent_sign() -> None:
    odd = dataclasses.replace(NAMES, endpoints={1: dataclasses.replace(WEB, labels=("k8s:a=%(time)s%d",)), 2: API})
    made = recorder.Recorder(dataclasses.replace(odd, identities={}), CLOCK, itertools.repeat(UUID.encode()))
    assert set(made.lines(slots([event()] * 3))) == {made.line(event())}


def test_a_refused_call_has_its_callers_address() -> None:
    assert inner(saddr=bytes(16), hook=abi.Hook.CONNECT, type=abi.EventType.DROP)["IP"]["source"] == "10.0.0.1"
    v6 = inner(saddr=bytes(16), daddr=layout.pack_addr("fd00::2"), type=abi.EventType.DROP)["IP"]
    assert v6 == {"source": "fd00::1", "destination": "fd00::2", "ipVersion": "IPv6"}


@pytest.mark.parametrize(
    ("changes", "service"),
    [
        ({"daddr": "10.9.0.1"}, "db"),
        ({"daddr": "10.9.0.2", "proto": abi.Proto.UDP, "hook": abi.Hook.SENDMSG}, "db"),
        ({"daddr": "fd09::1", "dport": 1}, "db"),
        ({"daddr": "10.9.0.3"}, None),
        ({"daddr": "10.9.0.1", "dst_endpoint": 2}, None),  # a pod's, when that was its address
        ({"daddr": "10.0.0.2", "dst_endpoint": 2}, None),
    ],
)
def test_a_call_that_no_backend_took_names_the_service(changes: dict[str, Any], service: str | None) -> None:
    refused: dict[str, Any] = {
        "type": abi.EventType.DROP, "hook": abi.Hook.CONNECT, "verdict": abi.Verdict.DENY, "dst_identity": 0,
        "dst_endpoint": 0, "reason": abi.DropReason.SERVICE_BACKEND_NOT_FOUND,
    }  # fmt: skip
    found = inner(**refused | changes | {"daddr": layout.pack_addr(changes["daddr"])})
    assert found.get("destination_service") == ({"name": service, "namespace": "shop"} if service else None)


def test_examples_in_docstrings() -> None:
    from control import terminal
    from control.flow import labels, printer, query, summary

    for module in (directory, labels, printer, query, record, summary, terminal):
        assert doctest.testmod(module).failed == 0
