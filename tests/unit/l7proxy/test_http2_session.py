"""Playbooks: what is sent to whom when a client and a server say this and that over HTTP/2."""

import hpack as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l7proxy.edge.link import Session as LinkSession
from l7proxy.exchange import Exchange
from l7proxy.http2 import frames, hpack, limits
from l7proxy.http2.exchange import Verdict
from l7proxy.http2.frames import DATA, HEADERS, PREFACE, Code, frame, goaway, rst_stream, window_update
from l7proxy.http2.request import Request
from l7proxy.http2.session import Session

ACK = frame(frames.SETTINGS, 1, 0, b"")
PING = frame(frames.PING, 0, 0, b"12345678")
HELLO = PREFACE + frames.settings({4: 1 << 20}) + window_update(0, 1000)
HELLO_ON = PREFACE + frames.settings({4: 1 << 20, 1: 0, 2: 0}) + window_update(0, 1000)
WELCOME = frames.settings({1: 4096, 3: 100, 5: 32768, 8: 1})
WELCOME_ON = frames.settings({1: 0, 3: 100})
END, ENDS_BLOCK = 1, 4


def written(*pairs: tuple[bytes, bytes]) -> bytes:
    """Return a block that leans on no table, in Huffman's code; unlike ours."""
    encoder = reference.Encoder()
    encoder.header_table_size = 0
    return encoder.encode(pairs)[1:]


def fields(path: str, *more: tuple[bytes, bytes]) -> tuple[tuple[bytes, bytes], ...]:
    return ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"a"), *more)


def ask(stream: int, path: str = "/open", flags: int = END, *more: tuple[bytes, bytes]) -> bytes:
    return frame(HEADERS, flags | ENDS_BLOCK, stream, written(*fields(path, *more)))


def said(stream: int, *pairs: tuple[bytes, bytes], ends: bool = True) -> bytes:
    """Return what we write ourselves."""
    return frames.headers(stream, hpack.encode(pairs), ends)


def answer(stream: int, status: bytes = b"200") -> bytes:
    head = frame(HEADERS, ENDS_BLOCK, stream, written((b":status", status), (b"server", b"s")))
    return head + frame(DATA, 0, stream, b"body") + frame(HEADERS, 5, stream, written((b"grpc-status", b"0")))


def forbidden(stream: int) -> bytes:
    return said(stream, (b":status", b"403"), (b"content-length", b"0"))


GRPC = (b"content-type", b"application/grpc")


class Stage:
    """A session whose policy lets /open through; `server` and `client` are what these got since the last look."""

    def __init__(self, most: int = hpack.MAX_LIST) -> None:
        self.told: list[Exchange] = []
        self.judged: list[str] = []
        self.server = self.client = b""
        self.session = Session(self._judge, self.told.append, most)

    def _judge(self, request: Request) -> Verdict:
        self.judged.append(request.path)
        mended = (*request.fields, (b"x-mended", b"yes")) if request.path.startswith("/open/mend") else None
        return Verdict(request.path.startswith("/open"), mended)

    def _sent(self) -> "Stage":
        self.server += b"".join(self.session.to_server)
        self.client += b"".join(self.session.to_client)
        self.session.to_server.clear()
        self.session.to_client.clear()
        return self

    def asks(self, *data: bytes) -> "Stage":
        self.session.from_client(b"".join(data))
        return self._sent()

    def answers(self, *data: bytes) -> "Stage":
        self.session.from_server(b"".join(data))
        return self._sent()

    def does(self, what: str, *why: str) -> "Stage":
        getattr(self.session, what)(*why)
        return self._sent()

    def seen(self) -> tuple[bytes, bytes]:
        """Return what server and client got, and forget it."""
        found = (self.server, self.client)
        self.server = self.client = b""
        return found

    def outcomes(self) -> list[tuple[int, bool, int | None]]:
        return [(each.status, each.allowed, each.grpc_status) for each in self.told]


def met(most: int = hpack.MAX_LIST) -> Stage:
    """Return a stage on which both sides have greeted each other, and the client has given up its table."""
    stage = Stage(most).asks(HELLO).answers(WELCOME, ACK).asks(ACK)
    stage.asks(frame(HEADERS, 5, 1, b"\x20" + written(*fields("/shut"))))
    stage.seen()
    stage.told.clear()
    stage.judged.clear()
    return stage


def after_update(stage: Stage) -> Stage:
    """Let one request through, so that nothing more is owed to the server."""
    stage.asks(ask(3)).answers(answer(3)).seen()
    stage.told.clear()
    stage.judged.clear()
    return stage


