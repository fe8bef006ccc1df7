"""Which flows, how many, from when: and the same question asked over the agent's socket."""

import contextlib
import json
import pathlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from control import admin_client
from control.flow import filter as flow_filter
from control.flow import log, query, record, serve
from loader import errors

SECOND = 10**9


def response(second: int, verdict: str = "FORWARDED") -> dict[str, Any]:
    when = record.timestamp(second * SECOND)
    return {"flow": {"time": when, "verdict": verdict}, "time": when}


LOST = record.lost(3, record.KERNEL_RING, "", 3 * SECOND)
FLOWS = [response(1), response(2, "DROPPED"), response(3), LOST, response(4, "DROPPED"), response(5)]


def chosen(**asked: Any) -> list[int]:
    return [FLOWS.index(found) for found in query.select(FLOWS, query.Query(**asked))]


DROPPED = (flow_filter.Term("verdict", "DROPPED"),)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"last": 2}, [4, 5]),
        ({"last": 3}, [2, 3, 4, 5]),
        ({"last": 0}, []),
        ({"first": 2}, [0, 1]),
        ({"first": 4}, [0, 1, 2, 3, 4]),
        ({"first": 0}, []),
        ({"since_ns": 2 * SECOND}, [1, 2, 3, 4, 5]),
        ({"until_ns": 2 * SECOND}, [0, 1]),
        ({"since_ns": 2 * SECOND, "until_ns": 3 * SECOND}, [1, 2, 3]),
        ({"terms": DROPPED}, [1, 3, 4]),
        ({"terms": DROPPED, "last": 1}, [4]),
        ({"terms": DROPPED, "first": 1}, [1]),
    ],
)
def test_select(asked: dict[str, Any], wanted: list[int]) -> None:
    assert chosen(**asked) == wanted


def test_the_last_are_the_latest_also_where_records_came_late() -> None:
    """As after a restart: what happened without an agent stands behind what the new one has written first."""
    flows = [response(1), response(8), response(6), LOST, response(9, "DROPPED"), response(2), response(7), response(3)]

    def last(count: int) -> list[int]:
        return [flows.index(found) for found in query.select(flows, query.Query(last=count))]

    assert [last(count) for count in (1, 2, 4)] == [[4], [1, 4], [2, 6, 1, 4]]
    assert last(6) == [5, flows.index(LOST), 7, 2, 6, 1, 4]


def test_one_without_a_time_stays_where_it_stands() -> None:
    bare = {"flow": {"verdict": "FORWARDED", "uuid": "bare"}}
    flows = [response(5), bare, response(4), response(6)]
    assert list(query.select(flows, query.Query(last=3))) == [flows[0], bare, flows[3]]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:01Z", SECOND),
        ("1970-01-01T00:00:00.000000001Z", 1),
        ("1970-01-01t00:00:00.1234567899z", 123456789),
        ("1970-01-01 00:01", 60 * SECOND),
        ("1970-01-02", 86400 * SECOND),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T22:30:00-0130", 0),
        ("now", 1000 * SECOND),
        ("10s", 990 * SECOND),
        ("1m30s", 910 * SECOND),
        ("2.5s", 997_500_000_000),
        ("500ms", 999_500_000_000),
    ],
)
def test_moments(text: str, ns: int) -> None:
    assert query.parse_moment(text, 1000 * SECOND) == ns


@pytest.mark.parametrize("text", ["", "yesterday", "5", "5 m", "2026-13-01", "2026-11-20T25:00", "m5", "1m x"])
def test_no_moments(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        query.parse_moment(text, 0)


@pytest.mark.parametrize("text", ["1001s", "9" * 400 + "d", "1969-12-31", "0001-01-01T00:00:00Z"])
def test_no_moment_is_before_the_first(text: str) -> None:
    with pytest.raises(ValueError, match="is before 1970-01-01"):
        query.parse_moment(text, 1000 * SECOND)


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 1_700_000_000_123_456_789])
def test_time_stamps_read_back(ns: int) -> None:
    assert query.parse_time(record.timestamp(ns)) == ns


def test_a_query_survives_the_socket() -> None:
    asked = query.Query((flow_filter.Term("ip", "10.0.0.1", True), *DROPPED), 5, None, 1, 2, True)
    assert query.Query.from_params(json.loads(json.dumps(asked.params()))) == asked
    assert query.Query.from_params({"last": 20, "follow": True}) == query.Query(last=20, follow=True)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"lsat": 1}, "observe: unknown parameter 'lsat'"),
        ({"last": "x"}, "observe: last is not a whole number from 0 on"),
        ({"first": -1}, "observe: first is not a whole number from 0 on"),
        ({"filters": [1]}, "observe: filters is not a list of {flag, value, not}"),
        ({"filters": [{"flag": "ip", "value": "x"}]}, '--ip: "x" is neither'),
    ],
)
def test_bad_params(params: dict[str, Any], message: str) -> None:
    with pytest.raises(flow_filter.FilterInvalid, match=message):
        serve.answer(log.FlowLog(), params)


@pytest.mark.parametrize("line", ["", "x", "[]", "3", '"a"'])
def test_lines_that_are_no_records(line: str) -> None:
    with pytest.raises(query.NotAFlow):
        query.parse_line(line)


