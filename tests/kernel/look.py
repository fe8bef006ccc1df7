"""What a program can see of a socket: each call's result as a short text, errors by name."""

import contextlib
import errno
import fcntl
import hashlib
import select
import socket
import struct
import time

from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.pairs import queued

_NAMES = "? ESTABLISHED SYN_SENT SYN_RECV FIN_WAIT1 FIN_WAIT2 TIME_WAIT CLOSE CLOSE_WAIT LAST_ACK LISTEN CLOSING"
TCP_STATES = _NAMES.split()
SIOCOUTQ, SIOCATMARK = 0x5411, 0x8905
# Stretched by PATIENCE, and paid in full by whoever waits for what the short cut never does: there they are shorter.
WAIT = 2.0 if PATIENCE == 1 else 0.8
LONG = 20.0 if PATIENCE == 1 else 6.0  # TCP sends again what was held back, after up to as long as it was held


def data(size: int, start: int = 0) -> bytes:
    """Return bytes that tell their place in the stream: four digits for every four bytes."""
    text = b"".join(b"%04d" % (i % 10000) for i in range(start // 4, (start + size) // 4 + 1))
    return text[start % 4 : start % 4 + size]


def short(content: bytes) -> str:
    """Return a few bytes as they are, many by length and hash."""
    return repr(content) if len(content) <= 24 else f"{len(content)} bytes {hashlib.sha256(content).hexdigest()[:12]}"


def name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error))


def recv(sock: socket.socket, count: int, flags: int = 0) -> str:
    try:
        return short(sock.recv(count, flags))
    except OSError as error:
        return name(error)


def send(sock: socket.socket, content: bytes, flags: int = 0) -> str:
    try:
        return str(sock.send(content, flags | socket.MSG_NOSIGNAL))
    except OSError as error:
        return name(error)


def ending(sock: socket.socket, limit: int = 1 << 20) -> str:
    """Read to the end, with patience: what came, and how it ended."""
    out = b""
    deadline = time.monotonic() + LONG * PATIENCE
    while len(out) < limit:
        try:
            piece = sock.recv(65536)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return f"{short(out)}, then nothing"
            time.sleep(0.001)
            continue
        except OSError as error:
            return f"{short(out)}, then {name(error)}"
        if not piece:
            return f"{short(out)}, then the end"
        out += piece
    return f"{short(out)}, and more"


def arrived(sock: socket.socket, count: int, wait: float = WAIT) -> str:
    """Wait until so many bytes can be read; what FIONREAD says then."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: queued(sock) >= count, "bytes", wait, pause=0.0005)
    return str(queued(sock))


def state(sock: socket.socket, wanted: str) -> str:
    """Wait until TCP's state is this one; what it is then."""

    def now() -> str:
        return TCP_STATES[sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[0]]

    with contextlib.suppress(TimeoutError):
        wait_until(lambda: now() == wanted, wanted, WAIT, pause=0.0005)
    return now()


_EVENTS = {"IN": 1, "PRI": 2, "OUT": 4, "ERR": 8, "HUP": 16, "RDNORM": 0x40, "RDBAND": 0x80, "RDHUP": 0x2000}


def events(sock: socket.socket) -> str:
    """Return all that poll says."""
    poll = select.poll()
    poll.register(sock, 0x20DF)
    found = poll.poll(0)
    bits = found[0][1] if found else 0
    return "+".join(each for each, bit in _EVENTS.items() if bits & bit) or "none"


def so_error(sock: socket.socket) -> str:
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode[number] if number else "0"


def unsent(sock: socket.socket) -> str:
    """Wait until all was acknowledged; what SIOCOUTQ says then."""

    def now() -> int:
        return int(struct.unpack("i", fcntl.ioctl(sock, SIOCOUTQ, b"\0" * 4))[0])

    with contextlib.suppress(TimeoutError):
        wait_until(lambda: now() == 0, "acknowledged", WAIT, pause=0.0005)
    return str(now())


def resent(sock: socket.socket) -> str:
    """Wait until its retransmission timer has run out; whether it has."""

    def now() -> int:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[2]

    with contextlib.suppress(TimeoutError):
        wait_until(lambda: now() > 0, "sent again", WAIT, pause=0.0005)
    return "yes" if now() else "no"


def at_mark(sock: socket.socket) -> str:
    return str(struct.unpack("i", fcntl.ioctl(sock, SIOCATMARK, b"\0" * 4))[0])
