"""A stream of a TLS connection between two proxies: to a link, a transport as any other.

Each way has its own credit: who reads says how much more may come, so that what waits for a reader that has stopped is
bounded, and no other stream of the connection waits with it. A reader that takes all that comes gets more credit, as
with TCP's window; one that lets something wait is back at the first figure.
"""

import asyncio
from typing import Protocol

from l7proxy.hears import Hears
from l7proxy.mesh import frames, limits
from l7proxy.mesh.errors import BadFrame, Ended
from l7proxy.mesh.frames import Ends, Kind

_AT_ONCE = 64 << 10  # bytes that a link gets of what has waited for it: it may have enough then


class Bearer(Protocol):
    """What a stream asks of its connection: see carrier.Carrier."""

    streams: "dict[int, Stream]"
    is_full: bool

    @property
    def unsent(self) -> int: ...
    def write(self, frame: bytes) -> None: ...
    def write_data(self, number: int, data: bytes) -> None: ...
    def forget(self, stream: "Stream") -> None: ...


class Stream:
    """What a link writes to and is told by: asyncio's Transport by another name, since what is compiled inherits none.

    `why`: said to the peer when it is aborted, where that is no doing of a pod.
    """

    def __init__(self, carrier: Bearer, number: int, protocol: Hears, ends: Ends) -> None:
        self._carrier, self._protocol = carrier, protocol
        self.number, self.ends = number, ends
        self.why = ""
        self._credit = limits.FIRST_WINDOW  # bytes that may be sent
        self._waiting: list[memoryview] = []  # for more credit
        self._is_full = False  # as the link was told
        self._window = self._granted = limits.FIRST_WINDOW  # bytes that may come
        self._held = bytearray()  # has come, and the link does not read
        self._reads = True
        self._ends = self._said_end = self._heard_end = self._told_end = False
        self._is_closing = self._is_lost = False

    @property
    def _is_here(self) -> bool:
        """Tell whether its connection still carries it."""
        return self._carrier.streams.get(self.number) is self

    # --- what a link does -----------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._ends or self._is_lost:
            return
        if not self._waiting and len(data) <= self._credit:
            self._credit -= len(data)
            self._carrier.write_data(self.number, bytes(data))
        else:
            self._waiting.append(memoryview(bytes(data)))
            self._send_waiting()
        if self._carrier.is_full or self._waiting:
            self.look_full()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """It has no socket of its own."""
        return default

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not (self._ends or self._is_lost):
            self._ends = True
            self._send_waiting()

    def pause_reading(self) -> None:
        self._reads = False

    def resume_reading(self) -> None:
        if self._reads or self._is_closing:
            return
        self._reads = True
        while self._held and self._reads and not self._is_closing:
            part = bytes(self._held[:_AT_ONCE])
            del self._held[:_AT_ONCE]
            self._protocol.data_received(part)
        if self._reads and not self._is_closing:
            self._tell_end() if self._heard_end else self._grant()

    def is_reading(self) -> bool:
        return self._reads and not self._is_closing

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The credit is the limit, and the connection's own."""

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._waiting)) + self._carrier.unsent

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        """End both ways: what comes from now on is thrown away, and is an error to who sends it, as with TCP.

        What has been written is sent, for as long as the peer takes over it. The link is told that all is over when it
        has been, not before: until then it counts, and is bounded by its idle time-out, the end of a drain, and policy.
        """
        if self._is_closing:
            return
        self._is_closing = True
        self.write_eof()
        self._look()
        if self._said_end or not self._is_here:
            asyncio.get_running_loop().call_soon(self._tell_lost, None)

    def abort(self) -> None:
        """End it at once; the peer learns that it is not whole."""
        self._is_closing = True
        if self._is_here:
            self._carrier.write(frames.reset(self.number, self.why))
            self._leave()
        asyncio.get_running_loop().call_soon(self._tell_lost, None)

    def cut(self, why: str) -> None:
        """End it at once, at both ends, though neither wants to."""
        self.why = why
        self.abort()
        self.lost(ConnectionResetError(why))

    # --- what the carrier tells -----------------------------------------------------------------------------------

    def came(self, kind: Kind, body: bytes) -> None:
        """Take a frame; raises BadFrame."""
        if kind is Kind.DATA and not self._heard_end:
            self._take(body)
        elif kind is Kind.CREDIT:
            self._credit += frames.read_credit(body)
            if self._credit > limits.MOST_WINDOW:
                raise BadFrame("more credit than anybody gives")
            self._send_waiting()
            self.look_full()
        elif kind is Kind.END and not self._heard_end:
            self._heard_end = True
            if not self._held:
                self._tell_end()
        elif kind is Kind.RESET:
            self._leave()
            word = frames.read_word(body)
            self.lost(Ended(f"the other node: {word}") if word else ConnectionResetError("reset at the other node"))
        else:
            raise BadFrame(f"{kind.name} in the middle of a stream")

    def look_full(self) -> None:
        """Have the link write on, or not."""
        is_full = bool(self._waiting) or self._carrier.is_full
        if is_full is not self._is_full and not self._is_closing:
            self._is_full = is_full
            self._protocol.pause_writing() if is_full else self._protocol.resume_writing()

    def lost(self, error: Exception | None) -> None:
        self._is_closing = True
        self._tell_lost(error)

    def _take(self, body: bytes) -> None:
        self._granted -= len(body)
        if self._granted < 0:
            raise BadFrame("more bytes than there was credit for")
        if self._is_closing:
            self.abort()
        elif self._held or not self._reads:
            self._held += body  # as one, however small its parts: a list of bytes takes fifty times their memory
            self._window = limits.FIRST_WINDOW
        else:
            self._protocol.data_received(body)
            self._grant()

    def _grant(self) -> None:
        """Give credit for what the link has taken, once that is much."""
        if self._reads and not self._heard_end and 2 * self._granted <= self._window:
            self._window = min(2 * self._window, limits.MOST_WINDOW)
            self._carrier.write(frames.credit(self.number, self._window - self._granted))
            self._granted = self._window

    def _send_waiting(self) -> None:
        """Send what there is credit for; then the end, if that is all."""
        while self._waiting and self._credit:
            first = self._waiting[0]
            part, rest = first[: self._credit], first[self._credit :]
            # First, as a connection that is full says so at once: the link may write, end or reset in the middle of it.
            if rest:
                self._waiting[0] = rest
            else:
                del self._waiting[0]
            self._credit -= len(part)
            self._carrier.write_data(self.number, bytes(part))
        if self._ends and not self._said_end and not self._waiting and self._is_here:
            self._said_end = True
            self._carrier.write(frames.frame(Kind.END, self.number))
            self._look()
            if self._is_closing:
                asyncio.get_running_loop().call_soon(self._tell_lost, None)

    def _tell_end(self) -> None:
        if not self._told_end:
            self._told_end = True
            if not self._is_closing:
                self._protocol.eof_received()
            self._look()

    def _look(self) -> None:
        """It is over if both have ended it."""
        if self._said_end and self._is_closing and self._held:
            self.abort()  # what has come will not be read
        elif self._said_end and self._told_end and self._is_here:
            self._leave()
            if not self._is_closing:  # nobody else will tell the link that all is over
                self._is_closing = True
                asyncio.get_running_loop().call_soon(self._tell_lost, None)

    def _leave(self) -> None:
        self._held.clear()
        self._waiting.clear()
        self._carrier.forget(self)

    def _tell_lost(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._protocol.connection_lost(error)
