"""The agent replaces records of connections that are in use: no message goes by another's record meanwhile."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.hosts import Mesh, Node
from tests.hosts.mesh import ROOT
from tests.kernel.pairs import Maker, Pair, connect, receive

_ROUNDS = 6000
# What the agent does when a pod goes, or comes back: one record after the other. Only an end's `busy` is another than
# before, so that the connections stay what they are.
_REPLACER = """
import pathlib, sys
from control.agent import spares
from loader import maps
with maps.open_all(pathlib.Path(sys.argv[1])) as opened:
    keys = [key for key, _ in opened.conns.items()]
    with spares.Replacing(opened) as replacing:
        for _ in range(int(sys.argv[2])):
            for key in keys:
                replacing.change(key, opened.conns.get(key), lambda conn: conn.end)
print(len(keys))
"""


@pytest.fixture
def pairs(root: None) -> Iterator[tuple[Mesh, list[Pair]]]:
    with Node("replaced") as node:
        makers = Maker(node.pod("client")), Maker(node.pod("server"))
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            made = [connect(*makers, maps) for _ in range(4)]
            assert all(pair.warm_up() for pair in made)
            yield mesh, made
            for pair in made:
                pair.close()


def strays(pair: Pair) -> bytes:
    """Return what came in that nobody sent on this connection."""
    found = b""
    for sock in (pair.a, pair.b):
        with contextlib.suppress(BlockingIOError):
            found += sock.recv(65536)
    return found[:20]


def test_bytes_go_to_their_own_reader(pairs: tuple[Mesh, list[Pair]]) -> None:
    """A sender whose reader is slow is inside the program for most of the time."""
    mesh, (busy, *idle) = pairs
    is_over = threading.Event()

    def send() -> None:
        while not is_over.is_set():
            try:
                busy.b.send(b"x" * 16384)
            except BlockingIOError:
                time.sleep(0.0002)

    def read() -> None:
        while not is_over.is_set():
            try:
                busy.a.recv(65536)
            except BlockingIOError:
                time.sleep(0.0005)

    threads = [threading.Thread(target=work) for work in (send, read)]
    for thread in threads:
        thread.start()
    try:
        command = [sys.executable, "-c", _REPLACER, str(mesh.node.pins), str(_ROUNDS)]
        with subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE) as replacer:
            while replacer.poll() is None:
                for pair in idle:
                    assert not strays(pair)
                time.sleep(0.005)
            assert replacer.communicate()[0].strip() == "4"
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    with mesh.open_maps() as maps:
        assert len(list(maps.conns.items())) == 4  # no spare one stays
    assert busy.redirected(busy.b) > 160
    for pair in idle:
        assert not strays(pair)
        pair.a.send(b"ping")
        assert receive(pair.b, 4) == b"ping"
