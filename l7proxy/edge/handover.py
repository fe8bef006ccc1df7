"""How a new node proxy gets the listening sockets of the one before it, so that no call is refused in between.

Whoever holds them listens in the run directory: the master, or, where that has died, each worker that it left. Who
calls gets them at once, and says GO when somebody takes clients from them; from then on the one before takes none.
Both share the same sockets, and so what waits in them: nothing is lost, and nobody is refused.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

GO = b"go"
SOCKET = "proxy-doors.sock"  # in the run directory
_DRAFT = f".{SOCKET}"  # until it takes clients: if it fails before, the one before it can still be called
_MOST = 253  # sockets of one message: SCM_MAX_FD
_WAIT_S = 1.0
_SAID = struct.Struct("=Q?")  # the number of the network namespace, and whether these are all


def listen(run_dir: Path) -> socket.socket:
    """Return a socket that will listen for the next one when it is announced; it does not block."""
    draft = run_dir / _DRAFT
    draft.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    before = os.umask(0o177)
    try:
        sock.bind(str(draft))
    finally:
        os.umask(before)
    sock.listen(8)
    return sock


def announce(run_dir: Path) -> None:
    """Have the next one call at the socket made last, no more at that of whoever was there before."""
    (run_dir / _DRAFT).rename(run_dir / SOCKET)


def give(listener: socket.socket, doors: Sequence[socket.socket], ground: int, is_all: bool) -> socket.socket | None:
    """Hand out sockets, and the number of the network namespace they are in, to who calls; None: nobody does (now).

    `is_all`: nobody else has any. To be called again only when that one has not said GO.
    """
    try:
        caller, _ = listener.accept()
    except OSError:  # another worker of a dead master was there first
        return None
    try:
        caller.setblocking(False)
        socket.send_fds(caller, [_SAID.pack(ground, is_all)], [door.fileno() for door in doors])
    except OSError:
        caller.close()
        return None
    return caller


def said_go(caller: socket.socket) -> bool:
    """Tell whether who called takes clients now; False: it has gone away."""
    try:
        return caller.recv(len(GO)) == GO
    except OSError:
        return False


def take(run_dir: Path, ground: int) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """Ask each that holds sockets of this network namespace; yields whom to tell GO, and the sockets."""
    while (before := _call(run_dir)) is not None:
        try:
            said, fds, _, _ = socket.recv_fds(before, _SAID.size, _MOST)
        except OSError:  # nobody who is alive: those that gave theirs are still there
            before.close()
            return
        doors = [socket.socket(fileno=fd) for fd in fds]
        if len(said) != _SAID.size or not doors:
            before.close()
            return
        stands, is_all = _SAID.unpack(said)
        if stands != ground:  # where nothing leads any more
            for door in doors:
                door.close()
            doors = []
        yield before, doors
        if is_all:
            return


def _call(run_dir: Path) -> socket.socket | None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.settimeout(_WAIT_S)
    try:
        sock.connect(str(run_dir / SOCKET))
    except OSError:
        sock.close()
        return None
    return sock


def go(before: Sequence[socket.socket]) -> None:
    """Tell those who gave their sockets that they are served."""
    for each in before:
        with contextlib.suppress(OSError), each:
            each.sendall(GO)
