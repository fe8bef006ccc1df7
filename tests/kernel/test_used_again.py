"""A socket whose program ends its connection and calls with it again: nothing of the first is left in it."""

import ctypes
import os
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from loader import abi, btf
from loader.maps import Maps
from tests.hosts import Mesh, Node
from tests.hosts.wait import wait_until
from tests.kernel.pairs import Maker, Pair, connect, receive

UNREAD = b"for the first connection alone"
CLOSED = 7  # TCP_CLOSE
_LIBC = ctypes.CDLL(None, use_errno=True)


def disconnect(sock: socket.socket) -> None:
    """End its connection as connect(2) says: by an address of the family AF_UNSPEC."""
    if _LIBC.connect(sock.fileno(), bytes(16), 16):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def state(sock: socket.socket) -> int:
    """Return the state of its connection, as TCP_INFO begins."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


@pytest.fixture(scope="module")
def ground(root: None) -> Iterator[tuple[Maker, Maker, Maker, Maps]]:
    with Node("again") as node:
        makers = Maker(node.pod("client")), Maker(node.pod("first")), Maker(node.pod("second"))
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            yield (*makers, maps)


def _are_counted() -> bool:
    """Tell whether this kernel counts the connections that a socket had before."""
    try:
        btf.Btf.of_kernel().field("sock", "sk_disconnects")
    except KeyError:
        return False
    return True


def left_unread(client: Maker, first: Maker, maps: Maps, family: int) -> Pair:
    """Return a connection on the short cut, with redirected bytes that nobody has read."""
    pair = connect(client, first, maps, family)
    assert pair.warm_up()
    before = pair.redirected(pair.b)
    pair.b.send(UNREAD)
    assert pair.redirected(pair.b) == before + len(UNREAD)
    return pair


def call(sock: socket.socket, server: Maker, maps: Maps, family: int) -> Pair:
    """Return the connection that this very socket makes next."""
    with server.socket(family) as listener:
        listener.bind((server.pod.ip6 if family == socket.AF_INET6 else server.pod.ip, 0))
        listener.listen(1)
        sock.setblocking(True)
        sock.connect(listener.getsockname()[:2])
        b, _ = listener.accept()
    sock.setblocking(False)
    b.setblocking(False)
    return Pair(sock, b, maps)


def reads_its_own(again: Pair) -> None:
    """The next connection's bytes come, and no others."""
    again.b.send(b"second")
    assert receive(again.a, 6) == b"second"
    with pytest.raises(BlockingIOError):
        again.a.recv(1)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("ended", [False, True], ids=["open", "half-closed"])
def test_the_next_connection_reads_its_own_bytes(
    ground: tuple[Maker, Maker, Maker, Maps], family: int, ended: bool
) -> None:
    """Also where the program had ended its own side before."""
    client, first, second, maps = ground
    pair = left_unread(client, first, maps, family)
    if ended:
        pair.a.shutdown(socket.SHUT_WR)
        wait_until(lambda: pair.b.recv(1) == b"", "the server hears the end")
    disconnect(pair.a)
    again = call(pair.a, second, maps, family)
    reads_its_own(again)
    takes_it = again.warm_up()
    if _are_counted():
        assert not takes_it, "a sender of the first may be about to put bytes into it still"
        assert again.end(again.a).reason == abi.AccelReason.USED_AGAIN
    again.close()
    pair.b.close()


def _reset(pair: Pair) -> None:
    pair.b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.b.close()


def _end_first(pair: Pair) -> None:
    pair.a.shutdown(socket.SHUT_WR)
    wait_until(lambda: pair.b.recv(1) == b"", "the server hears the end")
    pair.b.close()


def _end_last(pair: Pair) -> None:
    pair.b.close()
    poll = select.poll()
    poll.register(pair.a, select.POLLRDHUP)
    assert poll.poll(20_000), "the client hears the end"
    pair.a.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("is_read", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize("end", [_reset, _end_first, _end_last], ids=["reset", "first", "last"])
def test_a_connection_that_came_to_its_own_end_bars_no_call(
    ground: tuple[Maker, Maker, Maker, Maps], family: int, is_read: bool, end: Callable[[Pair], None]
) -> None:
    """Nothing takes the socket out of the sockhash when that is over: what nobody has read could be read still."""
    client, first, second, maps = ground
    pair = left_unread(client, first, maps, family)
    if is_read:
        assert receive(pair.a, len(UNREAD)) == UNREAD
    end(pair)
    wait_until(lambda: state(pair.a) == CLOSED, "the connection has come to its end")
    disconnect(pair.a)
    again = call(pair.a, second, maps, family)
    reads_its_own(again)
    again.close()


def test_nothing_is_left_to_be_read_between_the_two(ground: tuple[Maker, Maker, Maker, Maps]) -> None:
    client, first, _, maps = ground
    pair = left_unread(client, first, maps, socket.AF_INET)
    disconnect(pair.a)
    with pytest.raises(OSError):
        assert not pair.a.recv(100), "bytes of a connection that is no more"
    pair.close()


def test_a_blocking_reader_waits_on_the_next_connection(ground: tuple[Maker, Maker, Maker, Maps]) -> None:
    """A socket that is still in the sockhash would come back from each wake-up without data (kernel fact 4)."""
    client, first, second, maps = ground
    pair = left_unread(client, first, maps, socket.AF_INET)
    disconnect(pair.a)
    again = call(pair.a, second, maps, socket.AF_INET)
    assert again.end(again.a).enrolled == 0
    again.close()
    pair.b.close()


def test_what_was_read_by_nobody_stays_readable_after_the_peers_reset(
    ground: tuple[Maker, Maker, Maker, Maps],
) -> None:
    """As over TCP: it is the program's own end of a connection that throws bytes away, not its peer's."""
    client, first, _, maps = ground
    pair = left_unread(client, first, maps, socket.AF_INET)
    pair.b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.b.close()
    poll = select.poll()
    poll.register(pair.a, select.POLLHUP)
    assert poll.poll(5000), "it hears of the reset"
    assert pair.a.recv(100) == UNREAD
    pair.a.close()
