"""Answers of our own, in the server's place: a header block and nothing more.

There is no body: its bytes would use the client's window for the connection, of which the server keeps the account.
"""

from l7proxy.http2 import frames, hpack
from l7proxy.http2.frames import Code
from l7proxy.refusal import Refusal

GRPC_STATUS = {
    Refusal.BAD_REQUEST: 13,
    Refusal.FORBIDDEN: 7,
    Refusal.TOO_SLOW: 4,
    Refusal.TOO_LARGE: 8,
    Refusal.BAD_GATEWAY: 14,
    Refusal.UNAVAILABLE: 14,
    Refusal.TIMEOUT: 4,
}
_MESSAGES = {
    Refusal.BAD_REQUEST: b"Bad request",
    Refusal.FORBIDDEN: b"Access denied",
    Refusal.TOO_SLOW: b"Request timeout",
    Refusal.TOO_LARGE: b"Header fields too large",
    Refusal.BAD_GATEWAY: b"Bad gateway",
    Refusal.UNAVAILABLE: b"Service unavailable",
    Refusal.TIMEOUT: b"Gateway timeout",
}
_PLAIN = {each: hpack.encode(((b":status", b"%d" % each), (b"content-length", b"0"))) for each in Refusal}
_GRPC = {
    each: hpack.encode(
        (
            (b":status", b"200"),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"%d" % GRPC_STATUS[each]),
            (b"grpc-message", _MESSAGES[each]),
        )
    )
    for each in Refusal
}

# As trailers: a reset would be INTERNAL to clients of gRPC, where a server that is lost is UNAVAILABLE.
_CUT_OFF = hpack.encode(
    (
        (b"grpc-status", b"%d" % GRPC_STATUS[Refusal.UNAVAILABLE]),
        (b"grpc-message", _MESSAGES[Refusal.UNAVAILABLE]),
    )
)


def frames_of(refusal: Refusal, stream: int, is_grpc: bool, client_ended: bool) -> bytes:
    """Return the answer; a client that goes on sending is told to leave off (RFC 9113, 8.1)."""
    return _last(stream, (_GRPC if is_grpc else _PLAIN)[refusal], client_ended, _CODES.get(refusal, Code.NO_ERROR))


def cut_off(stream: int, is_grpc: bool, client_ended: bool) -> bytes:
    """Return the end of an answer that the server has not ended: what a client of gRPC then may try again."""
    if not is_grpc:
        return frames.rst_stream(stream, Code.INTERNAL_ERROR)
    return _last(stream, _CUT_OFF, client_ended, Code.NO_ERROR)


def _last(stream: int, block: bytes, client_ended: bool, code: Code) -> bytes:
    said = frames.headers(stream, block, ends=True)
    return said if client_ended else said + frames.rst_stream(stream, code)


_CODES = {Refusal.BAD_REQUEST: Code.PROTOCOL_ERROR, Refusal.BAD_GATEWAY: Code.INTERNAL_ERROR}