def test_the_greetings() -> None:
    stage = Stage().asks(HELLO).answers(WELCOME)
    assert stage.seen() == (HELLO_ON, WELCOME_ON)
    stage.asks(ACK).answers(ACK)
    assert stage.seen() == (ACK, ACK) and stage.session.is_idle and not stage.told


def test_no_extension_is_agreed_on_that_nobody_here_knows() -> None:
    """Such as gRPC's metadata of any bytes, 0xfe03: no other reader takes it for a field."""
    known, unknown = {4: 1 << 20, 6: 1 << 14, 9: 1}, {8: 1, 0xFE03: 1, 0x0A0A: 7}
    stage = Stage().asks(PREFACE, frames.settings(known | unknown)).answers(frames.settings(known | unknown))
    assert stage.seen() == (
        PREFACE + frames.settings(known | {1: 0, 2: 0}),
        frames.settings(known | {1: 0, 3: limits.MAX_STREAMS}),
    )


def test_what_is_allowed_goes_on_as_it_came() -> None:
    stage = after_update(met())
    upload = ask(5, "/open/2", 0) + frame(DATA, 8, 5, b"\x03abc\0\0\0") + frame(HEADERS, 5, 5, written((b"t", b"x")))
    stage.asks(upload).answers(answer(5))
    assert stage.seen() == (upload, answer(5))
    assert stage.outcomes() == [(200, True, 0)] and stage.session.is_idle


def test_the_first_block_gives_up_the_table_even_if_the_one_that_did_was_dropped() -> None:
    stage = met().asks(ask(3), ask(5))
    block = b"\x20" + written(*fields("/open"))
    assert stage.seen() == (frame(HEADERS, 5, 3, block) + ask(5), b"")


def test_requests_that_lean_on_a_table_are_written_anew() -> None:
    encoder = reference.Encoder()
    stage = Stage().asks(HELLO).answers(WELCOME)
    stage.seen()
    pairs = [fields(path, (b"x", b"long enough to be kept")) for path in ("/shut", "/open", "/open")]
    for number, each in enumerate(pairs):
        stage.asks(frame(HEADERS, 5, 2 * number + 1, encoder.encode(each)))
    assert stage.seen() == (said(3, *pairs[1]) + said(5, *pairs[2]), forbidden(1))
    stage.asks(ACK)
    encoder.header_table_size = 0
    stage.asks(frame(HEADERS, 5, 7, encoder.encode(pairs[1])), ask(9))
    assert stage.seen() == (ACK + said(7, *pairs[1]) + ask(9), b"")


def test_a_client_that_keeps_its_table_after_it_agreed_not_to() -> None:
    stage = Stage().asks(HELLO).answers(WELCOME).asks(ACK)
    stage.seen()
    stage.asks(ask(1))
    why = "a table was not made smaller as was agreed on"
    assert stage.seen() == (b"", goaway(1, Code.COMPRESSION_ERROR, why.encode()))
    assert stage.session.is_over and [each.why for each in stage.told] == [why]


def test_a_refusal_and_the_connection_lives_on() -> None:
    stage = after_update(met()).asks(ask(5, "/shut"), ask(7), ask(9, "/shut", END, GRPC)).answers(answer(7))
    grpc = ((b":status", b"200"), GRPC, (b"grpc-status", b"7"), (b"grpc-message", b"Access denied"))
    assert stage.seen() == (ask(7), forbidden(5) + said(9, *grpc) + answer(7))
    assert stage.outcomes() == [(403, False, None), (200, False, 7), (200, True, 0)]


def test_what_follows_a_refused_head_goes_nowhere_and_its_window_is_given_back() -> None:
    stage = after_update(met())
    follow = frame(DATA, 8, 5, b"\x02abc\0\0") + window_update(5, 9) + frame(DATA, 0, 5, b"")
    follow += frame(frames.PRIORITY, 0, 5, b"\0" * 5)
    last = frame(HEADERS, 5, 5, written((b"t", b"x")))
    stage.asks(ask(5, "/shut", 0), follow, ask(7, "/open", 0), frame(77, 0, 5, b"?"), last, rst_stream(5, Code.CANCEL))
    assert stage.seen() == (ask(7, "/open", 0), forbidden(5) + rst_stream(5, Code.NO_ERROR) + window_update(0, 6))
    stage.asks(frame(DATA, 1, 5, b"x"))
    assert b"of no open stream" in stage.seen()[1] and stage.session.is_over


