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
            wait_until(lambda: time.monotonic() - left > away_s, "the readers were away", away_s + 1)
            assert [_broken(pair.a) for pair in pairs] == [False, False]
            for pair, content in zip(pairs, sent, strict=True):
                assert short(receive(pair.b, len(content))) == short(content)
                pair.close()
