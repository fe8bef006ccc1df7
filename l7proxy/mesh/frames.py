"""What two proxies say to each other inside TLS: one byte for the kind, three for the length, a body.

    client: OPEN ──► DATA* END            server: OPENED (or REFUSED: a word) ──► DATA* END

A stream is over when both have said END; then the next OPEN may come. RESET is the last frame of a connection: what is
under way then belongs to nobody. It has a word where the proxy itself ends the stream, and none where a pod does.

Bytes come in as they come and frames go out; what came of DATA at once is passed on at once, in one piece whatever its
frames were, so that a reader never holds more than the longest of the other frames.
"""

import enum
import socket
import struct
from typing import NamedTuple

MOST_DATA = 1 << 20  # more than anybody reads at once
MOST_WORD = 128  # why there is no stream, or no more
_VERSION = 1
_HEAD = 4
_OPEN = struct.Struct("!B16sH16sH")
_V4 = b"\0" * 10 + b"\xff\xff"


class Kind(enum.IntEnum):
    OPEN = 1
    OPENED = 2
    REFUSED = 3
    DATA = 4
    END = 5
    RESET = 6


_MOST = {
    Kind.OPEN: _OPEN.size, Kind.OPENED: 0, Kind.REFUSED: MOST_WORD, Kind.DATA: MOST_DATA, Kind.END: 0,
    Kind.RESET: MOST_WORD,
}  # fmt: skip
_KINDS = {int(kind): (kind, most) for kind, most in _MOST.items()}


class BadFrame(ValueError):
    """What no proxy of this version says: the connection is to be closed."""


class Ends(NamedTuple):
    """Whose bytes a stream carries, and to whom."""

    client: str
    client_port: int
    server: str
    server_port: int


class Reader:
    """Bytes as they come, cut into frames; raises BadFrame."""

    __slots__ = ("_left", "_waiting")

    def __init__(self) -> None:
        self._waiting = b""
        self._left = 0  # bytes of a DATA frame that have not come

    def feed(self, data: bytes | memoryview) -> list[tuple[Kind, bytes]]:
        if not (self._waiting or self._left) and data[:1] == b"\x04":
            length = int.from_bytes(data[1:_HEAD], "big")
            if 0 < length == len(data) - _HEAD <= MOST_DATA:  # as nearly all that is short comes
                return [(Kind.DATA, bytes(data[_HEAD:]))]
        out: list[tuple[Kind, bytes]] = []
        run: list[memoryview] = []  # of DATA
        if self._waiting:
            data, self._waiting = self._waiting + data, b""
        view, at, end = memoryview(data), 0, len(data)
        while at < end:
            if self._left:
                piece = view[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                run.append(piece)
                continue
            if end - at < _HEAD:
                if view[at] not in _KINDS:
                    raise BadFrame(f"a frame of the unknown kind {view[at]}")
                break
            length = int.from_bytes(view[at + 1 : at + _HEAD], "big")
            known = _KINDS.get(view[at])
            if known is None:
                raise BadFrame(f"a frame of the unknown kind {view[at]}")
            kind, most = known
            if length > most:
                raise BadFrame(f"{kind.name} of {length} bytes: at most {most}")
            if kind is Kind.DATA:
                at += _HEAD
                self._left = length
                continue
            if end - at < _HEAD + length:
                break
            if run:
                out.append((Kind.DATA, b"".join(run)))
                run.clear()
            out.append((kind, bytes(view[at + _HEAD : at + _HEAD + length])))
            at += _HEAD + length
        if run:
            out.append((Kind.DATA, b"".join(run)))
        if at < end:
            self._waiting = bytes(view[at:])
        return out


def frame(kind: Kind, body: bytes = b"") -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def data(body: bytes | memoryview) -> list[bytes | memoryview]:
    """Return bytes as DATA frames, not copied: heads and bodies, to be sent in this order."""
    if len(body) <= MOST_DATA:
        return [b"\x04" + len(body).to_bytes(3, "big"), body]
    view = memoryview(body)
    parts: list[bytes | memoryview] = []
    for at in range(0, len(body), MOST_DATA):
        parts += data(view[at : at + MOST_DATA])
    return parts


def opening(ends: Ends) -> bytes:
    packed = _OPEN.pack(_VERSION, _packed(ends.client), ends.client_port, _packed(ends.server), ends.server_port)
    return frame(Kind.OPEN, packed)


def read_open(body: bytes) -> Ends:
    """Return what OPEN asks for; raises BadFrame."""
    if len(body) != _OPEN.size or body[0] != _VERSION:
        raise BadFrame("OPEN of another version")
    _, client, client_port, server, server_port = _OPEN.unpack(body)
    return Ends(_unpacked(client), client_port, _unpacked(server), server_port)


def refusal(word: str) -> bytes:
    return frame(Kind.REFUSED, _word(word))


def reset(word: str) -> bytes:
    return frame(Kind.RESET, _word(word))


def read_word(body: bytes) -> str:
    """Return what a refusal or a reset says, as it may be printed."""
    return "".join(c for c in body.decode("ascii", "replace") if c.isprintable())


def _word(word: str) -> bytes:
    return word.encode("ascii", "replace")[:MOST_WORD]


def _packed(address: str) -> bytes:
    if ":" in address:
        return socket.inet_pton(socket.AF_INET6, address)
    return _V4 + socket.inet_pton(socket.AF_INET, address)


def _unpacked(packed: bytes) -> str:
    if packed.startswith(_V4):
        return socket.inet_ntop(socket.AF_INET, packed[len(_V4) :])
    return socket.inet_ntop(socket.AF_INET6, packed)
