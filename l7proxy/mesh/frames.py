"""What two proxies say to each other inside TLS: a byte for the kind, three for the length, four for the stream, body.

    client: OPEN ──► DATA* END            server: OPENED (or REFUSED: a word) ──► DATA* END

Many streams go over one connection, each with a number that the client gives it once. A stream is over when both have
said END, or one RESET, which has a word where the proxy itself ends the stream, and none where a pod does. Nobody sends
more of a stream than he has credit for: so much to begin with, then what CREDIT adds. REFUSED without a word: not on
this connection, ask on another one.

Bytes come in as they come and frames go out; what came of a stream's DATA at once is passed on at once, in one piece
whatever its frames were, so that a reader never holds more than the longest of the other frames.
"""

import enum
import socket
import struct
from typing import NamedTuple

from l7proxy.mesh.errors import BadFrame

MOST_DATA = 1 << 20  # more than anybody reads at once
MOST_WORD = 128  # why there is no stream, or no more
_VERSION = 2
_HEAD = struct.Struct("!II")
_HEAD_SIZE = _HEAD.size
_OPEN = struct.Struct("!B16sH16sH")
_CREDIT = struct.Struct("!I")
_V4 = b"\0" * 10 + b"\xff\xff"


class Kind(enum.IntEnum):
    OPEN = 1
    OPENED = 2
    REFUSED = 3
    DATA = 4
    END = 5
    RESET = 6
    CREDIT = 7


_MOST = {
    Kind.OPEN: _OPEN.size, Kind.OPENED: 0, Kind.REFUSED: MOST_WORD, Kind.DATA: MOST_DATA, Kind.END: 0,
    Kind.RESET: MOST_WORD, Kind.CREDIT: _CREDIT.size,
}  # fmt: skip
_KINDS = {int(kind): (kind, most) for kind, most in _MOST.items()}
_DATA = int(Kind.DATA) << 24
Frame = tuple[Kind, int, bytes]  # with the stream's number


class Ends(NamedTuple):
    """Whose bytes a stream carries, and to whom."""

    client: str
    client_port: int
    server: str
    server_port: int


class Reader:
    """Bytes as they come, cut into frames; raises BadFrame."""

    __slots__ = ("_left", "_number", "_waiting")

    def __init__(self) -> None:
        self._waiting = b""
        self._left = 0  # bytes of a DATA frame that have not come,
        self._number = 0  # and of which stream it is

    def feed(self, data: bytes | memoryview) -> list[Frame]:
        out: list[Frame] = []
        run: list[memoryview] = []  # of DATA of one stream
        if self._waiting:
            data, self._waiting = self._waiting + bytes(data), b""
        view, at, end = memoryview(data), 0, len(data)
        while at < end:
            if self._left:
                piece = view[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                run.append(piece)
                continue
            if end - at < _HEAD_SIZE:
                if view[at] not in _KINDS:
                    raise BadFrame(f"a frame of the unknown kind {view[at]}")
                break
            word, number = _HEAD.unpack_from(view, at)
            length = word & 0xFFFFFF
            known = _KINDS.get(word >> 24)
            if known is None:
                raise BadFrame(f"a frame of the unknown kind {word >> 24}")
            kind, most = known
            if length > most:
                raise BadFrame(f"{kind.name} of {length} bytes: at most {most}")
            if run and (kind is not Kind.DATA or number != self._number):
                out.append((Kind.DATA, self._number, b"".join(run)))
                run = []
            if kind is Kind.DATA:
                at += _HEAD_SIZE
                self._left, self._number = length, number
                continue
            if end - at < _HEAD_SIZE + length:
                break
            at += _HEAD_SIZE
            out.append((kind, number, bytes(view[at : at + length])))
            at += length
        if run:
            out.append((Kind.DATA, self._number, b"".join(run)))
        if at < end:
            self._waiting = bytes(view[at:])
        return out


def frame(kind: Kind, number: int, body: bytes = b"") -> bytes:
    return _HEAD.pack(kind << 24 | len(body), number) + body


def data_head(number: int, length: int) -> bytes:
    """Return what goes before so many bytes of a stream, MOST_DATA at most."""
    return _HEAD.pack(_DATA | length, number)


def opening(number: int, ends: Ends) -> bytes:
    packed = _OPEN.pack(_VERSION, _packed(ends.client), ends.client_port, _packed(ends.server), ends.server_port)
    return frame(Kind.OPEN, number, packed)


def read_open(body: bytes) -> Ends:
    """Return what OPEN asks for; raises BadFrame."""
    if len(body) != _OPEN.size or body[0] != _VERSION:
        raise BadFrame("OPEN of another version")
    _, client, client_port, server, server_port = _OPEN.unpack(body)
    return Ends(_unpacked(client), client_port, _unpacked(server), server_port)


def credit(number: int, count: int) -> bytes:
    return frame(Kind.CREDIT, number, _CREDIT.pack(count))


def read_credit(body: bytes) -> int:
    """Return how many bytes more; raises BadFrame."""
    if len(body) != _CREDIT.size:
        raise BadFrame("CREDIT of another version")
    return int(_CREDIT.unpack(body)[0])


def refusal(number: int, word: str) -> bytes:
    return frame(Kind.REFUSED, number, _word(word))


def reset(number: int, word: str) -> bytes:
    return frame(Kind.RESET, number, _word(word))


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
