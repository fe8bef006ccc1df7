"""A packet is held back no longer than its sender's own kernel stands: a slow reader is not taken for a dead one."""

import contextlib
import select
import socket
import time

import pytest

from tests.hosts import Mesh, Node, namespaces
from tests.hosts.wait import wait_until
from tests.kernel.look import data, short
from tests.kernel.pairs import Maker, Pair, connect, receive

MESSAGES = 16000  # of a byte: more than the short cut takes
TCP_USER_TIMEOUT = 18
AWAY_S = (0.3, 1.2, 2.3, 2.6, 4.6, 7.0)
# What is set, and how long a reader is away: longer than a sender stands whose every packet is held.
SETTINGS: dict[str, tuple[dict[str, str], int, float]] = {
    "TCP_USER_TIMEOUT": ({}, 2000, 3.5),
    "tcp_retries2 of 1": ({"ipv4/tcp_retries2": "1"}, 0, 3.0),
    "tcp_retries2 of 3": ({"ipv4/tcp_retries2": "3"}, 0, 7.5),
}


def _leave_waiting(pair: Pair, timeout_ms: int) -> bytes:
    """Send small messages; return what was sent."""
    pair.a.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, timeout_ms)
    pair.a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    content, sent = data(MESSAGES), 0
    with contextlib.suppress(BlockingIOError):
        while sent < MESSAGES:
            sent += pair.a.send(content[sent : sent + 1])
    return content[:sent]


def _stay_away(until: float) -> None:
    wait_until(lambda: time.monotonic() > until, "the reader was away", 20)


def _broken(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_sender_with_little_patience_is_not_let_down(setting: str) -> None:
    sysctls, timeout_ms, away_s = SETTINGS[setting]
    with Node("patience") as node:
        fast = node.pod("fast-a"), node.pod("fast-b")
        plain = node.pod("plain-a", accelerate=False), node.pod("plain-b", accelerate=False)
        for pod in (*fast, *plain):
            namespaces.set_sysctls(pod.netns, sysctls)
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            pairs = [connect(Maker(a), Maker(b), maps) for a, b in (fast, plain)]
            assert [pair.warm_up() for pair in pairs] == [True, False]
            before = pairs[0].redirected(pairs[0].a)
            sent = [_leave_waiting(pair, timeout_ms) for pair in pairs]
            redirected = pairs[0].redirected(pairs[0].a) - before
            assert 0 < redirected < len(sent[0]), "part by short cut, part held behind it"
            left = time.monotonic()
            _stay_away(left + away_s)
            assert [_broken(pair.a) for pair in pairs] == [False, False]
            for pair, content in zip(pairs, sent, strict=True):
                assert short(receive(pair.b, len(content))) == short(content)
                pair.close()


def test_a_reader_that_was_away_does_not_wait_long_for_the_end_of_a_half_closed_stream() -> None:
    with Node("patience") as node:
        client, server = node.pod("client"), node.pod("server")
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            ends = Maker(client), Maker(server)
            pairs = [connect(*ends, maps) for _ in AWAY_S]
            assert all(pair.warm_up() for pair in pairs)
            sent = [_leave_waiting(pair, 0) for pair in pairs]
            assert all(pair.redirected(pair.a) < len(content) for pair, content in zip(pairs, sent, strict=True))
            for pair in pairs:
                pair.a.shutdown(socket.SHUT_WR)
            left, waits = time.monotonic(), []
            for pair, content, away_s in zip(pairs, sent, AWAY_S, strict=True):
                _stay_away(left + away_s)
                back = time.monotonic()
                assert short(receive(pair.b, len(content) + 1)) == short(content)
                waits.append(time.monotonic() - back)
            assert max(waits) < 4, "a timer that has doubled as long as the reader was away would let it wait as long"
            for pair in pairs:
                pair.close()
