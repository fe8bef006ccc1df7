"""What the mesh leaves to connections that are on the short cut when it is uninstalled: all their bytes, and TCP."""

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE
from tests.kernel.pairs import Maker, Pair, connect, receive

ROOT = Path(__file__).resolve().parents[2]
UNREAD = b"sent before it went away"
LATER = b"and after"


@pytest.fixture
def pair(root: None) -> Iterator[Pair]:
    """A connection on the short cut, with redirected bytes that nobody has read, from `a`; and no mesh any more."""
    with Node("gone") as node:
        makers = Maker(node.pod("client")), Maker(node.pod("server"))
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            made = connect(*makers, maps)
            assert made.warm_up()
            before = made.redirected(made.a)
            made.a.send(UNREAD)
            assert made.redirected(made.a) == before + len(UNREAD)
        place = ("--pin-dir", str(node.pins), "--run-dir", str(mesh.run_dir))
        node.run(
            [sys.executable, "-m", "control.cli.main", "uninstall", "--pins", *place], cwd=ROOT, timeout=60 * PATIENCE
        )
        yield made
        made.close()


def test_what_nobody_has_read_is_read_and_then_what_comes(pair: Pair) -> None:
    pair.a.send(LATER)
    assert receive(pair.b, len(UNREAD + LATER)) == UNREAD + LATER


def test_nothing_is_redirected_to_who_may_splice(pair: Pair) -> None:
    """Nobody would see it, and nobody would end the connection."""
    assert receive(pair.b, len(UNREAD)) == UNREAD
    pair.a.send(LATER)
    poll = select.poll()
    poll.register(pair.b, select.POLLIN)
    assert poll.poll(5000)
    ear, mouth = os.pipe()
    assert os.splice(pair.b.fileno(), mouth, 4096) == len(LATER)
    assert os.read(ear, 4096) == LATER
    os.close(ear)
    os.close(mouth)
