"""One TCP connection between the two pods, with the datapath's own record of it."""

import contextlib
import socket
import struct
from collections.abc import Iterator

from loader import abi
from loader.record import pack_addr
from loader.selftest.ground import Ground
from loader.selftest.pump import Deadline, Failed, readable

_MOST_ROUNDS = 4096


class Link:
    """`client` connected to `server`, both sockets of pods. `sides` are their places in the record."""

    def __init__(self, ground: Ground, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.early = 0  # bytes that the client sent before the server accepted
        self._maps = ground.maps
        here, there = _name(client), _name(server)
        first, second = sorted((here, there))
        self.key = abi.ConnKey(first[0], second[0], first[1], second[1])
        self.client_side = 0 if first == here else 1

    def record(self) -> abi.Conn:
        """Return what the datapath knows of the connection."""
        found = self._maps.conns.get(self.key)
        if found is None:
            raise Failed("the datapath has no record of the connection")
        return found

    def enrol(self, deadline: Deadline) -> "Link":
        """Send single bytes to and fro until both sockets are on the short cut; raises Failed with the reason if not.

        Twice as many as probation asks for: the datapath looks at every eighth packet only.
        """
        probation = self._maps.config.get_at(0).probation_packets
        if probation > _MOST_ROUNDS:
            raise Failed(f"not carried: probation_packets is {probation:,}, the self-test tries {_MOST_ROUNDS:,}")
        self.ping_pong(deadline, rounds=2 * probation + 32)
        if not self.record().short_cut:
            raise Failed(f"not carried: {self.reasons()}")
        # Both sides once more: these are the first that can be redirected.
        self.ping_pong(deadline, rounds=1, stop_when_enrolled=False)
        return self

    def ping_pong(self, deadline: Deadline, rounds: int, stop_when_enrolled: bool = True) -> None:
        for number in range(rounds):
            if stop_when_enrolled and not number & 7 and self.record().short_cut:
                return
            for source, target in ((self.client, self.server), (self.server, self.client)):
                source.send(bytes([number & 0xFF]))
                readable(target, deadline, "a single byte did not arrive")
                if target.recv(1, socket.MSG_DONTWAIT) != bytes([number & 0xFF]):
                    raise Failed("a single byte arrived changed")

    def reasons(self) -> str:
        """Return why each socket is, or is not, on the short cut."""
        end = self.record().end
        words = [_word(end[side].reason) for side in (self.client_side, 1 - self.client_side)]
        return words[0] if words[0] == words[1] else f"client {words[0]}, server {words[1]}"

    def carried(self) -> tuple[int, int]:
        """Return how many bytes of client and server took the short cut so far."""
        end = self.record().end
        return end[self.client_side].redirect_bytes, end[1 - self.client_side].redirect_bytes

    def require_carried(self, client: bool = True, server: bool = True) -> None:
        """Raise Failed unless bytes sent by these ends took the short cut."""
        up, down = self.carried()
        if (client and not up) or (server and not down):
            raise Failed(f"not carried: {up:,} bytes up, {down:,} bytes down; {self.reasons()}")

    def mark(self, server: bool) -> abi.AccelReason:
        """Return what bars redirecting to one end for good; UNKNOWN: nothing."""
        return abi.AccelReason(self.record().end[1 - self.client_side if server else self.client_side].marked)

    def close(self) -> None:
        """Close both ends with a reset, so that nothing lingers; an end that is closed already is left alone."""
        for sock in (self.client, self.server):
            if sock.fileno() >= 0:
                reset(sock)


def reset(sock: socket.socket) -> None:
    """Close a socket so that its peer gets a reset."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
    sock.close()


def _word(reason: int) -> str:
    return abi.AccelReason(reason).name.lower().replace("_", " ")


def _name(sock: socket.socket) -> tuple[bytes, int]:
    host, port = sock.getsockname()[:2]
    return pack_addr(host), port


@contextlib.contextmanager
def connected(
    ground: Ground, deadline: Deadline, family: int = socket.AF_INET, blocking: bool = False, early: bytes = b""
) -> Iterator[Link]:
    """Connect the pods; what goes of `early` is sent before the other end accepts. Closed with a reset at the end."""
    listener = ground.listener(family)
    client = ground.pods[0].socket(family)
    link = None
    try:
        client.settimeout(deadline.left())
        client.connect(listener.getsockname()[:2])
        client.setblocking(blocking)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = client.send(early) if early else 0
        readable(listener, deadline, "no connection arrived")
        server, _ = listener.accept()
        server.setblocking(blocking)
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(ground, client, server)
        link.early = sent
        yield link
    finally:
        if link:
            link.close()
        client.close()
