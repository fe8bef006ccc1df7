"""What becomes of each frame that a server sends (RFC 9113): each answer belongs to a request that was let through."""

from l7proxy.http2 import answer, frames, settings
from l7proxy.http2.connection import Connection
from l7proxy.http2.fields import Malformed
from l7proxy.http2.frames import ACK, END_STREAM, HIGHEST, Broken, Code
from l7proxy.http2.hpack import TooLarge
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

_CLIENTS_FAULT = (Code.PROTOCOL_ERROR, Code.FLOW_CONTROL_ERROR, Code.STREAM_CLOSED, Code.FRAME_SIZE_ERROR)


def take_block(connection: Connection, stream: int, flags: int, block: bytes) -> bytes | None:
    try:
        said = answer.read(block)
    except (Malformed, TooLarge) as error:
        raise Broken(Code.PROTOCOL_ERROR, str(error)) from None
    opened, ends = connection.streams.get(stream), flags & END_STREAM
    if opened is None:
        connection.check_known(stream)  # the client has reset it, and must expect that
        return None
    if opened.answered or (opened.status and (said.status or not ends)):
        raise Broken(Code.PROTOCOL_ERROR, "the server answers twice")
    if not opened.status:
        if said.status < 200 and (ends or said.status in (0, 101)):
            raise Broken(Code.PROTOCOL_ERROR, "the server's answer has no status that may be the last")
        if said.status < 200:
            return None
        opened.status = said.status
    if said.grpc_status is not None:
        opened.grpc_status = said.grpc_status
    if ends:
        connection.count_answer(stream, opened)
    return None


def _data(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    if connection.fruitless.spent:
        connection.fruitless.earn(2)  # the client gives back two windows
    opened = connection.streams.get(stream)
    if opened is None:
        connection.check_known(stream)
        return None
    if not opened.status or opened.answered:
        raise Broken(Code.PROTOCOL_ERROR, "the server sends a body before its head, or after its end")
    if flags & END_STREAM:
        connection.count_answer(stream, opened)
    return None


def _reset(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    check_size(end - at, 4)
    connection.check_known(stream)
    opened = connection.streams.get(stream)
    if opened is None:
        return None
    code = int.from_bytes(data[at:end], "big")
    if not opened.answered:
        connection.told(opened, f"the server reset the stream ({code})")
    if not opened.asked:
        connection.deafen(stream)
    connection.close(stream)
    if code in _CLIENTS_FAULT:  # it can make a server do that as often as it likes
        connection.resets.spend()
    return None


def _settings(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    if flags & ACK:
        connection.client.take_ack(stream, end - at)
        return None
    said = settings.for_client(data[at:end], is_first=not connection.server.greeted)
    connection.server.greet(stream)
    if connection.early:
        said += b"".join(connection.early)
        connection.early.clear()
    return said


def _goaway(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    check_goaway(stream, end - at)
    last = int.from_bytes(data[at : at + 4], "big") & HIGHEST
    connection.accepts = min(connection.accepts, last)
    for number in [number for number in connection.streams if number > connection.accepts]:
        opened = connection.streams.pop(number)
        if not opened.answered:
            connection.told(opened, "the server takes no more requests")
        if not opened.asked:
            connection.deafen(number)
    connection.end_if_drained()
    code = int.from_bytes(data[at + 4 : at + 8], "big")
    return None if last == connection.accepts else frames.goaway(connection.accepts, code, data[at + 8 : end])


def _window(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    check_window(data[at:end])
    return None if not stream or stream in connection.streams else b""


def _ping(connection: Connection, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    check_ping(stream, end - at)
    return None


# In the order of the frames' types; the last one is for types that nobody knows (RFC 9113, 5.5).
HANDLERS: Handlers = (
    _data,
    None,
    priority,
    _reset,
    _settings,
    nobody_pushes,
    _ping,
    _goaway,
    _window,
    None,
    other,
)
