"""From the ring to the log: every event once, none of the self-test's, and room given back only for written lines."""

import dataclasses
import json
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from control import evaluate, names
from control.agent import ageing, enforce, ledger, tracked
from control.flow import log
from loader import abi, bpf, events, selftest
from loader.record import pack_addr
from tests.unit.conns import conn
from tests.unit.ring import BUSY, Ring, event


class Maps:
    """What a Ledger needs of the maps to drain."""

    def __init__(self, fd: int) -> None:
        self.events_fd = fd
        self.lost = 0
        self.ct, self.conns, self.endpoints, self.endpoint_ips = Table(), Table(), Table(), Table()
        self.config = SimpleNamespace(get_at=lambda index: abi.Config.blank(udp_timeout_s=60))

    def counter(self, metric: abi.Metric) -> int:
        assert metric == abi.Metric.EVENTS_LOST
        return self.lost


class Table:
    """A map as far as conntrack is looked at."""

    def __init__(self) -> None:
        self.held: dict[Any, Any] = {}

    def get(self, key: Any) -> Any:
        return self.held.get(key)

    def put(self, key: Any, value: Any, flags: int = 0) -> None:
        self.held[key] = value

    def delete(self, key: Any) -> bool:
        return self.held.pop(key, None) is not None

    def items(self) -> list[tuple[Any, Any]]:
        return list(self.held.items())

    def raw_items(self) -> list[tuple[bytes, bytes]]:
        return [(key.pack(), value.pack()) for key, value in self.held.items()]


class Sink:
    """Keeps lines, and how much of the ring was given back when they came."""

    name, node, written, lost, error = "test", "", 0, 0, ""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.lines: list[bytes] = []
        self.consumed: list[int] = []
        self.broken = False

    def write(self, lines: Sequence[bytes], block: bytes = b"") -> None:
        assert block in (b"", b"".join(lines))
        if self.broken:
            raise SystemExit("killed")
        self.lines += lines
        self.consumed.append(self.ring.consumed)

    def close(self) -> None:
        pass

    def cookies(self) -> list[int]:
        return [int(json.loads(line)["flow"]["socket_cookie"]) for line in self.lines]


class Stage:
    def __init__(self) -> None:
        self.ring = Ring()
        self.maps: Any = Maps(self.ring.fd)
        self.sink = Sink(self.ring)
        self.ledger = self.start()

    def start(self) -> ledger.Ledger:
        return ledger.Ledger(self.maps, names.Names(), log.FlowLog([self.sink]), 60.0)


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.ring.close()


def test_a_drain_takes_all_that_waits_and_gives_it_back_batch_by_batch(stage: Stage) -> None:
    count = 2 * events.BATCH + 3
    for n in range(1, count + 1):
        stage.ring.put(event(n, type=abi.EventType.OPEN))
    assert (stage.ledger.drain(), stage.ledger.drain()) == (count, 0)
    assert stage.sink.cookies() == list(range(1, count + 1))
    assert stage.sink.consumed == [0, events.BATCH * events.SLOT, 2 * events.BATCH * events.SLOT]
    assert stage.ring.consumed == stage.ring.end


def test_a_kill_in_between_repeats_records_and_loses_none(stage: Stage) -> None:
    for n in range(1, events.BATCH + 11):
        stage.ring.put(event(n, type=abi.EventType.OPEN))
    stage.sink.broken = True
    with pytest.raises(SystemExit):
        stage.ledger.drain()
    stage.sink.broken = False
    stage.start().drain()
    assert stage.sink.cookies() == list(range(1, events.BATCH + 11))


@pytest.mark.parametrize("end", ["src_endpoint", "dst_endpoint"])
def test_the_self_tests_own_connections_are_nobodys_business(stage: Stage, end: str) -> None:
    ours = selftest.FIRST_ENDPOINT
    for n, endpoint in enumerate([7, ours, ours + 255, ours - 1, 0xFF, 0xFF00, 8], 1):
        stage.ring.put(event(n, type=abi.EventType.OPEN, **{end: endpoint}))
    stage.ledger.drain()
    assert stage.sink.cookies() == [1, 4, 5, 6, 7]


