"""Where a node's proxy listens for other nodes' proxies: sockets of the host's network, which the master keeps.

As with the doors, a worker that ends leaves them open: who calls meanwhile waits in one for the next worker, or for the
next proxy, which is given them (edge/handover.py).
"""

import logging
import socket
import time
from collections.abc import Iterable, Sequence

LOG = logging.getLogger("sockmesh.proxy")
_RETRY_S = 1.0
_AT, _NOWHERE = b"at", b"nowhere"
_MOST = 128  # sockets of one message
_WAITING = 4096  # handshakes that have not begun; net.core.somaxconn may make it fewer


class Posts:
    """At least one socket for each worker, at one address; none while nobody wants any."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._wanted: tuple[str, int] | None = None  # None: nobody has said yet
        self._next_try = 0.0
        self._is_told = False  # that it does not work
        self.sockets: list[socket.socket] = []

    @property
    def at(self) -> str:
        """Return where other nodes' proxies call, in words; "" while they cannot."""
        return "{} port {}".format(*self._wanted) if self._wanted and self.sockets else ""

    def adopt(self, given: Iterable[socket.socket]) -> None:
        """Take those of the proxy before this one; they are kept if they are where it is to listen."""
        self.sockets += given
        self._let_go()

    def want(self, address: str, port: int) -> bool:
        """Listen there, at no address: nowhere; return whether that is another place."""
        if (address, port) == self._wanted:
            return False
        self._wanted, self._next_try, self._is_told = (address, port), 0.0, False
        self._let_go()
        self.look_after()
        return True

    def look_after(self) -> bool:
        """Make those that could not be made before; return whether there are more."""
        address, port = self._wanted or ("", 0)
        if not address or len(self.sockets) >= self._count or time.monotonic() < self._next_try:
            return False
        self._next_try = time.monotonic() + _RETRY_S
        before = len(self.sockets)
        try:
            while len(self.sockets) < self._count:
                self.sockets.append(listener(address, port))
        except OSError as error:
            if not self._is_told:
                self._is_told = True
                LOG.warning(
                    "%s port %d: %s: no other node can call pods of this one by mTLS: give the agent this node's own "
                    "address (--node-ip), and a port that is free (--mtls-port)", address, port, error.strerror,
                )  # fmt: skip
        return len(self.sockets) > before

    def close(self) -> None:
        """Let go of them; who waits there gets a reset, unless somebody else has them too."""
        for sock in self.sockets:
            sock.close()
        self.sockets = []

    def _let_go(self) -> None:
        """Close those that are somewhere else than is wanted."""
        kept = []
        for sock in self.sockets:
            if self._wanted is None or sock.getsockname()[:2] == self._wanted:
                kept.append(sock)
            else:
                sock.close()
        self.sockets = kept


def listener(address: str, port: int) -> socket.socket:
    """Return a socket, not blocking, that shares its place with those of the other workers."""
    sock = socket.socket(
        socket.AF_INET6 if ":" in address else socket.AF_INET,
        socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
    )
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        sock.listen(_WAITING)
    except BaseException:
        sock.close()
        raise
    return sock


def send(sock: socket.socket, posts: Sequence[socket.socket]) -> None:
    """Tell a worker where to listen from now on, there alone; raises OSError."""
    if posts:
        socket.send_fds(sock, [_AT], [post.fileno() for post in posts[:_MOST]])
    else:
        sock.send(_NOWHERE)


def receive(sock: socket.socket) -> list[socket.socket] | None:
    """Return where to listen from now on; None: nobody will say so any more. Raises BlockingIOError."""
    said, fds, _, _ = socket.recv_fds(sock, len(_NOWHERE), _MOST)
    return [socket.socket(fileno=fd) for fd in fds] if said else None
