"""One client's connection and the one to its server: carries what a session says, as fast as the slower side takes it.

The session (http1.Session and its like) decides; a link only moves bytes. What one side cannot take is not read from
the other, so that a link holds a bounded number of bytes however large a body is.
"""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from l7proxy.hears import Hears

_HIGH_WATER = 256 << 10  # bytes that wait for a side before the other is not read; then half of it
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds: what waits is thrown away, the peer gets a reset
_IN_ORDER = struct.pack("ii", 0, 0)  # off: what waits is sent, then the end


class Session(Protocol):
    """What a link asks of one: see http1.Session."""

    @property
    def becomes(self) -> "Session | None": ...  # what goes on in its place, when the client has said what that is
    @property
    def to_server(self) -> list[bytes]: ...
    @property
    def to_client(self) -> list[bytes]: ...
    @property
    def is_over(self) -> bool: ...
    @property
    def is_broken(self) -> bool: ...
    @property
    def is_idle(self) -> bool: ...  # nobody is in the middle of anything
    @property
    def waits_for_head(self) -> bool: ...  # the client is in the middle of saying what it wants
    @property
    def ends_client(self) -> bool: ...
    @property
    def ends_server(self) -> bool: ...
    @property
    def waits_for_client(self) -> bool: ...
    def from_client(self, data: bytes) -> None: ...
    def from_server(self, data: bytes) -> None: ...
    def client_ended(self) -> None: ...
    def server_ended(self) -> None: ...
    def drain(self) -> None: ...
    def cut(self, why: str) -> None: ...
    def failed(self, why: str) -> None: ...
    def lost(self, why: str) -> None: ...


Dial = Callable[[Callable[[], Hears]], Awaitable[object]]


