"""Pairs of connected sockets of two pods, held by one process: a test drives both ends, one call after the other.

A small program in each pod makes its sockets, so that they belong to the pod's namespace and cgroup, and hands them
over.
"""

import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable

from loader import abi
from loader.maps import Maps
from loader.record import pack_addr
from tests.hosts import Pod
from tests.hosts.wait import wait_until

_MAKER = """
import socket, sys
door = socket.socket(fileno=int(sys.argv[1]))
while family := door.recv(1):
    made = socket.socket(socket.AF_INET6 if family == b"6" else socket.AF_INET, socket.SOCK_STREAM)
    socket.send_fds(door, [b"x"], [made.fileno()])
    made.close()
"""


class Maker:
    """Makes TCP sockets inside one pod."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self._door, inner = socket.socketpair()
        with inner:
            pod.popen([sys.executable, "-c", _MAKER, str(inner.fileno())], pass_fds=[inner.fileno()])

    def socket(self, family: int) -> socket.socket:
        self._door.sendall(b"6" if family == socket.AF_INET6 else b"4")
        _, fds, _, _ = socket.recv_fds(self._door, 1, 1)
        return socket.socket(fileno=fds[0])

    def close(self) -> None:
        """End the pod's program; sockets that it made live on."""
        self._door.close()


class Pair:
    """One connection: `a` is the end that connected, `b` the end that accepted; both are non-blocking."""

    def __init__(self, a: socket.socket, b: socket.socket, maps: Maps) -> None:
        self.a, self.b, self._maps = a, b, maps
        ends = [(pack_addr(s.getsockname()[0]), s.getsockname()[1]) for s in (a, b)]
        self._side = {a: int(ends[0] > ends[1]), b: int(ends[1] > ends[0])}
        low, high = sorted(ends)
        self._key = abi.ConnKey(addr0=low[0], addr1=high[0], port0=low[1], port1=high[1])

    def record(self) -> abi.Conn:
        """Return what the kernel's programs know of the connection."""
        found = self._maps.conns.get(self._key)
        assert found is not None, "the connection is in no map"
        return found

    def end(self, sock: socket.socket) -> abi.End:
        """Return what they know of one end."""
        return self.record().end[self._side[sock]]

    def redirected(self, sender: socket.socket) -> int:
        """Return the bytes that `sender` sent over the short cut."""
        return self.end(sender).redirect_bytes

    def warm_up(self, rounds: int = 40) -> bool:
        """Exchange small calls and answers, past any probation; return whether both ways take the short cut now."""
        for _ in range(rounds):
            for sender, receiver in ((self.a, self.b), (self.b, self.a)):
                sender.send(b"ping")
                assert receive(receiver, 4) == b"ping"
        return all(self.redirected(end) for end in (self.a, self.b))

    def close(self) -> None:
        """Close both ends; either may be closed already."""
        self.a.close()
        self.b.close()


def queued(sock: socket.socket) -> int:
    """Return how many bytes can be read, as FIONREAD says."""
    return int(struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, b"\0" * 4))[0])


def receive(sock: socket.socket, count: int, timeout: float = 20.0) -> bytes:
    """Read exactly so many bytes from a non-blocking socket; fewer at the end of the stream."""
    out = b""

    def more() -> bool:
        nonlocal out
        try:
            piece = sock.recv(count - len(out))
        except BlockingIOError:
            return False
        out += piece
        return not piece or len(out) == count

    wait_until(more, f"{count} bytes were read", timeout, pause=0.0005)
    return out


def connect(
    client: Maker,
    server: Maker,
    maps: Maps,
    family: int = socket.AF_INET,
    prepare: Callable[[socket.socket], None] = lambda sock: None,
) -> Pair:
    """Return a new connection between two pods; `prepare` may set options on each socket beforehand."""
    listener, a = server.socket(family), client.socket(family)
    prepare(listener)
    prepare(a)
    listener.bind((server.pod.ip6 if family == socket.AF_INET6 else server.pod.ip, 0))
    listener.listen(1)
    a.settimeout(20)
    a.connect(listener.getsockname()[:2])
    b, _ = listener.accept()
    listener.close()
    a.setblocking(False)
    b.setblocking(False)
    return Pair(a, b, maps)
