"""A reset that comes too late for its connection must not hit the listener that the connection came from, nor a later
connection."""

import socket
import sys

import pytest

from loader import sockdiag
from loader.record import pack_addr
from tests.hosts import Node
from tests.kernel.pairs import Maker, receive

pytestmark = pytest.mark.kernel


SO_COOKIE = 57


def cookie_of(sock: socket.socket) -> int:
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), sys.byteorder)


@pytest.mark.parametrize("by_cookie", [False, True], ids=["by tuple", "by cookie"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])
def test_a_late_reset_spares_the_listener(family: int, by_cookie: bool) -> None:
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
                another = (*gone[:4], cookie_of(accepted) + 1)
                assert sockdiag.destroy(server.netns, [another]) == ([], {})
                this = (*gone[:4], cookie_of(accepted)) if by_cookie else gone
                assert sockdiag.destroy(server.netns, [this]) == ([this], {})
                with pytest.raises(ConnectionAbortedError):
                    accepted.recv(1)
                caller.setblocking(False)
                with pytest.raises(ConnectionResetError):
                    receive(caller, 1)
            assert server.listening(80)
        for maker in makers:
            maker.close()