def test_a_block_in_many_frames_is_judged_as_one() -> None:
    stage = after_update(met())
    for path, stream in (("/open", 5), ("/shut", 7)):
        block = written(*fields(path))
        cut = [
            frame(HEADERS, END | 0x28, stream, b"\x02\0\0\0\0\x10" + block[:3] + b"\0\0"),
            frame(frames.CONTINUATION, 0, stream, b""),
            frame(frames.CONTINUATION, ENDS_BLOCK, stream, block[3:]),
        ]
        stage.asks(*cut[:2])
        assert stage.seen() == (b"", b"")
        stage.asks(cut[2])
        assert stage.seen() == ((b"".join(cut), b"") if stream == 5 else (b"", forbidden(7)))


def test_a_rule_that_mends_headers() -> None:
    stage = after_update(met()).asks(ask(5, "/open/mend", 0))
    assert stage.seen()[0] == said(5, *fields("/open/mend"), (b"x-mended", b"yes"), ends=False)


def test_a_client_must_hear_the_server_before_it_hears_us() -> None:
    stage = Stage().asks(HELLO, frame(HEADERS, 5, 1, reference.Encoder().encode(fields("/shut"))))
    assert stage.seen() == (HELLO_ON, b"")
    assert stage.answers(WELCOME).seen() == (b"", WELCOME_ON + forbidden(1))


def test_a_client_waits_when_the_server_says_nothing_and_much_is_refused() -> None:
    stage, encoder = Stage().asks(HELLO), reference.Encoder()
    for number in range(limits.MAX_EARLY + 1):
        assert stage.session.waits_for_client
        stage.asks(frame(HEADERS, 5, 2 * number + 1, encoder.encode(fields("/shut"))))
    assert not stage.session.waits_for_client and stage.client == b""
    assert stage.answers(WELCOME).session.waits_for_client
    assert stage.client.count(b"403") == limits.MAX_EARLY + 1


def test_a_client_that_is_gone() -> None:
    stage = after_update(met()).asks(ask(5), ask(7, "/open", 0)).answers(answer(7)).does("client_ended")
    assert [(each.status, each.why) for each in stage.told] == [(200, ""), (0, "the client went away")]
    assert stage.session.is_over and stage.does("client_ended").does("server_ended").does("drain").outcomes()[2:] == []


def test_a_reset_of_either_side_is_told_once() -> None:
    stage = after_update(met())
    stage.asks(ask(5), ask(7, "/open", 0), rst_stream(5, Code.CANCEL))
    stage.answers(rst_stream(7, Code.INTERNAL_ERROR), answer(5))
    stage.asks(frame(DATA, 0, 7, b"late"), window_update(5, 1))
    assert stage.seen() == (
        ask(5) + ask(7, "/open", 0) + rst_stream(5, Code.CANCEL),
        rst_stream(7, Code.INTERNAL_ERROR) + answer(5) + window_update(0, 4),
    )
    whys = [(0, "the client reset the stream"), (0, "the server reset the stream (2)")]
    assert [(each.status, each.why) for each in stage.told] == whys and stage.session.is_idle


def test_an_answer_before_the_request_is_whole() -> None:
    stage = after_update(met()).asks(ask(5, "/open", 0)).answers(answer(5))
    assert stage.outcomes() == [(200, True, 0)] and not stage.session.is_idle
    stage.asks(frame(DATA, 1, 5, b"rest"))
    assert stage.seen()[0] == ask(5, "/open", 0) + frame(DATA, 1, 5, b"rest") and stage.session.is_idle


def test_interim_answers() -> None:
    stage = after_update(met()).asks(ask(5))
    interim = frame(HEADERS, ENDS_BLOCK, 5, written((b":status", b"103")))
    stage.answers(interim, interim, answer(5, b"404"))
    assert stage.seen()[1] == interim * 2 + answer(5, b"404") and stage.outcomes() == [(404, True, 0)]


def test_what_else_passes() -> None:
    stage = after_update(met()).asks(ask(5))
    stage.seen()
    both = PING + frame(frames.PING, 1, 0, b"12345678") + frame(77, 3, 0, b"?") + window_update(0, 5) + goaway(0, 0)
    assert stage.asks(both, window_update(5, 1)).seen() == (both + window_update(5, 1), b"")
    assert stage.answers(PING, window_update(0, 5), window_update(5, 1)).seen()[1].startswith(PING)


