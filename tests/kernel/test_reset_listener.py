"""A reset that comes too late for its connection must not hit the listener that the connection came from."""

import socket

import pytest

from loader import sockdiag
from loader.record import pack_addr
from tests.hosts import Node
from tests.kernel.pairs import Maker, receive

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])
def test_a_late_reset_spares_the_listener(family: int) -> None:
    with Node("resets") as node:
        server, client = node.pod("server"), node.pod("client")
        makers = Maker(server), Maker(client)
        address, peer = (pod.ip6 if family == socket.AF_INET6 else pod.ip for pod in (server, client))
        with makers[0].socket(family) as listener, makers[1].socket(family) as caller:
            listener.bind((address, 80))
            listener.listen()
            caller.bind((peer, 5000))
            gone = (pack_addr(address), 80, pack_addr(peer), 5000, 0)
            assert sockdiag.destroy(server.netns, [gone]) == ([], {})
            caller.connect((address, 80))
            accepted, _ = listener.accept()
            with accepted:
                assert sockdiag.destroy(server.netns, [gone]) == ([gone], {})
                with pytest.raises(ConnectionAbortedError):
                    accepted.recv(1)
                caller.setblocking(False)
                with pytest.raises(ConnectionResetError):
                    receive(caller, 1)
            assert server.listening(80)
        for maker in makers:
            maker.close()
