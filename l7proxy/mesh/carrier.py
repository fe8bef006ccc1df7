"""One TLS connection between two proxies, and the streams that it carries.

What streams have to say in one turn of the event loop goes out at its end, together: a few calls of the kernel and a
few TLS records for many small messages. What one stream's reader does not take holds up no other (see stream.py); what
the connection itself does not take holds up all of its streams.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from l7proxy.hears import Hears
from l7proxy.mesh import frames, limits
from l7proxy.mesh.errors import BadFrame, Ended
from l7proxy.mesh.frames import Ends, Kind
from l7proxy.mesh.stream import Stream

_RECORD = 16 << 10  # of TLS: what fits into one is best sent as one
_AT_ONCE = 64 << 10  # what is more does not wait for the end of the turn
_HIGH_WATER = 256 << 10
# What is read of TLS, whoever's: it is filled, and copied out of, in one go.
_READ = memoryview(bytearray(256 << 10))


class Carrier:
    """`idle`: told when its last stream is over; `gone`: when the connection is; `made`: when it begins.

    `first`: takes frames of numbers that no stream has here: OPEN at the server's side, OPENED and REFUSED at the
    client's, at both what comes late. It is a BufferedProtocol of asyncio's, though it inherits none.
    """

    def __init__(
        self,
        first: Callable[["Carrier", Kind, int, bytes], None],
        idle: Callable[["Carrier"], None],
        gone: Callable[["Carrier"], None],
        made: Callable[["Carrier"], None] = lambda _: None,
    ) -> None:
        self._first, self._idle, self._gone, self._made = first, idle, gone, made
        self._reader = frames.Reader()
        self._out: list[bytes] = []  # is sent at the end of this turn
        self._size = 0  # of that
        self.tls: asyncio.Transport | None = None
        self.streams: dict[int, Stream] = {}
        self.last = 0  # the highest number that a stream has had
        self.moved = 0  # bytes of its streams, since there was none
        self.asked = 0  # streams that were asked for in what has been read at once
        self.is_full = False
        self.error: Exception | None = None  # of which it was lost

    @property
    def is_open(self) -> bool:
        return self.tls is not None and not self.tls.is_closing()

    @property
    def unsent(self) -> int:
        """Return how many bytes wait here."""
        return self._size + (self.tls.get_write_buffer_size() if self.tls is not None else 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tls = cast(asyncio.Transport, transport)
        self.tls.set_write_buffer_limits(_HIGH_WATER)
        self._made(self)

    def get_buffer(self, hint: int) -> memoryview:
        return _READ

    def buffer_updated(self, count: int) -> None:
        self.moved += count
        self.asked = 0
        try:
            for kind, number, body in self._reader.feed(_READ[:count]):
                if not self.is_open:
                    return
                stream = self.streams.get(number)
                if stream is not None:
                    stream.came(kind, body)
                else:
                    self._first(self, kind, number, body)
        except BadFrame:
            self.abort()

    def eof_received(self) -> bool:
        return False  # TLS knows no half of an end

    def pause_writing(self) -> None:
        self.is_full = True
        self._tell_full()

    def resume_writing(self) -> None:
        self.is_full = False
        self._tell_full()

    def _tell_full(self) -> None:
        for stream in list(self.streams.values()):
            stream.look_full()

    def connection_lost(self, error: Exception | None) -> None:
        self.tls, self.error = None, error
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.lost(Ended("the other node's proxy went away"))
        self._gone(self)

    def begin(self, number: int, protocol: Hears, ends: Ends) -> Stream:
        """Return a stream on this connection, by a number that none has had."""
        self.last = max(self.last, number)
        stream = self.streams[number] = Stream(self, number, protocol, ends)
        return stream

    def forget(self, stream: Stream) -> None:
        """A stream is over."""
        if self.streams.pop(stream.number, None) is not None and not self.streams and self.tls is not None:
            self.moved = 0
            self._idle(self)

    def write(self, frame: bytes) -> None:
        self._queue(frame, b"")

    def _queue(self, frame: bytes, more: bytes) -> None:
        if self.tls is None:
            return
        if not self._out:
            asyncio.get_running_loop().call_soon(self.flush)
        self._out.append(frame)
        if more:
            self._out.append(more)
        self._size += len(frame) + len(more)
        if self._size > _AT_ONCE:
            self.flush()

    def write_data(self, number: int, data: bytes) -> None:
        """Send a stream's bytes, as many as there may be."""
        self.moved += len(data)
        if len(data) < _RECORD:
            self.write(frames.data_head(number, len(data)) + data)
            return
        for at in range(0, len(data), frames.MOST_DATA):
            part = data[at : at + frames.MOST_DATA]
            # As one: what is full says so in the middle of a write, and links may then say more.
            self._queue(frames.data_head(number, len(part)), part)

    def flush(self) -> None:
        """Send what waits."""
        out, size, self._out, self._size = self._out, self._size, [], 0
        if not out or self.tls is None:
            return
        if len(out) == 1:
            self.tls.write(out[0])
        elif size <= _AT_ONCE:
            self.tls.write(b"".join(out))
        else:
            self.tls.writelines(out)
        if self.is_full and self.tls.get_write_buffer_size() > limits.MOST_UNSENT:
            self.abort()  # who asks and asks and reads no answer

    def cut(self, why: str) -> None:
        """End all of its streams at once, at both ends."""
        for stream in list(self.streams.values()):
            stream.cut(why)

    def close(self) -> None:
        if self.tls is not None:
            self.flush()
        if self.tls is not None:
            self.tls.close()

    def abort(self) -> None:
        if self.tls is not None:
            self.tls.abort()