def test_a_stuck_reader_is_reset_before_its_event_is_given_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    consumed: list[int] = []
    monkeypatch.setattr(stage.ledger, "reset_stuck", lambda: consumed.append(stage.ring.consumed))
    stage.ring.put(event(1, type=abi.EventType.OPEN))
    stage.ledger.drain()
    for n in range(2, 6):  # as often as it takes to have a form of its own
        stage.ring.put(event(n, type=abi.EventType.STUCK))
        stage.ledger.drain()
    assert consumed == [n * events.SLOT for n in range(1, 5)]


def test_the_log_names_the_pods_that_connections_are_reset_for_and_why(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stage.ledger, "reset_stuck", lambda: None)
    stage.ledger.rename(names.Names(endpoints={1: names.EndpointName(1, "shop", "web", 256)}))
    egress, ingress = int(abi.Direction.EGRESS), int(abi.Direction.INGRESS)
    for direction, reason in ((egress, 8), (egress, 8), (ingress, 22)):
        stuck = {"type": int(abi.EventType.STUCK), "src_endpoint": 1, "dst_endpoint": 2}
        stage.ring.put(event(1, direction=direction, reason=reason, **stuck))
    stage.ledger.drain()
    told = "a program of %s would wait for what it does not see, or nobody sends (%s); its connection is reset"
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        told % ("shop/web", "splice"), told % ("endpoint 2", "counts"),
    ]  # fmt: skip


def test_lost_events_are_told_after_those_that_are_there(stage: Stage) -> None:
    stage.maps.lost = 5
    stage.ring.put(event(1, type=abi.EventType.OPEN))
    stage.ledger.drain()
    stage.ledger.drain()
    first, told = map(json.loads, stage.sink.lines)
    assert first["flow"]["socket_cookie"] == "1"
    assert told["lost_events"] == {"source": "PERF_EVENT_RING_BUFFER", "num_events_lost": "5"}


def test_requests_that_nothing_is_told_of_are_told_once(stage: Stage) -> None:
    for lost in (0, 3, 3, 5):
        stage.ledger.requests([], lost)
    found = [json.loads(line)["lost_events"] for line in stage.sink.lines]
    assert [each["num_events_lost"] for each in found] == ["3", "2"]
    assert stage.ledger.requests_lost == 5


def test_events_lost_while_no_agent_lived_are_told_by_the_next(stage: Stage) -> None:
    def told(ledger: ledger.Ledger) -> list[str]:
        stage.sink.lines.clear()
        ledger.drain()
        ledger.drain()
        return [json.loads(line)["lost_events"]["num_events_lost"] for line in stage.sink.lines]

    stage.maps.lost = 5
    assert told(stage.ledger) == ["5"]
    stage.maps.lost = 12  # and the agent is killed
    assert told(stage.start()) == ["7"]
    assert told(stage.start()) == []
    stage.maps.lost = 10  # the self-test puts back what it found, which is what nobody tells of
    assert told(stage.start()) == []
    stage.maps.lost = 11
    assert told(stage.start()) == ["1"]


def test_an_agent_killed_before_it_told_of_losses_leaves_that_to_the_next(stage: Stage) -> None:
    stage.maps.lost = 5
    stage.sink.broken = True
    with pytest.raises(SystemExit):
        stage.ledger.drain()
    stage.sink.broken = False
    stage.start().drain()
    (line,) = stage.sink.lines
    assert json.loads(line)["lost_events"]["num_events_lost"] == "5"


