"""One client's connection and the one to its server, as bytes in and bytes out (HTTP/2 with prior knowledge).

A request that is let through goes on as it came, and so does nearly all else; of one that is not, the server sees
nothing. For that, header blocks must stand alone. Both sides are told that the other keeps no table for what they send
(settings.py). The client hears of it late: what it sends before it has given up its table is read with one and written
anew. The server hears of it before the first request, so its blocks never lean on a table.

    session.from_client(data)         # then send what to_server and to_client say, and clear them
    session.from_server(data)
"""

import time
from collections.abc import Callable

from l7proxy.http2 import answer, fields, frames, hpack, request, settings
from l7proxy.http2.exchange import Exchange, Stream, Verdict
from l7proxy.http2.fields import Fields, Known, Malformed
from l7proxy.http2.frames import ACK, END_STREAM, HIGHEST, PADDED, Broken, Code
from l7proxy.http2.hpack import TooLarge
from l7proxy.http2.limits import MAX_DEAF, MAX_EARLY, MAX_IDLE, MAX_RESETS, MAX_STREAMS, Budget
from l7proxy.http2.refusal import GRPC_STATUS, Refusal, frames_of
from l7proxy.http2.request import Request
from l7proxy.http2.side import Handler, Side, check_goaway, check_ping, check_priority, check_size, check_window

_GOES_ON = "a client goes on with what it had ended"


