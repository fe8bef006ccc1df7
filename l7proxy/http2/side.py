"""What comes from one side, cut into frames; what may go on as it came goes on in pieces as large as they came."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from l7proxy.http2 import frames, hpack
from l7proxy.http2.frames import ACK, END_HEADERS, HIGHEST, PADDED, Broken, Code
from l7proxy.http2.limits import MAX_CONTINUATIONS

if TYPE_CHECKING:
    from l7proxy.http2.connection import Connection

# What is done with a frame: flags, stream, and where in the data its payload begins and ends.
# None: it goes on as it came; else what goes on instead, maybe nothing.
Handler = Callable[["Connection", int, int, bytes, int, int], bytes | None]
Handlers = tuple[Handler | None, ...]  # by type; None for HEADERS and CONTINUATION, the last one for other types
BlockHandler = Callable[["Connection", int, int, bytes], bytes | None]  # stream, flags, and a header block

_UNKNOWN = 10  # from this one on nobody knows the type


class _Gathered:
    """A header block whose frames have not all come."""

    __slots__ = ("_most", "flags", "frames", "parts", "size", "stream")

    def __init__(self, stream: int, flags: int, most: int) -> None:
        self.stream, self.flags, self._most = stream, flags, most
        self.frames: list[bytes] = []
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, frame: bytes, part: bytes) -> None:
        self.frames.append(frame)
        self.parts.append(part)
        self.size += len(part)
        if self.size > self._most or len(self.frames) > MAX_CONTINUATIONS:
            raise Broken(Code.ENHANCE_YOUR_CALM, "a header block is longer than anybody needs, or in too many frames")


class Side:
    """`out`: what goes to the other side, also of what we say ourselves. `block`: what is done with a header block.
    `most`: bytes of one.

    `greeted`: its first SETTINGS have come; `unacked`: how many of them the other side has yet to acknowledge.
    """

    __slots__ = ("_block", "_gathered", "_handlers", "_held", "_most", "greeted", "out", "unacked")

    def __init__(self, handlers: Handlers, block: BlockHandler, most: int = hpack.MAX_BLOCK) -> None:
        self._handlers, self._block, self._most = handlers, block, most
        self.out: list[bytes] = []
        self._held = b""  # the start of a frame
        self._gathered: _Gathered | None = None
        self.greeted = False
        self.unacked = 0

    def take(self, connection: "Connection", data: bytes) -> None:
        """Look at each whole frame; raises Broken, when all before the bad one has gone on."""
        if self._held:
            data = self._held + data
        handlers, head_at, size = self._handlers, frames.head_at, len(data)
        start = at = 0
        try:
            while size - at >= frames.HEADER and not connection.is_over:
                too_long, length, kind, flags, stream = head_at(data, at)
                if too_long or length > frames.MAX_FRAME:
                    raise Broken(Code.FRAME_SIZE_ERROR, f"a frame is longer than {frames.MAX_FRAME} bytes")
                end = at + frames.HEADER + length
                if end > size:
                    break
                if stream > HIGHEST:
                    raise Broken(Code.PROTOCOL_ERROR, "a stream's number has a bit that nobody may set")
                if self._gathered and (kind != frames.CONTINUATION or stream != self._gathered.stream):
                    raise Broken(Code.PROTOCOL_ERROR, "a header block is broken off by another frame")
                if not self.greeted and (kind != frames.SETTINGS or flags & ACK):
                    raise Broken(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
                handler = handlers[kind if kind < _UNKNOWN else _UNKNOWN]
                if handler:
                    instead = handler(connection, flags, stream, data, at + frames.HEADER, end)
                else:
                    instead = self._headers(connection, kind, flags, stream, data, at, end)
                if instead is not None:
                    if start < at:
                        self.out.append(data[start:at])
                    if instead:
                        self.out.append(instead)
                    start = end
                at = end
        finally:
            if start < at:
                self.out.append(data[start:at] if start or at < size else data)
        self._held = data[at:]

    def _headers(
        self, connection: "Connection", kind: int, flags: int, stream: int, data: bytes, at: int, end: int
    ) -> bytes | None:
        """Judge a block when all of it is there; its frames wait for that."""
        gathered = self._gathered
        block = data[at + frames.HEADER : end]
        if kind == frames.HEADERS:
            if not stream:
                raise Broken(Code.PROTOCOL_ERROR, "HEADERS are not of a stream")
            if flags & (PADDED | frames.HAS_PRIORITY):
                block = frames.content(flags, block)
            if flags & END_HEADERS:
                return self._block(connection, stream, flags, block)
            self._gathered = gathered = _Gathered(stream, flags, self._most)
        if gathered is None:
            raise Broken(Code.PROTOCOL_ERROR, "CONTINUATION does not follow HEADERS")
        gathered.add(data[at:end], block)
        if not flags & END_HEADERS:
            return b""
        self._gathered = None
        instead = self._block(connection, stream, gathered.flags, b"".join(gathered.parts))
        return b"".join(gathered.frames) if instead is None else instead

    @property
    def is_within(self) -> bool:
        """Whether a frame or a header block has begun that is not whole."""
        return bool(self._held or self._gathered)

    def greet(self, stream: int) -> None:
        """Count SETTINGS of its."""
        if stream:
            raise Broken(Code.PROTOCOL_ERROR, "SETTINGS are of a stream")
        self.greeted = True
        self.unacked += 1

    def take_ack(self, stream: int, size: int) -> None:
        """Count an acknowledgement of what it has announced."""
        check_size(size, 0)
        if stream or not self.unacked:
            raise Broken(Code.PROTOCOL_ERROR, "nobody has announced what is acknowledged")
        self.unacked -= 1


def check_size(size: int, wanted: int) -> None:
    if size != wanted:
        raise Broken(Code.FRAME_SIZE_ERROR, f"a frame has {size} bytes where {wanted} belong")


def check_ping(stream: int, size: int) -> None:
    check_size(size, 8)
    if stream:
        raise Broken(Code.PROTOCOL_ERROR, "PING is of a stream")


def check_window(payload: bytes) -> None:
    check_size(len(payload), 4)
    if not int.from_bytes(payload, "big") & HIGHEST:
        raise Broken(Code.PROTOCOL_ERROR, "a window is made larger by nothing")


def check_goaway(stream: int, size: int) -> None:
    if stream:
        raise Broken(Code.PROTOCOL_ERROR, "GOAWAY is of a stream")
    if size < 8:
        raise Broken(Code.FRAME_SIZE_ERROR, "GOAWAY is cut short")


def check_priority(stream: int, size: int) -> None:
    check_size(size, 5)
    if not stream:
        raise Broken(Code.PROTOCOL_ERROR, "PRIORITY is not of a stream")


def nobody_pushes(connection: "Connection", flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    raise Broken(Code.PROTOCOL_ERROR, "somebody pushes whom nobody asked to")


def priority(connection: "Connection", flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    check_priority(stream, end - at)
    return None if stream in connection.streams else b""  # RFC 9113, 5.3.2: nobody needs it


def other(connection: "Connection", flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
    return None if not stream or stream in connection.streams else b""
