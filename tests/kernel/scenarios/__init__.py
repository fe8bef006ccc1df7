"""What programs may do with a connection: each scenario is a script for both ends, and notes what they see.

A scenario gets a pair that is past probation and `see`. Bytes that "wait" were sent by short cut, if the pair has one
(asserted), and not read.
"""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from loader import abi
from tests.kernel.look import data, unsent
from tests.kernel.pairs import Pair

See = Callable[[str, object], None]
Script = Callable[[Pair, See], None]
Prepare = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Scenario:
    """A script; `prepare` sets options on both sockets before they connect; `barred`: that may keep the pair on TCP.

    `cold`: the script starts right after the connection is there, with no byte exchanged.
    """

    script: Script
    prepare: Prepare = lambda sock: None
    barred: bool = False
    cold: bool = False


ALL: dict[str, Scenario] = {}


def scenario(script: Script) -> Script:
    """Add a script to all scenarios."""
    ALL[script.__name__] = Scenario(script)
    return script


def cold(script: Script) -> Script:
    """Add a script that starts with a new connection."""
    ALL[script.__name__] = Scenario(script, cold=True)
    return script


def prepared(prepare: Prepare, name: str = "", barred: bool = False) -> Callable[[Script], Script]:
    """Add a script that runs on sockets with options set beforehand."""

    def add(script: Script) -> Script:
        ALL[name or script.__name__] = Scenario(script, prepare, barred)
        return script

    return add


def option(level: int, which: int, value: int | bytes = 1) -> Prepare:
    """Return what sets this socket option."""
    return lambda sock: sock.setsockopt(level, which, value)


def wait_in(pair: Pair, sender: socket.socket, size: int, start: int = 0) -> str:
    """Send bytes that then wait at the other end, sent by short cut if the pair has one.

    It has none any more where FIONREAD does not know redirected bytes and a program has asked.
    """
    before = pair.redirected(sender)
    assert sender.send(data(size, start)) == size
    if before and abi.AccelReason.COUNTS not in [end.marked for end in pair.record().end]:
        assert pair.redirected(sender) == before + size, f"the bytes went over TCP: {pair.record()}"
    return f"{size}, unsent {unsent(sender)}"


def bar(receiver: socket.socket) -> None:
    """From now on nothing is redirected to this socket: it asked for a low-water mark once."""
    for mark in (2, 1):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, mark)


def reset(sock: socket.socket) -> None:
    """Close by RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
