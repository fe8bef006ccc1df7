"""Frames of HTTP/2: their types, and the few that we write ourselves (RFC 9113, 4 and 6)."""

import enum
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MAX_FRAME = 16384  # bytes; nobody is let to announce that it takes more
HEADER = 9  # bytes before each frame's payload
HIGHEST = 2**31 - 1  # stream, window or increment

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x01
END_HEADERS = 0x04
PADDED = 0x08
HAS_PRIORITY = 0x20

_HEADER = struct.Struct(">BHBBI")  # the length in two parts: a first one that is not 0 is too long anyway
_SETTING = struct.Struct(">HI")
head_at = _HEADER.unpack_from


class Code(enum.IntEnum):
    """Why a stream or a connection ends (RFC 9113, 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class Setting(enum.IntEnum):
    """What a side may announce (RFC 9113, 6.5.2; RFC 8441, 3)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    ENABLE_CONNECT_PROTOCOL = 8


class Broken(ValueError):
    """The connection cannot go on; the text says why, for the record."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _HEADER.pack(0, len(payload), kind, flags, stream) + payload


def headers(stream: int, block: bytes, ends: bool) -> bytes:
    """Return a header block in as many frames as it takes."""
    flags = END_STREAM if ends else 0
    if len(block) <= MAX_FRAME:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    parts = [block[at : at + MAX_FRAME] for at in range(0, len(block), MAX_FRAME)]
    middle = (frame(CONTINUATION, 0, stream, part) for part in parts[1:-1])
    last = frame(CONTINUATION, END_HEADERS, stream, parts[-1])
    return frame(HEADERS, flags, stream, parts[0]) + b"".join(middle) + last


def settings(announced: dict[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in announced.items()))


def announced(payload: bytes) -> dict[int, int]:
    """Return what a SETTINGS frame says; of two that say the same thing the later counts (RFC 9113, 6.5.3)."""
    if len(payload) % _SETTING.size:
        raise Broken(Code.FRAME_SIZE_ERROR, "SETTINGS are not six bytes each")
    return dict(_SETTING.iter_unpack(payload))


def rst_stream(stream: int, code: Code) -> bytes:
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big") + debug)


def window_update(stream: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def content(flags: int, payload: bytes) -> bytes:
    """Return what HEADERS or DATA hold, without padding and priority."""
    at, end = 0, len(payload)
    if flags & PADDED:
        at = 1
        end -= payload[0] if payload else 1
    if flags & HAS_PRIORITY:
        at += 5
    if at > end:
        raise Broken(Code.PROTOCOL_ERROR, "a frame's padding is longer than the frame")
    return payload[at:end]