def test_an_event_that_is_being_written_comes_with_the_next_look(stage: Stage) -> None:
    stage.ring.put(event(1, type=abi.EventType.OPEN))
    position = stage.ring.put(event(2, type=abi.EventType.OPEN), BUSY)
    assert (stage.ledger.drain(), stage.ledger.drain()) == (1, 0)
    stage.ring.submit(position)
    assert stage.ledger.drain() == 1
    assert stage.sink.cookies() == [1, 2]


def test_a_reset_that_fails_is_on_record_all_the_same(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = pack_addr("10.0.0.1"), pack_addr("10.0.0.2"), 40001, 6379, 1, 2
    doomed = enforce.Doomed(*ends, evaluate.Pair(None, None, 1, 2))

    def destroy(*_: object) -> None:
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr(enforce, "reset", destroy)
    with pytest.raises(RuntimeError):
        stage.ledger.reset([doomed])
    stage.ledger.flows.flush()
    (line,) = stage.sink.lines
    assert json.loads(line)["flow"]["l4"]["TCP"] == {"source_port": 40001, "destination_port": 6379}


UDP = int(abi.Proto.UDP)
NS = 1_000_000_000


def flow_entry(stage: Stage, port: int, idle_s: float = 0.0, flags: int = int(abi.CtFlag.REPORTED)) -> abi.CtKey:
    """Put a UDP connection into conntrack, as the packet hook does that reports it."""
    key = abi.CtKey(pack_addr("10.0.0.1"), pack_addr("10.0.0.2"), 1, port, 53, UDP, int(abi.Direction.EGRESS))
    seen = time.monotonic_ns() - int(idle_s * NS)
    stage.maps.ct.held[key] = abi.CtEntry.blank(created=seen, last_seen=seen, flags=flags, tx_bytes=10)
    return key


def packet_event(stage: Stage, kind: abi.EventType, count: int, hook: abi.Hook = abi.Hook.TC_FROM_POD) -> None:
    for _ in range(count):
        stage.ring.put(event(0, type=int(kind), hook=int(hook), proto=UDP))


def ends_lost(stage: Stage) -> list[tuple[str, str]]:
    """Return the lines of lost events since the last time."""
    lines = [json.loads(line) for line in stage.sink.lines]
    stage.sink.lines.clear()
    return [
        (line["lost_events"]["source"], line["lost_events"]["num_events_lost"]) for line in lines if "flow" not in line
    ]


def look(stage: Stage) -> list[tuple[str, str]]:
    stage.ledger.drain()
    stage.ledger._next_expiry = 0
    stage.ledger.age()
    stage.ledger.drain()
    return ends_lost(stage)


def test_ends_that_nobody_can_tell_are_counted(stage: Stage) -> None:
    """Of ten one ended by the packet hook, two by the agent, and three were evicted; four are open."""
    keys = [flow_entry(stage, port, idle_s=100 if port > 8 else 0) for port in range(1, 11)]
    packet_event(stage, abi.EventType.OPEN, 10)
    packet_event(stage, abi.EventType.OPEN, 5, abi.Hook.SOCKOPS)  # those end by their sockets
    stage.ledger.drain()
    for key in keys[:4]:
        stage.maps.ct.delete(key)
    packet_event(stage, abi.EventType.CLOSE, 1, abi.Hook.TC_TO_POD)
    assert look(stage) == [("UNKNOWN_LOST_EVENT_SOURCE", "3")]
    assert stage.ledger.ends_lost == 3
    assert look(stage) == []
    stage.maps.ct.delete(keys[4])
    stage.ledger = stage.start()
    assert look(stage) == [("UNKNOWN_LOST_EVENT_SOURCE", "1")], "evicted while no agent lived"


def test_what_comes_and_goes_during_a_walk_is_not_missing(stage: Stage) -> None:
    key = flow_entry(stage, 1)
    packet_event(stage, abi.EventType.OPEN, 1)
    stage.ledger.drain()
    flow_entry(stage, 2)  # begun, and in the map, before anybody heard of it
    stage.maps.ct.delete(key)  # and this has ended
    stage.ledger.age()
    packet_event(stage, abi.EventType.OPEN, 1)
    packet_event(stage, abi.EventType.CLOSE, 1)
    stage.ledger.drain()
    assert ends_lost(stage) == []
    assert [look(stage), look(stage)] == [[], []]
    assert stage.ledger.ends_lost == 0


def test_the_sum_waits_until_the_ring_is_empty(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_ONE_LOOK", events.BATCH)
    count = events.BATCH + 1
    keys = [flow_entry(stage, port) for port in range(1, count + 1)]
    packet_event(stage, abi.EventType.OPEN, count)
    stage.ledger.drain()
    stage.ledger.drain()
    for key in keys:
        stage.maps.ct.delete(key)
    packet_event(stage, abi.EventType.CLOSE, count)
    stage.ledger.age()
    stage.ledger.drain()
    stage.ledger.drain()
    assert stage.ledger.ends_lost == 0


def test_the_self_tests_entries_are_in_no_sum(stage: Stage) -> None:
    key = flow_entry(stage, 1)
    entry = stage.maps.ct.held.pop(key)
    stage.maps.ct.held[dataclasses.replace(key, endpoint=selftest.FIRST_ENDPOINT)] = entry
    flow_entry(stage, 2, flags=0)  # nor are those that nobody reported
    packet_event(stage, abi.EventType.OPEN, 1)
    assert look(stage) == [("UNKNOWN_LOST_EVENT_SOURCE", "1")]


def test_connections_without_sockets_that_live_long_are_on_record_each_interval(stage: Stage) -> None:
    walker = tracked.Walker(60.0)
    config, now = stage.maps.config.get_at(0), time.monotonic_ns()
    old, young = flow_entry(stage, 1), flow_entry(stage, 2)
    flow_entry(stage, 3, flags=0)
    flow_entry(stage, 4, flags=int(abi.CtFlag.REPORTED | abi.CtFlag.CLOSING))
    for key, value in stage.maps.ct.held.items():
        age = 10 if key == young else 70
        stage.maps.ct.held[key] = dataclasses.replace(value, created=now - age * NS)
    found = {second: set(walker.walk(stage.maps, config, now + second * NS).ripe) for second in (0, 5, 49, 50, 59)}
    assert found == {0: {old}, 5: set(), 49: set(), 50: {young}, 59: set()}
    (record,) = tracked.periodic(stage.maps, {old: stage.maps.ct.held[old]}, now)
    assert (record.type, record.proto, record.tx_bytes, record.duration) == (abi.EventType.PERIODIC, UDP, 10, 70 * NS)


def test_many_that_live_long_take_turns(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracked, "_RIPE", 2)
    walker, now = tracked.Walker(50.0), time.monotonic_ns()
    keys = {flow_entry(stage, port) for port in range(1, 6)}
    config = stage.maps.config.get_at(0)
    rounds = [set(walker.walk(stage.maps, config, now + (51 + n) * NS).ripe) for n in range(4)]
    assert [len(each) for each in rounds] == [2, 2, 1, 0]
    assert set.union(*rounds) == keys


def test_age_writes_what_lives_long(stage: Stage) -> None:
    """Both kinds: with a socket's record, and with conntrack's alone."""
    now = time.monotonic_ns()
    key = flow_entry(stage, 1)
    stage.maps.ct.held[key] = dataclasses.replace(stage.maps.ct.held[key], created=now - 61 * NS)
    ends = pack_addr("10.0.0.1"), pack_addr("10.0.0.2"), 40001, 6379
    stage.maps.endpoints.held[abi.EndpointKey(1)] = abi.Endpoint.blank()
    stage.maps.conns.held[abi.ConnKey(*ends)] = conn(opened=now - 61 * NS, cookie=(7, 0), endpoint=(1, 0))
    stage.ledger.age()
    flows = [json.loads(line)["flow"] for line in stage.sink.lines]
    told = {next(iter(flow["l4"])): flow["extensions"]["value"]["sockmesh"]["event"] for flow in flows}
    assert told == {"UDP": "periodic", "TCP": "periodic"}


@pytest.mark.parametrize("here", [True, False])
def test_a_connection_of_a_pod_with_another_name_ends_with_the_pod(stage: Stage, here: bool) -> None:
    """Its record has the endpoint that it began with, of the pod's old name."""
    key = abi.ConnKey(pack_addr("10.0.0.1"), pack_addr("10.0.0.2"), 40001, 6379)
    stage.maps.conns.held[key] = conn(opened=time.monotonic_ns(), cookie=(7, 0), endpoint=(1, 0))
    if here:
        stage.maps.endpoints.held[abi.EndpointKey(2)] = abi.Endpoint.blank()
        stage.maps.endpoint_ips.held[abi.AddrKey(pack_addr("10.0.0.1"))] = abi.EndpointRef(2)
    stage.ledger.age()
    assert len(stage.sink.lines) == (not here)
    assert (key in stage.maps.conns.held) == here
    if here:  # and made again, with the same address
        ageing.close_ends(stage.maps, {2})
        stage.ledger.age()
        assert len(stage.sink.lines) == 1 and not stage.maps.conns.held


def test_one_whose_pods_have_lost_their_interfaces_is_open_while_a_socket_of_it_is(stage: Stage) -> None:
    keys = [abi.ConnKey(pack_addr("10.0.0.1"), pack_addr("10.0.0.2"), port, 6379) for port in (40001, 40002)]
    for key in keys:
        stage.maps.conns.held[key] = conn(opened=time.monotonic_ns(), cookie=(7, 8), endpoint=(1, 2))
    assert len(list(ageing.abandoned(stage.maps, {keys[0]}))) == 1
    assert list(stage.maps.conns.held) == keys[:1]


@pytest.mark.parametrize("closed", [abi.Closed.POD, abi.Closed.SOCKET])
def test_no_program_is_at_work_on_what_is_deleted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, closed: abi.Closed
) -> None:
    """The element may be the next connection's, and a socket of a pod that was withdrawn may live and send."""
    key, told = abi.ConnKey(pack_addr("10.0.0.1"), pack_addr("10.0.0.2"), 40001, 6379), list[object]()
    both = (int(closed), int(closed))
    stage.maps.conns.held[key] = conn(
        opened=time.monotonic_ns(), cookie=(7, 8), endpoint=(1, 2), enrolled=(1, 1), closed=both
    )

    class Watched(Table):
        def put(self, at: Any, value: Any, flags: int = 0) -> None:
            super().put(at, value)
            told.extend([end.enrolled for end in value.end] if at == key else ())

        def delete(self, at: Any) -> bool:
            told.extend(["gone"] if at == key else ())
            return super().delete(at)

    stage.maps.conns.__class__ = Watched
    monkeypatch.setattr(bpf, "await_programs", lambda: told.append("awaited"))
    assert len(list(ageing.abandoned(stage.maps))) == 1 and not stage.maps.conns.held
    assert told == (["gone"] if closed == abi.Closed.SOCKET else [0, 0, "awaited", "gone"])


def test_many_that_end_at_once_do_not_put_off_the_next_look(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is the walk's share, not that of what the walk found."""
    clock = [1000 * NS]
    monkeypatch.setattr(time, "monotonic_ns", lambda: clock[0])

    def walk(*_: object) -> tracked.Found:
        clock[0] += NS // 10
        return tracked.Found({}, {}, 0)

    def expire(*_: object) -> Iterator[abi.FlowEvent]:
        clock[0] += 20 * NS
        yield from ()

    monkeypatch.setattr(stage.ledger._walker, "walk", walk)
    monkeypatch.setattr(tracked, "expire", expire)
    stage.ledger.age()
    assert stage.ledger._next_expiry == 1010 * NS