def test_draining() -> None:
    stage = after_update(met()).asks(ask(5)).does("drain").asks(ask(7), ask(9, "/open", 0), frame(DATA, 1, 9, b"x"))
    assert stage.seen() == (ask(5), goaway(5, Code.NO_ERROR) + window_update(0, 1)) and not stage.session.is_over
    stage.answers(answer(5), PING)
    assert stage.seen() == (b"", answer(5)) and stage.session.is_over
    assert [(each.status, each.allowed) for each in stage.told] == [(0, False), (0, False), (200, True)]


def test_draining_twice_is_draining_once() -> None:
    stage = after_update(met()).asks(ask(5)).does("drain").does("drain")
    assert stage.seen() == (ask(5), goaway(5, Code.NO_ERROR))


def test_a_header_block_that_does_not_come_to_its_end_is_waited_for_and_cut_off() -> None:
    stage = after_update(met())
    assert not stage.session.waits_for_head
    stage.asks(ask(5)[:-1])
    assert stage.session.waits_for_head
    stage.session.cut("too slow")
    assert stage.session.is_over and stage.told[-1].why == "too slow"


def test_a_later_goaway_never_takes_more_than_an_earlier_one() -> None:
    stage = after_update(met()).asks(ask(5)).does("drain").answers(goaway(2**31 - 1, Code.NO_ERROR, b"soon"))
    assert stage.seen()[1] == goaway(5, Code.NO_ERROR) + goaway(5, Code.NO_ERROR, b"soon")
    assert stage.asks(ask(7)).judged == ["/open"] and not stage.session.is_over


def test_a_server_that_goes_away() -> None:
    stage = after_update(met()).asks(ask(5), ask(7)).answers(goaway(5, Code.NO_ERROR))
    stage.asks(ask(9)).answers(answer(5))
    assert stage.seen() == (ask(5) + ask(7), goaway(5, Code.NO_ERROR) + answer(5)) and stage.session.is_over
    assert [each.status for each in stage.told] == [0, 0, 200]


def test_a_server_that_is_lost() -> None:
    stage = after_update(met()).asks(ask(5), ask(7, "/open", 0, GRPC), ask(9)).answers(answer(9)[:30])
    stage.seen()
    stage.does("server_ended")
    assert stage.session.is_over and stage.outcomes()[:2] == [(502, True, None), (200, True, 14)]
    assert len(stage.told) == 3 and stage.client.startswith(said(5, (b":status", b"502"), (b"content-length", b"0")))
    stage.asks(ask(11)).answers(PING)
    assert stage.judged[-1] == "/open" and len(stage.told) == 3


def test_a_server_that_cannot_be_reached() -> None:
    encoder, stage = reference.Encoder(), Stage()
    asked = [fields("/open"), fields("/open", GRPC), fields("/shut"), fields("/open")]
    for number, (each, flags) in enumerate(zip(asked, (5, 5, 5, 4), strict=True)):
        stage.session.from_client(
            (b"" if number else HELLO) + frame(HEADERS, flags, 2 * number + 1, encoder.encode(each))
        )
    stage.does("failed", "nobody listens")
    unavailable = ((b":status", b"503"), (b"content-length", b"0"))
    grpc = ((b":status", b"200"), GRPC, (b"grpc-status", b"14"), (b"grpc-message", b"Service unavailable"))
    parts = (forbidden(5), said(1, *unavailable), said(3, *grpc), said(7, *unavailable), rst_stream(7, Code.NO_ERROR))
    assert stage.seen() == (b"", frames.settings({}) + ACK + b"".join(parts) + goaway(7, Code.NO_ERROR))
    assert stage.outcomes() == [(403, False, None), (503, True, None), (200, True, 14), (503, True, None)]
    assert [each.why for each in stage.told] == ["", *["nobody listens"] * 3] and stage.session.is_over
    assert stage.does("failed", "again").asks(ask(9)).seen() == (b"", b"")


def test_a_server_that_cannot_be_reached_and_nobody_has_asked() -> None:
    stage = Stage().asks(HELLO)
    stage.seen()
    stage.does("failed", "nobody listens")
    assert stage.seen() == (b"", frames.settings({}) + ACK) and not stage.told and stage.session.waits_for_client
    assert stage.asks(ACK, PING).seen() == (b"", b"") and not stage.session.is_over
    stage.asks(frame(HEADERS, 5, 1, b"\x20" + written(*fields("/open"))))
    answered = said(1, (b":status", b"503"), (b"content-length", b"0"))
    assert stage.seen() == (b"", answered + goaway(1, Code.NO_ERROR)) and stage.session.is_over
    assert [(each.status, each.why) for each in stage.told] == [(503, "nobody listens")]


