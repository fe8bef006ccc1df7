"""What a program has sent when it closes comes, however late its peer reads, also where part of it is held back."""

import contextlib
import time

import pytest

from tests.hosts import Mesh, Node
from tests.hosts.wait import wait_until
from tests.kernel.look import ending
from tests.kernel.pairs import Maker, connect


@pytest.mark.parametrize("away_s", [0.5, 8.0])
def test_a_late_reader_gets_what_its_peer_left(away_s: float) -> None:
    with Node("leaving") as node:
        client, server = node.pod("client"), node.pod("server")
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            pair = connect(Maker(client), Maker(server), maps)
            assert pair.warm_up()
            before, sent = pair.redirected(pair.a), 0
            with contextlib.suppress(BlockingIOError):
                for _ in range(200):
                    sent += pair.a.send(b"z" * 65536)
            redirected = pair.redirected(pair.a) - before
            assert 0 < redirected < sent, "part by short cut, part over TCP behind it"
            pair.a.close()
            closed = time.monotonic()
            wait_until(lambda: time.monotonic() - closed > away_s, "the reader was away", 60)
            told = ending(pair.b, 1 << 30)
            assert told.startswith(f"{sent} bytes") and told.endswith("then the end"), (sent, redirected, told)
            pair.b.close()
