"""The agent's side of the feed, with real sockets for proxies: who is slow or mad holds up nobody for long."""

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from control import proxy_feed
from control.agent.proxies import Proxies
from control.flow import told
from tests.hosts.subscriber import subscriber
from tests.hosts.wait import wait_until

GROUND = proxy_feed.Ground("/run/nothing", "/sys/nothing", "/sys/fs/nothing")


@pytest.fixture
def proxies(tmp_path: Path) -> Iterator[Proxies]:
    made = Proxies(tmp_path, GROUND)
    made.start()
    yield made
    made.close()


@contextlib.contextmanager
def caller(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path / proxy_feed.SOCKET))
        sock.settimeout(5)
        yield sock


def hear(sock: socket.socket, frames: proxy_feed.Frames, turn: int) -> None:
    """Read until a turn has come."""
    while data := sock.recv(1 << 18):
        for body in frames.feed(data):
            message = proxy_feed.read_down(body)
            if isinstance(message, proxy_feed.Sets) and message.turn == turn:
                return
    raise AssertionError("the agent has hung up")


def test_who_is_late_is_waited_for_once(proxies: Proxies, tmp_path: Path) -> None:
    with caller(tmp_path) as sock:
        hear(sock, proxy_feed.Frames(1 << 20), 0)
        wait_until(lambda: proxies.is_there, "it is known")
        began = time.monotonic()
        proxies.publish({1: {}})
        waited = time.monotonic()
        for number in range(2, 5):
            proxies.publish({number: {}})
        assert waited - began >= 0.9 and time.monotonic() - waited < 0.9


def test_who_reads_nothing_is_hung_up_on(proxies: Proxies, tmp_path: Path) -> None:
    with caller(tmp_path):
        wait_until(lambda: proxies.is_there, "it is known")
        for number in range(100_000):
            proxies.publish({n: {} for n in range(number, number + 5000)})
            if not proxies.is_there:
                return
    raise AssertionError("it is still there")


def test_who_owns_what_is_said_when_it_is_known_and_has_changed_and_to_who_comes_later(
    proxies: Proxies, tmp_path: Path
) -> None:
    def mesh(*names: str) -> proxy_feed.Mesh:
        return proxy_feed.Mesh("strict", "cluster.local", 4743, owners={name: ("id", "") for name in names})

    with subscriber(tmp_path) as first:
        wait_until(lambda: len(first.said) == 2, "it is told where to stand, and the sets")
        assert first.meshes == [], "one of before keeps what it knows, while nobody knows better"
        assert proxies.publish_mesh(mesh("10.0.0.1"))
        assert not proxies.publish_mesh(mesh("10.0.0.1"))
        proxies.publish({}, again=True)  # waits for who has taken up what was said before
        assert first.meshes == [mesh("10.0.0.1")]
        assert proxies.publish_mesh(mesh("10.0.0.1", "10.0.0.2"))
        with subscriber(tmp_path) as second:
            wait_until(lambda: len(second.said) == 3, "it is told")
            assert second.said[1] == mesh("10.0.0.1", "10.0.0.2") and isinstance(second.said[2], proxy_feed.Sets)
        wait_until(lambda: len(first.meshes) == 2, "it is told, too")


def test_the_same_is_said_again_only_where_it_must_be(proxies: Proxies, tmp_path: Path) -> None:
    with caller(tmp_path) as sock:
        frames = proxy_feed.Frames(1 << 20)
        hear(sock, frames, 0)
        proxies.publish({1: {}})
        proxies.publish({1: {}})
        proxies.publish({1: {}}, again=True)
        hear(sock, frames, 2)


@pytest.mark.parametrize(
    "said", [b"\xff" * 8, proxy_feed.LENGTH.pack(90_000) + b"[" * 90_000, proxy_feed.up("turn", [1]), b"\2\0\0\0{}"]
)
def test_what_no_proxy_says_ends_that_one_alone(proxies: Proxies, tmp_path: Path, said: bytes) -> None:
    with caller(tmp_path) as good:
        hear(good, proxy_feed.Frames(1 << 20), 0)
        with caller(tmp_path) as bad:
            bad.sendall(said)
            with contextlib.suppress(ConnectionError):
                while bad.recv(1 << 16):
                    pass
        good.sendall(proxy_feed.up("requests", told.Gathered().content(7)))
        wait_until(lambda: proxies.lost == 7, "the other one is heard")