def test_a_server_that_is_reset() -> None:
    stage = after_update(met()).asks(ask(5), ask(7)).answers(answer(5)[:40])
    stage.seen()
    stage.does("failed", "reset")
    answered = said(7, (b":status", b"503"), (b"content-length", b"0"))
    assert stage.seen()[1] == rst_stream(5, Code.INTERNAL_ERROR) + answered + goaway(7, Code.NO_ERROR)
    assert stage.outcomes() == [(200, True, None), (503, True, None)] and stage.session.is_over
    stage = after_update(met()).does("failed", "reset")
    assert stage.seen()[1] == goaway(3, Code.NO_ERROR) and stage.session.is_over and not stage.told


def test_what_a_link_asks_of_a_session() -> None:
    link_session: LinkSession = after_update(met()).session
    assert not link_session.is_broken and not link_session.ends_client and not link_session.ends_server


def test_a_server_that_is_lost_in_the_middle_is_unavailable_to_grpc() -> None:
    """Whose clients would take a reset for INTERNAL, and not try again."""
    grpc = (b"content-type", b"application/grpc")
    stage = met().asks(ask(5, "/open", END, grpc), ask(7, "/open", 0, grpc))
    stage.answers(*(frame(HEADERS, ENDS_BLOCK, each, written((b":status", b"200"))) for each in (5, 7))).seen()
    ends = [said(each, (b"grpc-status", b"14"), (b"grpc-message", b"Service unavailable")) for each in (5, 7)]
    wanted = ends[0] + ends[1] + rst_stream(7, Code.NO_ERROR) + goaway(7, Code.NO_ERROR)
    assert stage.does("failed", "it is lost").seen()[1] == wanted
    assert [(each.status, each.grpc_status, each.why) for each in stage.told] == [(200, 14, "it is lost")] * 2


@pytest.mark.parametrize(
    "data",
    [
        answer(7),  # nobody asked
        answer(4),
        frame(DATA, 0, 5, b"x"),  # a body before its head
        frame(HEADERS, 5, 5, written((b"x", b"y"))),
        frame(HEADERS, 5, 5, written((b":status", b"100"))),
        frame(HEADERS, 4, 5, written((b":status", b"101"))),
        frame(HEADERS, 4, 5, written((b":status", b"200"))) * 2,
        frame(HEADERS, 4, 5, b"\x40\x01a\x01b\xbe"),
        frame(frames.PUSH_PROMISE, 4, 5, b"\0\0\0\x02" + written(*fields("/"))),
        ACK * 2,
        frame(DATA, 0, 5, b"x" * 16385),
    ],
)
def test_a_broken_answer_is_a_502(data: bytes) -> None:
    stage = after_update(met()).asks(ask(5)).answers(data)
    assert stage.session.is_over and len(stage.told) == 1
    assert stage.client.endswith(goaway(5, Code.NO_ERROR))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (ask(6), Code.PROTOCOL_ERROR),
        (ask(0), Code.PROTOCOL_ERROR),
        (ask(1), Code.STREAM_CLOSED),
        (ask(5) + ask(5), Code.STREAM_CLOSED),
        (ask(5) + frame(DATA, 0, 5, b"x"), Code.STREAM_CLOSED),
        (frame(DATA, 0, 5, b"x"), Code.PROTOCOL_ERROR),
        (frame(DATA, 0, 0, b"x"), Code.PROTOCOL_ERROR),
        (ask(5, "/open", 0) + frame(DATA, 8, 5, b"\x05abc"), Code.PROTOCOL_ERROR),
        (ask(5, "/open", 0) + frame(DATA, 8, 5, b""), Code.PROTOCOL_ERROR),
        (ask(5, "/open", 0) + frame(HEADERS, 4, 5, written((b"t", b"x"))), Code.PROTOCOL_ERROR),
        (ask(5, "/open", 0) + ask(5), Code.PROTOCOL_ERROR),  # pseudo-headers in trailers
        (ask(5, "/open", 0, (b"content-length", b"3")) + frame(DATA, 0, 5, b"long"), Code.PROTOCOL_ERROR),
        (ask(5, "/open", 0, (b"content-length", b"3")) + frame(DATA, 1, 5, b"s"), Code.PROTOCOL_ERROR),
        (frame(HEADERS, 5, 5, b"\xbe"), Code.COMPRESSION_ERROR),
        (frame(HEADERS, 5, 5, b"\x3f\x01"), Code.COMPRESSION_ERROR),
        (frame(HEADERS, 1, 5, b"\x82") + PING, Code.PROTOCOL_ERROR),
        (frame(HEADERS, 1, 5, b"\x82") + frame(77, 0, 5, b""), Code.PROTOCOL_ERROR),
        (frame(HEADERS, 1, 5, b"\x82") + frame(frames.CONTINUATION, 4, 7, b"\x82"), Code.PROTOCOL_ERROR),
        (frame(frames.CONTINUATION, 4, 5, b"\x82"), Code.PROTOCOL_ERROR),
        (frame(frames.PUSH_PROMISE, 4, 5, b"\0\0\0\x02\x82"), Code.PROTOCOL_ERROR),
        (frame(DATA, 0, 5, b"x" * 16385), Code.FRAME_SIZE_ERROR),
        (frame(frames.PING, 0, 0, b"1234567"), Code.FRAME_SIZE_ERROR),
        (frame(frames.PING, 0, 5, b"12345678"), Code.PROTOCOL_ERROR),
        (frame(frames.RST_STREAM, 0, 3, b"\0"), Code.FRAME_SIZE_ERROR),
        (rst_stream(5, Code.CANCEL), Code.PROTOCOL_ERROR),
        (window_update(0, 0), Code.PROTOCOL_ERROR),
        (window_update(5, 1), Code.PROTOCOL_ERROR),
        (frame(frames.WINDOW_UPDATE, 0, 0, b"\0"), Code.FRAME_SIZE_ERROR),
        (frame(frames.PRIORITY, 0, 0, b"\0" * 5), Code.PROTOCOL_ERROR),
        (frame(frames.GOAWAY, 0, 0, b"\0"), Code.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, 0, 0, b"\0"), Code.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, 1, 0, b"\0" * 6), Code.FRAME_SIZE_ERROR),
        (frame(frames.SETTINGS, 0, 3, b""), Code.PROTOCOL_ERROR),
        (frames.settings({4: 1 << 31}), Code.FLOW_CONTROL_ERROR),
        (frames.settings({5: 100}), Code.PROTOCOL_ERROR),
        (frames.settings({2: 2}), Code.PROTOCOL_ERROR),
        (ACK, Code.PROTOCOL_ERROR),  # of nothing
        (frame(DATA, 0, 1 << 31 | 5, b"x"), Code.PROTOCOL_ERROR),
    ],
)
def test_what_nobody_may_send(data: bytes, code: Code) -> None:
    stage = after_update(met()).asks(data + ask(99) + PING)
    assert stage.session.is_over and all(each.why for each in stage.told)
    assert len(stage.told) == 1 + len(stage.judged)
    at = stage.client.rindex(b"\x07\0\0\0\0\0")  # the GOAWAY, after its length
    assert stage.client[at + 10 : at + 14] == code.to_bytes(4, "big")
    assert not stage.server or data.startswith(stage.server)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01", PREFACE + PING, PREFACE + ACK])
