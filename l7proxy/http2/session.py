"""One client's connection and the one to its server, as bytes in and bytes out (HTTP/2 with prior knowledge).

A request that is let through goes on as it came, and so does nearly all else; of one that is not, the server sees
nothing. For that, header blocks must stand alone. Both sides are told that the other keeps no table for what they send
(settings.py). The client hears of it late: what it sends before it has given up its table is read with one and written
anew. The server hears of it before the first request, so its blocks never lean on a table.

    session.from_client(data)         # then send what to_server and to_client say, and clear them
    session.from_server(data)
"""

from collections.abc import Callable

from l7proxy.exchange import Exchange
from l7proxy.http2 import client, frames, hpack, server
from l7proxy.http2.connection import Connection
from l7proxy.http2.exchange import Verdict
from l7proxy.http2.frames import Broken, Code
from l7proxy.http2.limits import MAX_EARLY
from l7proxy.http2.request import Request
from l7proxy.http2.side import Side
from l7proxy.refusal import Refusal


class Session(Connection):
    """`most`: bytes of a request's head; `waits_for_client`: more may be read; for the rest see Connection.

    Frames say what is whole, so neither side has to be told by a reset (`is_broken`), and neither is of use to the
    other when it has ended (`ends_client`, `ends_server`).
    """

    __slots__ = ("_has_preface", "_preface", "_unreachable")

    is_broken = False
    ends_client = False
    ends_server = False
    becomes = None  # nothing else: see http.Session

    def __init__(
        self, judge: Callable[[Request], Verdict], tell: Callable[[Exchange], None], most: int = hpack.MAX_LIST
    ) -> None:
        from_client = Side(client.HANDLERS, client.take_block, most)
        from_server = Side(server.HANDLERS, server.take_block)
        super().__init__(from_client, from_server, judge, tell, most)
        self._preface, self._has_preface = b"", False
        self._unreachable = ""  # why the server is

    @property
    def waits_for_client(self) -> bool:
        return not self.is_over and len(self.early) <= MAX_EARLY

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return not self.streams

    @property
    def waits_for_head(self) -> bool:
        """Whether a request has begun of which the head is not whole, as far as anybody can tell: no other is open."""
        return not self._has_preface or (self.client.is_within and not self.streams)

    def cut(self, why: str) -> None:
        """End it, for the client takes too long or has no right to go on."""
        if not self.is_over:
            self.break_off(Code.ENHANCE_YOUR_CALM, why)

    def drain(self) -> None:
        """Take no more requests; it is over when those under way are."""
        if not self.is_over and self.accepts == frames.HIGHEST:
            self.accepts = min(self.accepts, self.last)
            self.say(frames.goaway(self.accepts, Code.NO_ERROR))
            self.end_if_drained()

    def from_client(self, data: bytes) -> None:
        if self.is_over:
            return
        try:
            if self._has_preface:
                self.client.take(self, data)
            else:
                self._take_preface(data)
        except Broken as error:
            self.break_off(error.code, str(error))
        if self._unreachable:
            self.failed(self._unreachable)

    def _take_preface(self, data: bytes) -> None:
        size = len(frames.PREFACE)
        self._preface += data
        if not frames.PREFACE.startswith(self._preface[:size]):
            raise Broken(Code.PROTOCOL_ERROR, "the first bytes are not those of HTTP/2")
        if len(self._preface) >= size:
            rest, self._preface, self._has_preface = self._preface[size:], b"", True
            self.to_server.append(frames.PREFACE)
            self.client.take(self, rest)

    def from_server(self, data: bytes) -> None:
        if self.is_over:
            return
        try:
            self.server.take(self, data)
        except Broken as error:
            if error.code == Code.ENHANCE_YOUR_CALM:
                self.break_off(error.code, str(error))
            else:
                self.lose_server(str(error))

    def client_ended(self) -> None:
        """The client will send no more, and hear no more either."""
        self.lost("the client went away")

    def lost(self, why: str) -> None:
        """The client is gone: what was under way is told of."""
        if not self.is_over:
            self.end(why)

    def server_ended(self) -> None:
        """The server will send no more."""
        if not self.is_over:
            self.lose_server("the server closed the connection")

    def failed(self, why: str) -> None:
        """The server cannot be reached, or is lost before its time."""
        self.to_server.clear()
        if self.is_over:
            return
        if self.last or (self.server.greeted and not self._unreachable):
            self.lose_server(why, Refusal.UNAVAILABLE)
        elif not self._unreachable:
            # Only who has asked can be answered, and some ask when they have heard the server's first word.
            self._unreachable = why
            self.greet()
