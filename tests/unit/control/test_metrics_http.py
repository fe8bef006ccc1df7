"""/metrics and /healthz over HTTP, and how the maps behind /metrics are counted without holding up a scrape."""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from typing import cast

import pytest

from control import metrics
from control.agent import metrics_http, status
from loader.maps import Maps
from tests.hosts.wait import wait_until

HANGS = b"the agent's loop has not turned for 31 s; see its log\n"


@pytest.fixture
def idle() -> list[float]:
    """For how many seconds the loop has not turned; a test may change it."""
    return [0.02]


@pytest.fixture
def address(idle: list[float]) -> Iterator[tuple[str, int]]:
    server = metrics_http.MetricsServer("127.0.0.1:0", metrics.MetricsSnapshot, lambda: idle[0])
    server.start()
    yield server.address
    server.close()


def asked(address: tuple[str, int], method: str, path: str) -> tuple[int, str, int, bytes]:
    """Return status, content type, announced length and body."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    found = answer.status, answer.headers["Content-Type"], int(answer.headers["Content-Length"]), answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("path", ["/metrics", "/metrics?x=1", "/healthz", "/", "/other"])
def test_head_is_get_without_a_body(address: tuple[str, int], path: str) -> None:
    *head, body = asked(address, "GET", path)
    assert head[2] == len(body) > 0
    assert asked(address, "HEAD", path) == (*head, b"")
    assert head[0] == (200 if path[1:8] in ("metrics", "healthz") else 404)


def test_metrics_are_served_as_rendered(address: tuple[str, int]) -> None:
    code, kind, _, body = asked(address, "GET", "/metrics")
    assert (code, kind, body) == (200, metrics.CONTENT_TYPE, metrics.render(metrics.MetricsSnapshot()))


@pytest.mark.parametrize(("seconds", "code", "body"), [(0.02, 200, b"ok\n"), (29, 200, b"ok\n"), (31, 503, HANGS)])
def test_health_is_that_of_the_loop(
    address: tuple[str, int], idle: list[float], seconds: float, code: int, body: bytes
) -> None:
    idle[0] = seconds
    answer = asked(address, "GET", "/healthz")
    assert (answer[0], answer[3]) == (code, body)


def slow(address: tuple[str, int]) -> socket.socket:
    """Return a call whose request is never whole."""
    made = socket.create_connection(address, timeout=10)
    made.send(b"GET /metrics HTTP/1.1\r\nX")
    return made


def is_refused(address: tuple[str, int]) -> bool:
    try:
        return asked(address, "GET", "/healthz")[0] != 200
    except (http.client.HTTPException, OSError):
        return True


def test_slow_callers_make_room_the_slowest_first(address: tuple[str, int]) -> None:
    before = threading.active_count()
    held = [slow(address) for _ in range(metrics_http.CALLERS)]
    assert not any(is_refused(address) for _ in range(metrics_http.CALLERS // 2))
    assert held[0].recv(1) == b""
    held[-1].settimeout(0.05)
    with pytest.raises(TimeoutError):
        held[-1].recv(1)
    held += [slow(address) for _ in range(10 * metrics_http.CALLERS)]
    assert not is_refused(address)
    wait_until(lambda: threading.active_count() <= before + metrics_http.CALLERS, "those that were cut off are gone")
    for each in held:
        each.close()


def test_a_call_that_goes_on_and_on_is_cut_off() -> None:
    server = metrics_http.MetricsServer("127.0.0.1:0", metrics.MetricsSnapshot, lambda: 0.0, deadline=0.5)
    server.start()
    caller = slow(server.address)
    caller.settimeout(0.05)

    def is_cut_off() -> bool:
        """Send another byte, sooner than any single read would give up."""
        try:
            caller.send(b"a")
            return caller.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    assert not is_cut_off()
    wait_until(is_cut_off, "the call is cut off", 10)
    caller.close()
    server.close()


class _Map:
    def __init__(self, name: str, counted: list[str], takes: float) -> None:
        self._name, self._counted, self._takes = name, counted, takes

    def count(self) -> int:
        self._counted.append(self._name)
        until = time.thread_time() + self._takes
        while time.thread_time() < until:
            pass
        return len(self._counted)


@pytest.mark.parametrize(("takes", "at_once"), [(0.0, len(status._COUNTED)), (status._BUDGET_S, 1)])
def test_maps_are_counted_in_turn_as_far_as_the_time_goes(takes: float, at_once: int) -> None:
    counted: list[str] = []
    opened = cast(Maps, {name: _Map(name, counted, takes) for name in status._COUNTED})
    fills = status.Fills()
    first = fills.read(opened)
    assert counted == list(status._COUNTED[:at_once])
    assert [fill.name for fill in first] == counted  # never a count that nobody made
    while len(counted) < 2 * len(status._COUNTED):
        last = fills.read(opened)
    assert counted == 2 * list(status._COUNTED)
    assert [fill.entries for fill in last] == [n + 1 + len(status._COUNTED) for n in range(len(status._COUNTED))]
