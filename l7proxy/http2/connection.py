"""What one connection of HTTP/2 is in the middle of: its streams, what was said in the server's place, and how it ends.

What the client says changes it in client.py, what the server says in server.py; session.py is what others see of it.
"""

import time
from collections.abc import Callable

from l7proxy.exchange import Exchange, Span
from l7proxy.http2 import frames, hpack, request
from l7proxy.http2.exchange import Stream, Verdict
from l7proxy.http2.frames import END_STREAM, HIGHEST, Broken, Code
from l7proxy.http2.limits import MAX_DEAF, MAX_IDLE, MAX_RESETS, Budget
from l7proxy.http2.refusal import GRPC_STATUS, cut_off, frames_of
from l7proxy.http2.request import Request
from l7proxy.http2.side import Side
from l7proxy.refusal import Refusal

_PROTOCOL = "HTTP/2"


class Connection:
    """`judge`: asked once for each request; `tell`: told of each exchange when it is over; `most`: bytes of a
    request's fields.

    `to_server`, `to_client`: what is to be sent. `is_over`: nothing more comes, close both when all is sent.
    """

    __slots__ = (
        "accepts", "client", "deaf", "decoder", "early", "fruitless", "is_over", "judge", "last", "owes_update",
        "reader", "resets", "server", "streams", "tell", "to_client", "to_server",
    )  # fmt: skip

    def __init__(
        self,
        client: Side,
        server: Side,
        judge: Callable[[Request], Verdict],
        tell: Callable[[Exchange], None],
        most: int,
    ) -> None:
        self.client, self.server = client, server
        self.to_server, self.to_client = client.out, server.out
        self.judge, self.tell = judge, tell
        self.is_over = False
        self.decoder: hpack.Decoder | None = hpack.Decoder(most)  # None: the client keeps no table any more
        self.reader = request.Reader(most)
        self.owes_update = False  # to the server, which may wait for the client to give up its table
        self.streams: dict[int, Stream] = {}  # let through and not over
        self.deaf: dict[int, None] = {}  # not over for the client, but what it sends goes nowhere
        self.last = 0  # stream that the client has opened
        self.accepts = HIGHEST  # the last one that will be served
        self.early: list[bytes] = []  # ours to the client, which must hear the server's SETTINGS first
        self.resets = Budget(MAX_RESETS, "streams were reset")
        self.fruitless = Budget(MAX_IDLE, "frames came that lead nowhere")

    # --- streams --------------------------------------------------------------------------------------------------

    def count_body(self, stream: int, opened: Stream, body: int, ends: bool) -> None:
        """Count so much more of a request's body."""
        if opened.asked:
            raise Broken(Code.STREAM_CLOSED, "a client goes on with what it had ended")
        if opened.left is not None:
            opened.left -= body
            if opened.left < 0 or (ends and opened.left):
                raise Broken(Code.PROTOCOL_ERROR, "a body is not as long as its content-length")
        if ends:
            opened.asked = True
            if opened.answered:
                self.close(stream)

    def count_answer(self, stream: int, opened: Stream) -> None:
        """Take an answer for whole."""
        opened.answered = True
        self.told(opened)
        if self.resets.spent:
            self.resets.earn(1)
        if opened.asked:
            self.close(stream)

    def unheard(self, stream: int, flags: int, size: int) -> bytes:
        """Let nothing of it through, but give back the window that it used (RFC 9113, 6.9)."""
        if stream not in self.deaf:
            is_known = 0 < stream <= self.last and stream & 1
            raise Broken(Code.STREAM_CLOSED if is_known else Code.PROTOCOL_ERROR, "a frame is of no open stream")
        if flags & END_STREAM:
            del self.deaf[stream]
        if size:
            self.say(frames.window_update(0, size))
        return b""

    def check_known(self, stream: int) -> None:
        if not 0 < stream <= self.last or not stream & 1:
            raise Broken(Code.PROTOCOL_ERROR, "a frame is of a stream that nobody has opened")

    def close(self, stream: int) -> None:
        del self.streams[stream]
        if self.accepts < HIGHEST:
            self.end_if_drained()

    def deafen(self, stream: int) -> None:
        self.deaf[stream] = None
        if len(self.deaf) > MAX_DEAF:
            del self.deaf[next(iter(self.deaf))]

    # --- what is said in the server's place, and told --------------------------------------------------------------

    def refuse(
        self,
        refusal: Refusal,
        stream: int,
        asked: Request | None,
        began: int,
        ends: bool,
        why: str,
        told: tuple[bytes, ...] = (),
        span: Span | None = None,
    ) -> bytes:
        """Answer in the server's place; of the request nothing goes on."""
        is_grpc = asked is not None and asked.is_grpc
        self.say(frames_of(refusal, stream, is_grpc, ends))
        if not ends:
            self.deafen(stream)
        status, grpc_status = (200, GRPC_STATUS[refusal]) if is_grpc else (int(refusal), None)
        self.tell(Exchange(_PROTOCOL, asked, status, False, began, time.monotonic_ns(), why, grpc_status, told, span))
        return b""

    def drop(self, stream: int, asked: Request, began: int, ends: bool, why: str) -> bytes:
        if not ends:
            self.deafen(stream)
        self.tell(Exchange(_PROTOCOL, asked, 0, False, began, time.monotonic_ns(), why))
        return b""

    def say(self, said: bytes) -> None:
        (self.to_client if self.server.greeted else self.early).append(said)

    def greet(self) -> None:
        """Say the server's first word in its place."""
        self.server.greet(0)
        said = frames.settings({})
        if self.client.greeted:
            said += frames.frame(frames.SETTINGS, frames.ACK, 0, b"")
        self.to_client += (said, *self.early)
        self.early.clear()

    def told(self, opened: Stream, why: str = "") -> None:
        ended, asked, status, began = time.monotonic_ns(), opened.request, opened.status, opened.began
        grpc_status, told, span = opened.grpc_status, opened.told, opened.span
        self.tell(Exchange(_PROTOCOL, asked, status, True, began, ended, why, grpc_status, told, span))

    # --- how it ends ----------------------------------------------------------------------------------------------

    def end_if_drained(self) -> None:
        if self.accepts < HIGHEST and not self.streams:
            self.end("")

    def break_off(self, code: Code, why: str) -> None:
        """The client has done what nobody may: all its requests end."""
        self.say(frames.goaway(min(self.last, self.accepts), code, why.encode()))
        now = time.monotonic_ns()
        self.tell(Exchange(_PROTOCOL, None, 0, False, now, now, why))
        self.end(why)

    def lose_server(self, why: str, refusal: Refusal = Refusal.BAD_GATEWAY) -> None:
        """Answer in the server's place what it has not begun to answer, and let the client go."""
        for stream, opened in self.streams.items():
            if opened.answered:
                continue
            is_grpc = opened.request.is_grpc
            if opened.status:
                self.say(cut_off(stream, is_grpc, opened.asked))
            else:
                self.say(frames_of(refusal, stream, is_grpc, opened.asked))
                opened.status = 200 if is_grpc else int(refusal)
            opened.grpc_status = GRPC_STATUS[refusal] if is_grpc else None
        self.say(frames.goaway(min(self.last, self.accepts), Code.NO_ERROR))
        self.end(why)

    def end(self, why: str) -> None:
        self.is_over = True
        if not self.server.greeted and self.early:
            self.greet()
        for opened in self.streams.values():
            if not opened.answered:
                self.told(opened, why)
        self.streams.clear()
