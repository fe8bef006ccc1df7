"""From the ring to the log: every event once, none of the self-test's, and room given back only for written lines."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from control import evaluate, names
from control.agent import enforce, ledger
from control.flow import log
from loader import abi, events, selftest
from loader.record import pack_addr
from tests.unit.ring import BUSY, Ring, event


class Maps:
    """What a Ledger needs of the maps to drain."""

    def __init__(self, fd: int) -> None:
        self.events_fd = fd
        self.lost = 0

    def counter(self, metric: abi.Metric) -> int:
        assert metric == abi.Metric.EVENTS_LOST
        return self.lost


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


def test_lost_events_are_told_after_those_that_are_there(stage: Stage) -> None:
    stage.maps.lost = 5
    stage.ring.put(event(1, type=abi.EventType.OPEN))
    stage.ledger.drain()
    stage.ledger.drain()
    first, told = map(json.loads, stage.sink.lines)
    assert first["flow"]["socket_cookie"] == "1"
    assert told["lost_events"] == {"source": "PERF_EVENT_RING_BUFFER", "num_events_lost": "5"}


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