class Session:
    """`judge`: asked once for each request; `tell`: told of each exchange when it is over.

    `to_server`, `to_client`: what is to be sent. `waits_for_client`: more may be read from it.
    `is_over`: nothing more comes, close both when all is sent.
    """

    __slots__ = (
        "_accepts", "_client", "_deaf", "_decoder", "_early", "_has_preface", "_idle", "_judge", "_last",
        "_owes_update", "_preface", "_reader", "_resets", "_server", "_streams", "_tell", "is_over", "to_client",
        "to_server",
    )  # fmt: skip

    def __init__(self, judge: Callable[[Request], Verdict], tell: Callable[[Exchange], None]) -> None:
        self._judge, self._tell = judge, tell
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []
        self.is_over = False
        self._client = Side(self.to_server, _FROM_CLIENT, Session._client_block)
        self._server = Side(self.to_client, _FROM_SERVER, Session._server_block)
        self._preface, self._has_preface = b"", False
        self._decoder: hpack.Decoder | None = hpack.Decoder()  # None: the client keeps no table any more
        self._reader = request.Reader()
        self._owes_update = False  # to the server, which may wait for the client to give up its table
        self._streams: dict[int, Stream] = {}  # let through and not over
        self._deaf: dict[int, None] = {}  # not over for the client, but what it sends goes nowhere
        self._last = 0  # stream that the client has opened
        self._accepts = HIGHEST  # the last one that will be served
        self._early: list[bytes] = []  # ours to the client, which must hear the server's SETTINGS first
        self._resets = Budget(MAX_RESETS, "streams were reset")
        self._idle = Budget(MAX_IDLE, "frames came that lead nowhere")

    @property
    def waits_for_client(self) -> bool:
        return not self.is_over and len(self._early) <= MAX_EARLY

    @property
    def is_idle(self) -> bool:
        """Whether no request is under way."""
        return not self._streams

    def drain(self) -> None:
        """Take no more requests; it is over when those under way are."""
        if not self.is_over:
            self._accepts = min(self._accepts, self._last)
            self._say(frames.goaway(self._accepts, Code.NO_ERROR))
            self._end_if_drained()

    # --- both sides -----------------------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> None:
        if self.is_over:
            return
        try:
            if self._has_preface:
                self._client.take(self, data)
            else:
                self._take_preface(data)
        except Broken as error:
            self._break(error.code, str(error))

    def from_server(self, data: bytes) -> None:
        if self.is_over:
            return
        try:
            self._server.take(self, data)
        except Broken as error:
            if error.code == Code.ENHANCE_YOUR_CALM:
                self._break(error.code, str(error))
            else:
                self._lose_server(str(error))

    def _ping(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        check_ping(stream, end - at)
        return None

    def _priority(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        check_priority(stream, end - at)
        return None if stream in self._streams else b""  # RFC 9113, 5.3.2: nobody needs it

    def _other(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        return None if not stream or stream in self._streams else b""

    def _push(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        raise Broken(Code.PROTOCOL_ERROR, "somebody pushes whom nobody asked to")

    # --- from the client ------------------------------------------------------------------------------------------

    def _take_preface(self, data: bytes) -> None:
        size = len(frames.PREFACE)
        self._preface += data
        if not frames.PREFACE.startswith(self._preface[:size]):
            raise Broken(Code.PROTOCOL_ERROR, "the first bytes are not those of HTTP/2")
        if len(self._preface) >= size:
            rest, self._preface, self._has_preface = self._preface[size:], b"", True
            self.to_server.append(frames.PREFACE)
            self._client.take(self, rest)

    def _client_ping(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        self._idle.spend()
        return self._ping(flags, stream, data, at, end)

    def _client_priority(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        self._idle.spend()
        return self._priority(flags, stream, data, at, end)

    def _client_other(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        self._idle.spend()
        return self._other(flags, stream, data, at, end)

    def _client_block(self, stream: int, flags: int, block: bytes) -> bytes | None:
        if not stream & 1:
            raise Broken(Code.PROTOCOL_ERROR, "a client's stream has an even number")
        if stream <= self._last:
            return self._trailers(stream, flags, block)
        self._last = stream
        began, ends, kept_table = time.monotonic_ns(), bool(flags & END_STREAM), self._decoder is not None
        asked: Request | None = None
        try:
            asked = request.of(self._decode(block)) if kept_table else self._reader.read(block)
            if ends and asked.length:
                raise Malformed("a request has no body but a content-length")
        except TooLarge as error:
            return self._refuse(Refusal.TOO_LARGE, stream, asked, began, ends, str(error))
        except Malformed as error:
            return self._refuse(Refusal.BAD_REQUEST, stream, asked, began, ends, str(error))
        if stream > self._accepts:
            # It may try again elsewhere: it has been told that this one is not served.
            return self._drop(stream, asked, began, ends, "the connection takes no more requests")
        if len(self._streams) >= MAX_STREAMS:
            if self._server.greeted and not self._server.unacked:
                raise Broken(Code.ENHANCE_YOUR_CALM, f"there are more than {MAX_STREAMS} streams at once")
            self._say(frames.rst_stream(stream, Code.REFUSED_STREAM))  # it may not have heard of the bound yet
            return self._drop(stream, asked, began, ends, "there are too many streams at once")
        verdict = self._judge(asked)
        if not verdict.allowed:
            return self._refuse(Refusal.FORBIDDEN, stream, asked, began, ends, "")
        self._streams[stream] = Stream(asked, began, ends)
        if kept_table or verdict.fields is not None:
            going = asked.fields if verdict.fields is None else verdict.fields
            return self._anew(stream, (*asked.pseudo, *going), ends)
        return self._as_it_came(stream, block, ends) if self._owes_update else None

    def _decode(self, block: bytes) -> list[Known]:
        decoder = self._decoder
        assert decoder is not None
        try:
            found = decoder.decode(block)
        finally:
            if decoder.limit == decoder.size == 0:
                self._decoder = None
        return [fields.known(each) for each in found]

    def _anew(self, stream: int, going: Fields, ends: bool) -> bytes:
        self._owes_update = False
        return frames.headers(stream, hpack.encode(going), ends)

    def _as_it_came(self, stream: int, block: bytes, ends: bool) -> bytes | None:
        """Let a block go on, but see that the first one since the client agreed to no table says so."""
        self._owes_update = False
        return None if block.startswith(hpack.TO_NO_TABLE) else frames.headers(stream, hpack.TO_NO_TABLE + block, ends)

    def _trailers(self, stream: int, flags: int, block: bytes) -> bytes | None:
        opened = self._streams.get(stream)
        if opened and opened.asked:
            raise Broken(Code.STREAM_CLOSED, _GOES_ON)
        kept_table = self._decoder is not None
        try:
            found = self._decode(block) if kept_table else fields.walk(block)
            if not flags & END_STREAM:
                raise Malformed("the trailers are not the end")
            fields.check_trailers(found)
        except (Malformed, TooLarge) as error:
            if opened:  # the server is in the middle of it: there is no way back for this stream alone
                raise Broken(Code.PROTOCOL_ERROR, str(error)) from None
        if opened is None:
            self._idle.spend()
            return self._unheard(stream, flags, 0)
        self._asked(stream, opened, 0, ends=True)
        if kept_table:
            return self._anew(stream, tuple(field for field, _ in found), ends=True)
        return self._as_it_came(stream, block, ends=True) if self._owes_update else None

    def _client_data(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        size = body = end - at
        if flags & PADDED:
            body -= 1 + (data[at] if size else 0)
            if body < 0:
                raise Broken(Code.PROTOCOL_ERROR, "a frame's padding is longer than the frame")
        if not body and not flags & END_STREAM:
            self._idle.spend()
        elif self._idle.spent:
            self._idle.earn(1)
        opened = self._streams.get(stream)
        if opened is None:
            return self._unheard(stream, flags, size)
        self._asked(stream, opened, body, bool(flags & END_STREAM))
        return None

    def _asked(self, stream: int, opened: Stream, body: int, ends: bool) -> None:
        """Count so much more of a request's body."""
        if opened.asked:
            raise Broken(Code.STREAM_CLOSED, _GOES_ON)
        if opened.left is not None:
            opened.left -= body
            if opened.left < 0 or (ends and opened.left):
                raise Broken(Code.PROTOCOL_ERROR, "a body is not as long as its content-length")
        if ends:
            opened.asked = True
            if opened.answered:
                self._close(stream)

    def _unheard(self, stream: int, flags: int, size: int) -> bytes:
        """Let nothing of it through, but give back the window that it used (RFC 9113, 6.9)."""
        if stream not in self._deaf:
            is_known = 0 < stream <= self._last and stream & 1
            raise Broken(Code.STREAM_CLOSED if is_known else Code.PROTOCOL_ERROR, "a frame is of no open stream")
        if flags & END_STREAM:
            del self._deaf[stream]
        if size:
            self._say(frames.window_update(0, size))
        return b""

    def _client_reset(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        check_size(end - at, 4)
        self._check_known(stream)
        opened = self._streams.get(stream)
        if opened is None:
            if stream in self._deaf:
                del self._deaf[stream]
            else:
                self._idle.spend()
            return b""
        if not opened.answered:
            self._resets.spend()
            self._told(opened, "the client reset the stream")
        self._close(stream)
        return None

    def _client_settings(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        if flags & ACK:
            self._server.take_ack(stream, end - at)
            self._owes_update = True
            if self._decoder:
                self._decoder.limit = 0
            return None
        self._idle.spend()
        self._client.greet(stream)
        return settings.for_server(data[at:end])

    def _client_goaway(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        self._idle.spend()
        check_goaway(stream, end - at)
        return None

    def _client_window(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        self._idle.spend()
        check_window(data[at:end])
        if not stream:
            return None
        self._check_known(stream)
        return None if stream in self._streams else b""

    def client_ended(self) -> None:
        """The client will send no more, and hear no more either."""
        if not self.is_over:
            self._end("the client went away")

    # --- from the server ------------------------------------------------------------------------------------------

    def _server_block(self, stream: int, flags: int, block: bytes) -> bytes | None:
        try:
            said = answer.read(block)
        except (Malformed, TooLarge) as error:
            raise Broken(Code.PROTOCOL_ERROR, str(error)) from None
        opened, ends = self._streams.get(stream), flags & END_STREAM
        if opened is None:
            self._check_known(stream)  # the client has reset it, and must expect that
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
            self._answered(stream, opened)
        return None

    def _server_data(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        if self._idle.spent:
            self._idle.earn(2)  # the client gives back two windows
        opened = self._streams.get(stream)
        if opened is None:
            self._check_known(stream)
            return None
        if not opened.status or opened.answered:
            raise Broken(Code.PROTOCOL_ERROR, "the server sends a body before its head, or after its end")
        if flags & END_STREAM:
            self._answered(stream, opened)
        return None

    def _answered(self, stream: int, opened: Stream) -> None:
        opened.answered = True
        self._told(opened)
        if self._resets.spent:
            self._resets.earn(1)
        if opened.asked:
            self._close(stream)

    def _server_reset(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        check_size(end - at, 4)
        self._check_known(stream)
        opened = self._streams.get(stream)
        if opened is None:
            return None
        code = int.from_bytes(data[at:end], "big")
        if not opened.answered:
            self._told(opened, f"the server reset the stream ({code})")
        if not opened.asked:
            self._deafen(stream)
        self._close(stream)
        if code in _CLIENTS_FAULT:  # it can make a server do that as often as it likes
            self._resets.spend()
        return None

    def _server_settings(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        if flags & ACK:
            self._client.take_ack(stream, end - at)
            return None
        said = settings.for_client(data[at:end], is_first=not self._server.greeted)
        self._server.greet(stream)
        if self._early:
            said += b"".join(self._early)
            self._early.clear()
        return said

    def _server_goaway(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        check_goaway(stream, end - at)
        last = int.from_bytes(data[at : at + 4], "big") & HIGHEST
        self._accepts = min(self._accepts, last)
        for number in [number for number in self._streams if number > self._accepts]:
            opened = self._streams.pop(number)
            if not opened.answered:
                self._told(opened, "the server takes no more requests")
            if not opened.asked:
                self._deafen(number)
        self._end_if_drained()
        code = int.from_bytes(data[at + 4 : at + 8], "big")
        return None if last == self._accepts else frames.goaway(self._accepts, code, data[at + 8 : end])

    def _server_window(self, flags: int, stream: int, data: bytes, at: int, end: int) -> bytes | None:
        check_window(data[at:end])
        return None if not stream or stream in self._streams else b""

    def server_ended(self) -> None:
        """The server will send no more."""
        if not self.is_over:
            self._lose_server("the server closed the connection")

    # --- how things end -------------------------------------------------------------------------------------------

    def _refuse(self, refusal: Refusal, stream: int, asked: Request | None, began: int, ends: bool, why: str) -> bytes:
        """Answer in the server's place; of the request nothing goes on."""
        is_grpc = asked is not None and asked.is_grpc
        self._say(frames_of(refusal, stream, is_grpc, ends))
        if not ends:
            self._deafen(stream)
        status, grpc_status = (200, GRPC_STATUS[refusal]) if is_grpc else (int(refusal), None)
        self._tell(Exchange(asked, status, False, began, time.monotonic_ns(), why, grpc_status))
        return b""

    def _drop(self, stream: int, asked: Request, began: int, ends: bool, why: str) -> bytes:
        if not ends:
            self._deafen(stream)
        self._tell(Exchange(asked, 0, False, began, time.monotonic_ns(), why))
        return b""

    def _deafen(self, stream: int) -> None:
        self._deaf[stream] = None
        if len(self._deaf) > MAX_DEAF:
            del self._deaf[next(iter(self._deaf))]

    def _say(self, said: bytes) -> None:
        (self.to_client if self._server.greeted else self._early).append(said)

    def _told(self, opened: Stream, why: str = "") -> None:
        self._tell(
            Exchange(opened.request, opened.status, True, opened.began, time.monotonic_ns(), why, opened.grpc_status)
        )

    def _close(self, stream: int) -> None:
        del self._streams[stream]
        if self._accepts < HIGHEST:
            self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self._accepts < HIGHEST and not self._streams:
            self._end("")

    def _break(self, code: Code, why: str) -> None:
        """The client has done what nobody may: all its requests end."""
        self._say(frames.goaway(min(self._last, self._accepts), code, why.encode()))
        now = time.monotonic_ns()
        self._tell(Exchange(None, 0, False, now, now, why))
        self._end(why)

    def _lose_server(self, why: str) -> None:
        """Answer in the server's place what it has not begun to answer, and let the client go."""
        for stream, opened in self._streams.items():
            if opened.answered:
                continue
            if opened.status:
                self._say(frames.rst_stream(stream, Code.INTERNAL_ERROR))
                continue
            self._say(frames_of(Refusal.BAD_GATEWAY, stream, opened.request.is_grpc, opened.asked))
            opened.status = 200 if opened.request.is_grpc else int(Refusal.BAD_GATEWAY)
            opened.grpc_status = GRPC_STATUS[Refusal.BAD_GATEWAY] if opened.request.is_grpc else None
        self._say(frames.goaway(min(self._last, self._accepts), Code.NO_ERROR))
        self._end(why)

    def _end(self, why: str) -> None:
        self.is_over = True
        if not self._server.greeted and self._early:
            self.to_client += (frames.settings({}), *self._early)
            self._early.clear()
        for opened in self._streams.values():
            if not opened.answered:
                self._told(opened, why)
        self._streams.clear()

    def _check_known(self, stream: int) -> None:
        if not 0 < stream <= self._last or not stream & 1:
            raise Broken(Code.PROTOCOL_ERROR, "a frame is of a stream that nobody has opened")


_CLIENTS_FAULT = (Code.PROTOCOL_ERROR, Code.FLOW_CONTROL_ERROR, Code.STREAM_CLOSED, Code.FRAME_SIZE_ERROR)

# In the order of the frames' types; the last one is for types that nobody knows (RFC 9113, 5.5).
_FROM_CLIENT: tuple[Handler | None, ...] = (
    Session._client_data,
    None,
    Session._client_priority,
    Session._client_reset,
    Session._client_settings,
    Session._push,
    Session._client_ping,
    Session._client_goaway,
    Session._client_window,
    None,
    Session._client_other,
)
_FROM_SERVER: tuple[Handler | None, ...] = (
    Session._server_data,
    None,
    Session._priority,
    Session._server_reset,
    Session._server_settings,
    Session._push,
    Session._ping,
    Session._server_goaway,
    Session._server_window,
    None,
    Session._other,
)