def test_what_is_no_greeting(data: bytes) -> None:
    stage = Stage().asks(data)
    assert stage.session.is_over and stage.server in (b"", PREFACE) and len(stage.told) == 1
    assert stage.client.startswith(frames.settings({}) + b"\0\0")


def test_a_malformed_request_ends_alone() -> None:
    stage = after_update(met()).asks(ask(5, "/open", 0, (b"connection", b"close")), ask(7, "no-slash"), ask(9))
    bad = said(5, (b":status", b"400"), (b"content-length", b"0")) + rst_stream(5, Code.PROTOCOL_ERROR)
    assert stage.seen() == (ask(9), bad + said(7, (b":status", b"400"), (b"content-length", b"0")))
    assert stage.outcomes() == [(400, False, None)] * 2 and stage.judged[-1] == "/open"


def test_too_many_fields_are_a_431() -> None:
    stage = after_update(met()).asks(ask(5, "/open", END, *[(b"x", b"y")] * 300), ask(7))
    assert stage.seen() == (ask(7), said(5, (b":status", b"431"), (b"content-length", b"0")))
    assert stage.outcomes() == [(431, False, None)]


@pytest.mark.parametrize("most", [8 << 10, 64 << 10, 256 << 10])
@pytest.mark.parametrize("is_updated", [False, True])
def test_fields_may_be_as_long_as_somebody_says(most: int, is_updated: bool) -> None:
    """Also before the client has given up its table, and where a block is in several frames."""
    stage = after_update(met(most)) if is_updated else Stage(most).asks(HELLO).answers(WELCOME, ACK)
    room = most - hpack.size(fields("/open", (b"x", b"")))
    for stream, value in ((7, b"v" * room), (9, b"v" * (room + 1)), (11, b"v")):
        stage.asks(frames.headers(stream, hpack.encode(fields("/open", (b"x", value))), True))
    assert stage.judged == ["/open"] * 2 and stage.outcomes() == [(431, False, None)]
    assert stage.told[0].why.endswith(f"longer than {most} bytes")


