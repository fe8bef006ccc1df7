"""The agent's socket for node proxies: what comes is taken if a worker can have meant it."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control import proxy_feed
from control.agent import options
from control.agent.proxies import Proxies
from control.flow import told
from loader.errors import ConfigInvalid
from tests.hosts.wait import wait_until

ENDS = ("10.0.0.1", "10.0.0.2", 80, 1, 256, 2, 257, 0, 7)
REST = (0, True, "HTTP/1.1", "GET", 200, told.NO_GRPC_STATUS, "", "")


@pytest.fixture
def proxies(tmp_path: Path) -> Iterator[Proxies]:
    made = Proxies(tmp_path, proxy_feed.Ground("n", "c", "d"), ("x-request-id",))
    made.start()
    yield made
    made.close()


@pytest.fixture
def caller(proxies: Proxies, tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(tmp_path / proxy_feed.SOCKET))
        yield sock


def content(count: int, lost: int = 0) -> list[Any]:
    batch = told.Gathered()
    for n in range(count):
        batch.add(ENDS, REST, n, 5, 40000, "http://x/", "", None)
    return batch.content(lost)


def test_batches_are_taken_about_as_many_as_wanted(proxies: Proxies, caller: socket.socket) -> None:
    for count in (3, 4, 5):
        caller.sendall(proxy_feed.up("requests", content(count)))
    wait_until(lambda: len(proxies._batches) == 3, "all have come")
    assert [len(batch.kind) for batch in proxies.take(5)] == [3, 4]
    assert [len(batch.kind) for batch in proxies.take(5)] == [5]
    assert proxies.take(5) == [] and proxies.lost == 0


def test_what_no_worker_says_is_left_out_and_the_rest_goes_on(proxies: Proxies, caller: socket.socket) -> None:
    wrong = json.loads(json.dumps(content(2)))
    wrong[2][0] = 9
    caller.sendall(proxy_feed.up("requests", wrong))
    caller.sendall(proxy_feed.up("requests", content(1, lost=7)))
    wait_until(lambda: proxies.lost == 2 + 7, "both have come")
    assert [len(batch.kind) for batch in proxies.take(9)] == [1]


def test_there_is_room_for_so_many(proxies: Proxies, caller: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.agent.proxies._MOST_RECORDS", 3)
    for _ in range(3):
        caller.sendall(proxy_feed.up("requests", content(2)))
    wait_until(lambda: proxies.lost == 2, "the third has no room")
    assert len(proxies.take(9)) == 2
    caller.sendall(proxy_feed.up("requests", content(2)))
    wait_until(lambda: len(proxies._batches) == 1, "there is room again")


def test_workers_learn_which_headers_go_on_record(proxies: Proxies, caller: socket.socket) -> None:
    frames, found = proxy_feed.Frames(proxy_feed.MOST_DOWN), list[bytes]()
    while len(found) < 2:
        found += frames.feed(caller.recv(1 << 16))
    sets = proxy_feed.read_down(found[1])
    assert isinstance(sets, proxy_feed.Sets) and sets.headers == ("x-request-id",)


@pytest.mark.parametrize("names", [("",), ("a b",), ("x:",), tuple(f"h{n}" for n in range(17))])
def test_headers_that_cannot_be_recorded(names: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match=r"^--record-header"):
        options.Options(tmp_path, record_headers=names).check()
    options.Options(tmp_path, record_headers=("X-Request-Id",) * 17).check()
