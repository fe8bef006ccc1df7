"""One TLS connection between two proxies, and the stream that it carries: to a link, a transport as any other.

A stream that both have ended leaves its connection for the next one. All else ends both: so no byte of one stream can
be taken for another's.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from l7proxy.mesh import frames, limits
from l7proxy.mesh.frames import Kind

_END = frames.frame(Kind.END)
_RECORD = 16 << 10  # of TLS: what fits into one is best sent as one
# What is read of TLS, whoever's: it is filled, and copied out of, in one go.
_READ = memoryview(bytearray(256 << 10))


class Ended(ConnectionResetError):
    """A stream that neither pod has ended: the message says why it is over, for the record."""


class Carrier(asyncio.BufferedProtocol):
    """`idle`: told when a stream is over and the next may come; `gone`: when the connection is; `made`: when it begins.

    `first`: takes frames while there is no stream: OPEN at the server's side, OPENED and REFUSED at the client's.
    """

    def __init__(
        self,
        first: Callable[["Carrier", Kind, bytes], None],
        idle: Callable[["Carrier"], None],
        gone: Callable[["Carrier"], None],
        made: Callable[["Carrier"], None] = lambda _: None,
    ) -> None:
        self._first, self._idle, self._gone, self._made = first, idle, gone, made
        self._reader = frames.Reader()
        self.tls: asyncio.Transport | None = None
        self.stream: Stream | None = None
        self.is_full = False
        self.error: Exception | None = None  # of which it was lost

    @property
    def is_open(self) -> bool:
        return self.tls is not None and not self.tls.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tls = cast(asyncio.Transport, transport)
        self._made(self)

    def get_buffer(self, hint: int) -> memoryview:
        return _READ

    def buffer_updated(self, count: int) -> None:
        try:
            for kind, body in self._reader.feed(_READ[:count]):
                if not self.is_open:
                    return
                if self.stream is not None:
                    self.stream.came(kind, body)
                else:
                    self._first(self, kind, body)
        except frames.BadFrame:
            self.abort()

    def eof_received(self) -> bool:
        return False  # TLS knows no half of an end

    def pause_writing(self) -> None:
        self.is_full = True
        if self.stream is not None:
            self.stream.full(True)

    def resume_writing(self) -> None:
        self.is_full = False
        if self.stream is not None:
            self.stream.full(False)

    def connection_lost(self, error: Exception | None) -> None:
        self.tls, self.error = None, error
        stream, self.stream = self.stream, None
        if stream is not None:
            stream.lost(Ended("the other node's proxy went away"))
        self._gone(self)

    def begin(self, protocol: asyncio.Protocol, extra: dict[str, Any]) -> "Stream":
        """Return a stream on this connection, which has none."""
        assert self.stream is None
        self.stream = Stream(self, protocol, extra)
        return self.stream

    def write(self, data: bytes) -> None:
        if self.tls is not None:
            self.tls.write(data)

    def write_data(self, data: bytes) -> None:
        if self.tls is not None:
            parts = frames.data(data)
            if len(data) < _RECORD:
                self.tls.write(b"".join(parts))
            else:
                self.tls.writelines(parts)

    def ended(self) -> None:
        """Both have ended the stream."""
        self.stream = None
        if self.tls is not None:
            self.tls.resume_reading()
            self._idle(self)

    def close(self) -> None:
        if self.tls is not None:
            self.tls.close()

    def abort(self) -> None:
        if self.tls is not None:
            self.tls.abort()


class Stream(asyncio.Transport):
    """What a link writes to and is told by; `extra`: what get_extra_info answers; `why`: said to the peer when it is
    aborted, where that is no doing of a pod."""

    def __init__(self, carrier: Carrier, protocol: asyncio.Protocol, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._carrier, self._protocol = carrier, protocol
        self.why = ""
        self._said_end = self._heard_end = self._is_closing = self._is_lost = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _tls(self) -> asyncio.Transport | None:
        """Return what carries it, None when that is not its own any more."""
        return self._carrier.tls if self._carrier.stream is self else None

    # --- what a link does -----------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data and not (self._said_end or self._is_lost):
            self._carrier.write_data(bytes(data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._said_end or self._is_lost):
            self._said_end = True
            self._carrier.write(_END)
            self._look()

    def pause_reading(self) -> None:
        if (tls := self._tls) is not None and not self._is_closing:
            tls.pause_reading()

    def resume_reading(self) -> None:
        if (tls := self._tls) is not None:
            tls.resume_reading()

    def is_reading(self) -> bool:
        return (tls := self._tls) is not None and tls.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if (tls := self._tls) is not None:
            tls.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        return tls.get_write_buffer_size() if (tls := self._tls) is not None else 0

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """End both ways: what comes from now on is thrown away, and is an error to who sends it, as with TCP."""
        if self._is_closing:
            return
        self._is_closing = True
        self.resume_reading()
        self.write_eof()
        loop = asyncio.get_running_loop()
        if self._carrier.stream is self:
            self._timer = loop.call_later(limits.LINGER_S, self._carrier.abort)
        loop.call_soon(self._tell_lost, None)

    def abort(self) -> None:
        """End it at once; the peer learns that it is not whole."""
        self._is_closing = True
        if self._carrier.stream is self:
            self._carrier.write(frames.reset(self.why))
            self._carrier.close()
        asyncio.get_running_loop().call_soon(self._tell_lost, None)

    def cut(self, why: str) -> None:
        """End it at once, at both ends, though neither wants to."""
        self.why = why
        self.abort()
        self.lost(ConnectionResetError(why))

    # --- what the carrier tells -----------------------------------------------------------------------------------

    def came(self, kind: Kind, body: bytes) -> None:
        if kind is Kind.DATA and not self._heard_end:
            if self._is_closing:
                self.abort()
            else:
                self._protocol.data_received(body)
        elif kind is Kind.END and not self._heard_end:
            self._heard_end = True
            if not self._is_closing:
                self._protocol.eof_received()
            self._look()
        elif kind is Kind.RESET:
            self._carrier.stream = None
            self._carrier.close()
            word = frames.read_word(body)
            self.lost(Ended(f"the other node: {word}") if word else ConnectionResetError("reset at the other node"))
        else:
            raise frames.BadFrame(f"{kind.name} in the middle of a stream")

    def full(self, is_full: bool) -> None:
        if not self._is_closing:
            self._protocol.pause_writing() if is_full else self._protocol.resume_writing()

    def lost(self, error: Exception | None) -> None:
        self._is_closing = True
        self._stop_timer()
        self._tell_lost(error)

    def _look(self) -> None:
        """Give the connection back if both have ended."""
        if self._said_end and self._heard_end and self._carrier.stream is self:
            if self._carrier.is_full:  # the next stream is not to begin with what this one has left
                self._carrier.stream = None
                self._carrier.close()
            else:
                self._carrier.ended()
            self._stop_timer()
            if not self._is_closing:  # nobody else will tell the link that all is over
                self._is_closing = True
                asyncio.get_running_loop().call_soon(self._tell_lost, None)

    def _tell_lost(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