FLOODS = {
    "rapid reset": b"".join(ask(at) + rst_stream(at, Code.CANCEL) for at in range(5, 2 * limits.MAX_RESETS + 9, 2)),
    "continuation": frame(HEADERS, 1, 5, b"") + frame(frames.CONTINUATION, 0, 5, b"") * limits.MAX_CONTINUATIONS,
    "long block": frame(HEADERS, 1, 5, b"") + frame(frames.CONTINUATION, 0, 5, b"x" * 16384) * 5,
    "ping": PING * (limits.MAX_IDLE + 1),
    "settings": frames.settings({4: 9}) * (limits.MAX_IDLE + 1),
    "empty data": ask(5, "/open", 0) + frame(DATA, 0, 5, b"") * (limits.MAX_IDLE + 1),
    "windows": window_update(0, 1) * (limits.MAX_IDLE + 1),
    "priority": frame(frames.PRIORITY, 0, 7, b"\0" * 5) * (limits.MAX_IDLE + 1),
    "unknown": frame(200, 0, 0, b"") * (limits.MAX_IDLE + 1),
    "many settings": frames.settings(dict.fromkeys(range(100, 101 + limits.MAX_SETTINGS), 1)),
    "streams": b"".join(ask(at) for at in range(5, 2 * limits.MAX_STREAMS + 9, 2)),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_ends_the_connection(kind: str) -> None:
    stage = after_update(met()).asks(FLOODS[kind])
    assert stage.session.is_over and Code.ENHANCE_YOUR_CALM.to_bytes(4, "big") in stage.client[-150:]
    assert sum(each.request is None and bool(each.why) for each in stage.told) == 1
    assert len(stage.told) == 1 + len(stage.judged)


def test_a_budget_is_full_again_after_a_period() -> None:
    budget = limits.Budget(2, "things were done")
    for _ in range(2):
        budget.spend()
    budget._began -= limits.PERIOD_NS
    budget.spend()
    budget.earn(5)
    assert budget.spent == 0
    for _ in range(2):
        budget.spend()
    with pytest.raises(frames.Broken) as caught:
        budget.spend()
    assert caught.value.code == Code.ENHANCE_YOUR_CALM


def test_work_that_leads_somewhere_is_no_flood() -> None:
    stage = after_update(met())
    for at in range(5, 8005, 2):
        stage.asks(ask(at), window_update(0, 4)).answers(answer(at))
    for at in range(8005, 8005 + 2 * limits.MAX_RESETS - 10, 2):
        stage.asks(ask(at), rst_stream(at, Code.CANCEL))
    assert not stage.session.is_over


def test_more_streams_than_a_client_can_know_of_are_refused_alone() -> None:
    stage = Stage().asks(HELLO)
    encoder = reference.Encoder()
    stage.asks(*(frame(HEADERS, 5, at, encoder.encode(fields("/open"))) for at in range(1, 2003, 2)))
    assert not stage.session.is_over
    assert stage.answers(WELCOME).client == WELCOME_ON + rst_stream(2001, Code.REFUSED_STREAM)


# --- properties ----------------------------------------------------------------------------------------------------


@st.composite
def talks(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Return frames of a client that mostly behaves, and what a server may say to them."""
    encoder = reference.Encoder()
    acks_at = draw(st.integers(0, 6))
    client, server = [PREFACE, frames.settings({4: 1 << 16})], []
    for number in range(draw(st.integers(1, 10))):
        stream = 2 * number + 1
        if number == acks_at:
            client.append(ACK)
            encoder.header_table_size = 0
        path = draw(st.sampled_from(["/open", "/open/mend", "/shut", "/open?x=1", "bad"]))
        more = draw(st.sampled_from([(), (GRPC,), ((b"x-id", b"%d" % number),), ((b"connection", b"close"),)]))
        block = encoder.encode(fields(path, *more))
        kind = draw(st.sampled_from(["whole", "body", "trailers", "cut", "reset"]))
        if kind == "cut":
            at = draw(st.integers(0, len(block)))
            client += [
                frame(HEADERS, 1, stream, block[:at]) + frame(frames.CONTINUATION, ENDS_BLOCK, stream, block[at:])
            ]
        else:
            client.append(frame(HEADERS, ENDS_BLOCK | (kind == "whole"), stream, block))
        if kind == "body":
            client += [frame(DATA, 0, stream, b"abc"), PING, frame(DATA, 9, stream, b"\x01def\0")]
        elif kind == "trailers":
            client += [frame(DATA, 0, stream, b"abc"), frame(HEADERS, 5, stream, encoder.encode([(b"t", b"x")]))]
        elif kind == "reset":
            client += [window_update(stream, 9), rst_stream(stream, Code.CANCEL)]
        if path.startswith("/open"):
            server.append(answer(stream))
    return client, server


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [*pieces, data[at:]]


SIZES = st.lists(st.integers(1, 40), max_size=30)


@settings(max_examples=60)
@given(talks(), SIZES, SIZES)
def test_any_cut_gives_the_same(talk: tuple[list[bytes], list[bytes]], sizes: list[int], others: list[int]) -> None:
    client, server = b"".join(talk[0]), ACK + b"".join(talk[1])
    whole = Stage().answers(WELCOME).asks(client).answers(server)
    pieces = Stage().answers(WELCOME)
    for piece in cut(client, sizes):
        pieces.asks(piece)
    for piece in cut(server, others):
        pieces.answers(piece)
    assert (pieces.server, pieces.client) == (whole.server, whole.client)
    assert pieces.outcomes() == whole.outcomes() and len(whole.told) >= len(whole.judged)


def check_server(data: bytes) -> None:
    """Read what a server got, as a server would, and see that it got nothing that was not let through."""
    decoder = reference.Decoder()
    assert PREFACE.startswith(data[:24])
    at, opened, block, last = 24, {0}, b"", 0
    while at + 9 <= len(data):
        size, kind, flags = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 4]
        stream = int.from_bytes(data[at + 5 : at + 9], "big")
        payload = data[at + 9 : at + 9 + size]
        assert len(payload) == size, "only whole frames go on"
        at += 9 + size
        if kind in (HEADERS, frames.CONTINUATION):
            if kind == HEADERS:
                pad = payload[0] if flags & 8 else 0
                block = payload[(1 if flags & 8 else 0) + (5 if flags & 0x20 else 0) : size - pad]
            else:
                assert stream == last
                block += payload
            last = stream
            if flags & ENDS_BLOCK:
                said = dict(decoder.decode(block, raw=True))
                if stream in opened:
                    assert not any(name.startswith(b":") for name in said)
                else:
                    assert said[b":path"].startswith(b"/open")
                opened.add(stream)
                last = 0
        else:
            assert last == 0
            assert stream in opened, "a frame of a stream that was not let through"
    assert at >= len(data) and last == 0


CHANGES = st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255), st.sampled_from("=+-")), max_size=4)


@settings(max_examples=150)
@given(talks(), CHANGES, st.booleans())
def test_no_change_lets_through_what_was_not_judged(
    talk: tuple[list[bytes], list[bytes]], changes: list[tuple[int, int, str]], keeps_preface: bool
) -> None:
    data = bytearray(b"".join(talk[0]))
    for place, byte, how in changes:
        at = place % len(data)
        if keeps_preface:
            at = max(at, 24)
        data[at : at + (how != "+")] = b"" if how == "-" else bytes([byte])
    stage = Stage().answers(WELCOME).asks(bytes(data))
    check_server(stage.server)
    stage.answers(ACK + b"".join(talk[1])).does("client_ended")
    assert all(not each.allowed or each.request for each in stage.told)
    assert len([each for each in stage.told if each.allowed]) <= len(stage.judged)


@settings(max_examples=100)
@given(talks(), CHANGES)
def test_whatever_the_server_says_each_request_is_told_once(
    talk: tuple[list[bytes], list[bytes]], changes: list[tuple[int, int, str]]
) -> None:
    data = bytearray(WELCOME + ACK + b"".join(talk[1]))
    for place, byte, how in changes:
        at = place % len(data)
        data[at : at + (how != "+")] = b"" if how == "-" else bytes([byte])
    stage = Stage().asks(b"".join(talk[0][:2])).answers(WELCOME).asks(b"".join(talk[0][2:]))
    stage.answers(bytes(data[len(WELCOME) :])).does("server_ended").does("client_ended")
    assert stage.session.is_over
    assert len([each for each in stage.told if each.allowed]) == sum(path[:5] == "/open" for path in stage.judged)


@given(st.binary(max_size=300))
def test_noise_raises_nothing(noise: bytes) -> None:
    stage = Stage().answers(noise).asks(noise).asks(HELLO, noise)
    assert stage.session.is_over or stage.session.waits_for_client
    check_server(stage.server)