@pytest.mark.parametrize("strange", [{"flow": 3}, {"flow": {"l4": [1]}}, {"flow": {"IP": "x"}}, {"flow": {"l4": 1}}])
def test_records_that_are_no_flows(strange: dict[str, Any]) -> None:
    asked = query.Query((flow_filter.Term("port", "80"), flow_filter.Term("ip", "::1")))
    with contextlib.suppress(query.NotAFlow):
        assert list(query.select([strange], asked)) == []


def test_a_bare_flow_gets_its_envelope() -> None:
    bare = {"verdict": "DROPPED", "node_name": "n1", "time": "t"}
    assert query.parse_line(json.dumps(bare)) == {"flow": bare, "node_name": "n1", "time": "t"}


@pytest.fixture
def flows() -> log.FlowLog:
    made = log.FlowLog()
    made.write(record.line(found) for found in FLOWS)
    made.flush()
    return made


@pytest.fixture
def agent(tmp_path: pathlib.Path, flows: log.FlowLog) -> Iterator[str]:
    """A stand-in for the agent's admin socket: one thread a connection, `observe` and three simple methods."""
    path = str(tmp_path / "agent.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            request = json.loads(connection.makefile("rb").readline())
            match request["method"]:
                case "observe":
                    serve.serve(flows, request["params"], connection)
                case "echo":
                    connection.sendall(json.dumps(request).encode() + b"\n")
                case "fail":
                    connection.sendall(b'{"error":"no endpoint 7"}\n')
                case "garble":
                    connection.sendall(b"hello\n")
                case "sleep":
                    connection.recv(1)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield path
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def test_call(agent: str) -> None:
    assert admin_client.call(agent, "echo", {"a": 1}) == {"method": "echo", "params": {"a": 1}}


def test_observe_over_the_socket(agent: str) -> None:
    asked = query.Query(last=1, terms=DROPPED)
    assert list(admin_client.stream(agent, "observe", asked.params())) == [FLOWS[4]]
    assert list(admin_client.stream(agent, "observe")) == FLOWS


def test_follow_over_the_socket(agent: str, flows: log.FlowLog) -> None:
    answers = admin_client.stream(agent, "observe", query.Query(last=1, terms=DROPPED, follow=True).params(), 10)
    assert next(answers) == FLOWS[4]
    new = [response(6), response(7, "DROPPED")]
    flows.write(record.line(found) for found in new)
    flows.flush()
    assert next(answers) == new[1]
    flows.close()
    assert list(answers) == []


def test_a_follower_that_begins_now_is_told_nothing_older(flows: log.FlowLog) -> None:
    flows.write([record.line(response(6)), record.line(LOST)])  # lost after the last flow, and before now
    flows.flush()
    blocks = serve.answer(flows, {"follow": True, "last": 0}, 0.01)
    assert next(blocks) == b""
    flows.write([record.line(response(7))])
    flows.flush()
    assert query.parse_line(next(block for block in blocks if block)) == response(7)
    assert list(query.select([response(6), LOST], query.Query(last=0))) == []


def test_a_follower_that_hangs_up_is_forgotten(flows: log.FlowLog) -> None:
    ours, theirs = socket.socketpair()
    serving = threading.Thread(target=serve.serve, args=(flows, {"follow": True, "last": 0}, ours))
    serving.start()
    theirs.close()
    serving.join(10)
    assert (serving.is_alive(), flows.stats().observers) == (False, 0)
    ours.close()


@pytest.mark.parametrize(
    ("method", "error", "message"),
    [
        ("fail", errors.MeshError, "no endpoint 7"),
        ("garble", errors.AgentUnavailable, "{path} is not a sockmesh agent's socket: its answer is not JSON"),
        ("nothing", errors.AgentUnavailable,
         "the agent at {path} closed the connection without an answer; see its log"),
        ("sleep", errors.AgentUnavailable, "the agent at {path} did not answer in 0.1 seconds; see its log"),
    ],
)  # fmt: skip
def test_answers_that_are_none(agent: str, method: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        admin_client.call(agent, method, timeout=0.1)
    assert str(caught.value) == message.format(path=agent)


def test_a_bad_filter_is_the_callers_error(agent: str) -> None:
    with pytest.raises(errors.MeshError, match="--ip"):
        list(admin_client.stream(agent, "observe", {"filters": [{"flag": "ip", "value": "x"}]}))


def test_no_agent(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.AgentUnavailable, match=r"no agent is running: there is .*`sockmesh agent --config DIR`"):
        admin_client.call(str(tmp_path / "none.sock"), "status")


def test_a_dead_agent(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "agent.sock")
    socket.socket(socket.AF_UNIX).bind(path)
    with pytest.raises(errors.AgentUnavailable, match="is not running any more"):
        admin_client.call(path, "status")


def test_no_socket_at_all(tmp_path: pathlib.Path) -> None:
    for path in (str(tmp_path), str(tmp_path / ("x" * 200)), "a\0b"):
        with pytest.raises(errors.AgentUnavailable):
            admin_client.call(path, "status")
