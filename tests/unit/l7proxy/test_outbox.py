"""An outbox over a real socket: whole frames in order, bounded, and nobody waits."""

import socket

import pytest

from l7proxy.outbox import Outbox


def read(sock: socket.socket) -> bytes:
    sock.setblocking(False)
    out = b""
    try:
        while data := sock.recv(1 << 20):
            out += data
    except BlockingIOError:
        pass
    return out


def test_what_a_slow_reader_has_not_taken_waits_whole_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        box = Outbox(ours, 4 << 20)
        frames = [bytes([n]) * (1 << 20) for n in range(8)]
        for frame in frames:
            box.put(frame)
        heard = b""
        while not box.is_empty:
            heard += read(theirs)
            box.flush()
        heard += read(theirs)
        assert box.lost and heard == b"".join(frames[: 8 - box.lost])


def test_the_newest_takes_the_place_of_what_has_not_begun() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        box = Outbox(ours, 64 << 20)
        for frame in (b"a" * (1 << 20), b"b" * 10, b"c" * 10, b"d" * 10):
            box.put_instead(frame)
        heard = b""
        while not box.is_empty:
            heard += read(theirs)
            box.flush()
        assert heard + read(theirs) == b"a" * (1 << 20) + b"d" * 10 and not box.lost


def test_a_reader_that_is_gone() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(OSError):
        Outbox(ours, 10).put(b"a")