class Link:
    """The client's side, which owns both. `dial`: called once the client has asked for something that may go on.

    `ended` is told when both connections are gone. `active`: the loop's time when something last came.

    Until both have ended in order, the end of this process is a reset to either: half of a stream is no whole one.
    """

    __slots__ = (
        "_answers_wait", "_client_full", "_dial", "_dialled", "_ended", "_loop", "_reads_client", "_resets",
        "_server_full", "_told_client", "_told_server", "_upstream", "active", "client", "server", "session",
    )  # fmt: skip

    def __init__(self, session: Session, dial: Dial, ended: Callable[["Link"], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._dial, self._ended = dial, ended
        self._dialled: asyncio.Task[object] | None = None
        self._upstream = _Upstream(self)
        self._client_full = self._server_full = self._told_client = self._told_server = False
        self._answers_wait = False  # the session's own, which no server holds back
        self._reads_client = True
        self._resets = False  # both are ended so
        self.session = session
        self.client: asyncio.Transport | None = None
        self.server: asyncio.Transport | None = None
        self.active = self._loop.time()

    # --- the client -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.client = cast(asyncio.Transport, transport)
        self.client.set_write_buffer_limits(_HIGH_WATER)
        _at_its_close(transport, _RESET)

    def data_received(self, data: bytes) -> None:
        self.active = self._loop.time()
        session = self.session
        session.from_client(data)
        if session.becomes is not None:
            self.session = session = session.becomes
        if self._client_full and session.to_client:
            self._answers_wait = True
        self.flush()

    def eof_received(self) -> bool:
        self.session.client_ended()
        self.flush()
        return True  # what was asked may still be answered

    def pause_writing(self) -> None:
        self._client_full = True
        if self.server is not None:
            self.server.pause_reading()

    def resume_writing(self) -> None:
        self._client_full = self._answers_wait = False
        if self.server is not None:
            self.server.resume_reading()
        self.flush()

    def connection_lost(self, error: Exception | None) -> None:
        self._ends(self.client, error)
        self.client = None
        self._lost(error)

    # --- both -----------------------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what the session says, and read on or not."""
        session, server, client = self.session, self.server, self.client
        if session.to_server:
            if server is not None:
                server.write(_taken(session.to_server))
            else:
                self.dial()
        if session.to_client and client is not None:
            client.write(_taken(session.to_client))
        if session.is_over:
            self.reset() if session.is_broken else self.close()
            return
        if session.ends_server and server is not None and not self._told_server:
            self._told_server = True
            server.write_eof()
        if client is not None:
            if session.ends_client and not self._told_client:
                self._told_client = True
                client.write_eof()
            reads = (
                session.waits_for_client
                and not (self._server_full or self._answers_wait)
                and (server is not None or not session.to_server)
            )
            if reads is not self._reads_client:
                self._reads_client = reads
                client.resume_reading() if reads else client.pause_reading()

    def dial(self) -> None:
        """Call the server before the client has said anything: it may be the server that speaks first."""
        if self._dialled is None:
            self._dialled = self._loop.create_task(self._call())

    async def _call(self) -> None:
        try:
            await self._dial(lambda: self._upstream)
        except OSError as error:
            if self.client is not None:
                self.session.failed(f"the server cannot be reached: {_reason(error)}")
                self.flush()

    def server_full(self, full: bool) -> None:
        self._server_full = full
        self.flush()

    def close(self) -> None:
        """End both when what waits has been sent."""
        for side in (self.client, self.server):
            if side is not None:
                side.close()

    def _ends(self, side: asyncio.Transport | None, error: Exception | None) -> None:
        """One is about to be closed, and all that was for it has been handed to the kernel, unless there was an
        error."""
        if side is not None and error is None and not self._resets:
            _at_its_close(side, _IN_ORDER)

    def reset(self) -> None:
        """End both at once, so that neither takes it for the end of what it was to get."""
        self._resets = True
        for side in (self.client, self.server):
            if side is not None:
                reset(side)

    def _lost(self, error: Exception | None) -> None:
        """One side is gone, and so the other must go: after what waits for it, or at once where bytes are missing."""
        if error is not None and not self.session.is_over:
            self.reset()
        else:
            self.close()
        if self.client is None:
            self.session.lost("the client went away")
        if self.client is None and self._dialled is not None and self.server is None:
            self._dialled.cancel()
        if self.client is None and self.server is None:
            self._ended(self)

    # --- the server, told by _Upstream ----------------------------------------------------------------------------

    def server_made(self, transport: asyncio.Transport) -> None:
        if self.client is None:  # whatever it sent, the server must not take nothing for all of it
            reset(transport)
            return
        self.server = transport
        transport.set_write_buffer_limits(_HIGH_WATER)
        _at_its_close(transport, _RESET)
        self.flush()

    def server_lost(self, error: Exception | None) -> None:
        self._ends(self.server, error)
        self.server = None
        if not self.session.is_over:
            if error is None:
                self.session.server_ended()
            else:
                self.session.failed(f"the server is lost: {_reason(error)}")
            self.flush()
        self._lost(error)


class _Upstream:
    """The server's side."""

    __slots__ = ("_link",)

    def __init__(self, link: Link) -> None:
        self._link = link

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._link.server_made(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        link = self._link
        link.active = link._loop.time()
        link.session.from_server(data)
        link.flush()

    def eof_received(self) -> bool:
        link = self._link
        link.session.server_ended()
        link.flush()
        return True

    def pause_writing(self) -> None:
        self._link.server_full(True)

    def resume_writing(self) -> None:
        self._link.server_full(False)

    def connection_lost(self, error: Exception | None) -> None:
        self._link.server_lost(error)


def _taken(parts: list[bytes]) -> bytes:
    """Return what is to be sent, taken out before it is: a transport that is full says so, and calls flush() again."""
    whole = parts[0] if len(parts) == 1 else b"".join(parts)
    parts.clear()
    return whole


def _reason(error: Exception) -> str:
    """Say what went wrong in the system's words: the event loop's own may name the address in place of it."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def reset(transport: asyncio.WriteTransport) -> None:
    """Close a connection so that its peer gets a reset."""
    _at_its_close(transport, _RESET)
    transport.abort()


def ends_by_reset(sock: socket.socket) -> None:
    """Have a socket's peer get a reset when it is closed."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _at_its_close(transport: asyncio.BaseTransport, how: bytes) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:  # a stream between nodes has none
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, how)
