"""What becomes of each frame that a client sends (RFC 9113): nothing goes on of a request that was not let through."""

import time

from l7proxy.http2 import fields, frames, hpack, request, settings
from l7proxy.http2.connection import Connection
from l7proxy.http2.exchange import Stream
from l7proxy.http2.fields import Fields, Known, Malformed
from l7proxy.http2.frames import ACK, END_STREAM, PADDED, Broken, Code
from l7proxy.http2.hpack import TooLarge
from l7proxy.http2.limits import MAX_STREAMS
from l7proxy.http2.request import Request
from l7proxy.http2.side import (
    Handlers,
    check_goaway,
    check_ping,
    check_size,
    check_window,
    nobody_pushes,
    other,
    priority,
)
from l7proxy.refusal import Refusal


def take_block(connection: Connection, stream: int, flags: int, block: bytes) -> bytes | None:
    if not stream & 1:
        raise Broken(Code.PROTOCOL_ERROR, "a client's stream has an even number")
    if stream <= connection.last:
        return _trailers(connection, stream, flags, block)
    connection.last = stream
    began, ends, kept_table = time.monotonic_ns(), bool(flags & END_STREAM), connection.decoder is not None
    asked: Request | None = None
    try:
        asked = request.of(_decode(connection, block)) if kept_table else connection.reader.read(block)
        if ends and asked.length:
            raise Malformed("a request has no body but a content-length")
    except (Malformed, TooLarge) as error:
        refusal = Refusal.TOO_LARGE if isinstance(error, TooLarge) else Refusal.BAD_REQUEST
        return connection.refuse(refusal, stream, asked, began, ends, str(error))
    if stream > connection.accepts:
        # It may try again elsewhere: it has been told that this one is not served.
        return connection.drop(stream, asked, began, ends, "the connection takes no more requests")
    if len(connection.streams) >= MAX_STREAMS:
        if connection.server.greeted and not connection.server.unacked:
            raise Broken(Code.ENHANCE_YOUR_CALM, f"there are more than {MAX_STREAMS} streams at once")
        connection.say(frames.rst_stream(stream, Code.REFUSED_STREAM))  # it may not have heard of the bound yet
        return connection.drop(stream, asked, began, ends, "there are too many streams at once")
    verdict = connection.judge(asked)
    if not verdict.allowed:
        return connection.refuse(Refusal.FORBIDDEN, stream, asked, began, ends, verdict.why, verdict.told, verdict.span)
    connection.streams[stream] = Stream(asked, began, ends, verdict.told, verdict.span)
    if kept_table or verdict.fields is not None:
        going = asked.fields if verdict.fields is None else verdict.fields
        return _anew(connection, stream, (*asked.pseudo, *going), ends)
    return _as_it_came(connection, stream, block, ends) if connection.owes_update else None


def _decode(connection: Connection, block: bytes) -> list[Known]:
    decoder = connection.decoder
    assert decoder is not None
    try:
        found = decoder.decode(block)
    finally:
        if decoder.limit == decoder.size == 0:
            connection.decoder = None
    return [fields.known(each) for each in found]


def _anew(connection: Connection, stream: int, going: Fields, ends: bool) -> bytes:
    connection.owes_update = False
    return frames.headers(stream, hpack.encode(going), ends)


def _as_it_came(connection: Connection, stream: int, block: bytes, ends: bool) -> bytes | None:
    """Let a block go on, but see that the first one since the client agreed to no table says so."""
    connection.owes_update = False
    return None if block.startswith(hpack.TO_NO_TABLE) else frames.headers(stream, hpack.TO_NO_TABLE + block, ends)


def _trailers(connection: Connection, stream: int, flags: int, block: bytes) -> bytes | None:
    opened = connection.streams.get(stream)
    if opened and opened.asked:
        raise Broken(Code.STREAM_CLOSED, "a client goes on with what it had ended")
    kept_table = connection.decoder is not None
    try:
        found = _decode(connection, block) if kept_table else fields.walk(block, connection.reader.most)
        if not flags & END_STREAM:
            raise Malformed("the trailers are not the end")
        fields.check_trailers(found)
    except (Malformed, TooLarge) as error:
        if opened:  # the server is in the middle of it: there is no way back for this stream alone
            raise Broken(Code.PROTOCOL_ERROR, str(error)) from None
    if opened is None:
        connection.fruitless.spend()
        return connection.unheard(stream, flags, 0)
    connection.count_body(stream, opened, 0, ends=True)
    if kept_table:
        return _anew(connection, stream, tuple(field for field, _ in found), ends=True)
    return _as_it_came(connection, stream, block, ends=True) if connection.owes_update else None


def _data(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    size = body = end - at
    if flags & PADDED:
        body -= 1 + (data[at] if size else 0)
        if body < 0:
            raise Broken(Code.PROTOCOL_ERROR, "a frame's padding is longer than the frame")
    if not body and not flags & END_STREAM:
        connection.fruitless.spend()
    elif connection.fruitless.spent:
        connection.fruitless.earn(1)
    opened = connection.streams.get(stream)
    if opened is None:
        return connection.unheard(stream, flags, size)
    connection.count_body(stream, opened, body, bool(flags & END_STREAM))
    return None


def _ping(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    connection.fruitless.spend()
    check_ping(stream, end - at)
    return None


def _priority(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    connection.fruitless.spend()
    return priority(connection, flags, stream, data, at, end)


def _other(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    connection.fruitless.spend()
    return other(connection, flags, stream, data, at, end)


def _reset(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    check_size(end - at, 4)
    connection.check_known(stream)
    opened = connection.streams.get(stream)
    if opened is None:
        if stream in connection.deaf:
            del connection.deaf[stream]
        else:
            connection.fruitless.spend()
        return b""
    if not opened.answered:
        connection.resets.spend()
        connection.told(opened, "the client reset the stream")
    connection.close(stream)
    return None


def _settings(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    if flags & ACK:
        connection.server.take_ack(stream, end - at)
        connection.owes_update = True
        if connection.decoder:
            connection.decoder.limit = 0
        return None
    connection.fruitless.spend()
    connection.client.greet(stream)
    return settings.for_server(data[at:end])


def _goaway(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    connection.fruitless.spend()
    check_goaway(stream, end - at)
    return None


def _window(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    connection.fruitless.spend()
    check_window(data[at:end])
    if not stream:
        return None
    connection.check_known(stream)
    return None if stream in connection.streams else b""


# In the order of the frames' types; the last one is for types that nobody knows (RFC 9113, 5.5).
HANDLERS: Handlers = (
    _data,
    None,
    _priority,
    _reset,
    _settings,
    nobody_pushes,
    _ping,
    _goaway,
    _window,
    None,
    _other,
)
