"""What small messages take while nobody reads them: each costs the kernel far more than its bytes."""

import socket

import pytest

from loader import btf, compiler
from tests.hosts import Mesh, Node
from tests.kernel.pairs import Maker, connect

MESSAGE = 1024  # bytes that one costs beside its own: MESSAGE_COST of bpf/skmsg.c
FEW = 256
WALKED = 24  # before 6.14 the queue is walked, and a longer one is full: WALK of bpf/kernel.h


@pytest.mark.parametrize("size", [1, 64])
@pytest.mark.parametrize("buffer", [None, 16 << 10], ids=["of the mesh", "16 KiB"])
def test_they_take_no_more_than_half_of_the_buffer(root: None, size: int, buffer: int | None) -> None:
    """Or what a few of them take, so that a pipeline keeps its way; what follows goes over TCP."""

    def prepare(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)

    with Node("small") as node:
        makers = Maker(node.pod("client")), Maker(node.pod("server"))
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            pair = connect(*makers, maps, prepare=prepare)
            assert pair.warm_up()
            half = pair.b.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
            before = pair.end(pair.a).redirect_msgs
            with pytest.raises(BlockingIOError):
                for _ in range(2_000_000):
                    pair.a.send(b"m" * size)
            waiting = pair.end(pair.a).redirect_msgs - before
            few = FEW if compiler.redirect_is_charged(btf.Btf.of_kernel()) else WALKED
            assert waiting >= min(few, half // (size + 16)) - 8, "a pipeline takes the short cut"
            assert waiting * (size + MESSAGE) <= max(half, FEW * (size + MESSAGE)) * 1.1
            pair.close()
