"""Playbooks: what is sent to whom when a client and a server say this and that."""

import random

import pytest

from l7proxy.exchange import Exchange
from l7proxy.http1 import head
from l7proxy.http1.session import Session, Verdict

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 15\r\ncontent-type: text/plain\r\n\r\nAccess denied\r\n"


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *fields, "", ""]).encode()


class Stage:
    """A session whose policy lets /open through; `heard` is what server and client got."""

    def __init__(self, most: int = head.MAX_HEAD) -> None:
        self.told: list[Exchange] = []
        self.judged: list[str] = []
        self.server = self.client = b""
        self.session = Session(self._judge, self.told.append, most)

    def _judge(self, request: head.Request, whole: bytes) -> Verdict:
        self.judged.append(request.path)
        return Verdict(request.path.startswith("/open") or request.method == "CONNECT")

    def _sent(self) -> None:
        self.server += b"".join(self.session.to_server)
        self.client += b"".join(self.session.to_client)
        self.session.to_server.clear()
        self.session.to_client.clear()

    def asks(self, data: bytes) -> "Stage":
        self.session.from_client(data)
        self._sent()
        return self

    def answers(self, data: bytes) -> "Stage":
        self.session.from_server(data)
        self._sent()
        return self

    def fails(self, why: str) -> "Stage":
        self.session.failed(why)
        self._sent()
        return self

    def ends(self, who: str) -> "Stage":
        getattr(self.session, f"{who}_ended")()
        self._sent()
        return self


def test_what_is_allowed_goes_on_as_it_came() -> None:
    stage = Stage().asks(get("/open")).answers(OK)
    assert (stage.server, stage.client) == (get("/open"), OK) and not stage.session.is_over
    assert [(e.status, e.allowed) for e in stage.told] == [(200, True)]


def test_a_refusal_and_the_connection_lives_on() -> None:
    stage = Stage().asks(get("/open")).answers(OK).asks(get("/shut")).asks(get("/open/2")).answers(OK)
    assert stage.server == get("/open") + get("/open/2")
    assert stage.client == OK + FORBIDDEN + OK and not stage.session.is_over
    assert [e.status for e in stage.told] == [200, 403, 200]


def test_the_body_of_what_is_refused_goes_nowhere() -> None:
    post = b"POST /shut HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n" + get("/open")[:20]
    stage = Stage().asks(post + get("/open")).answers(OK)
    assert stage.server == get("/open") and stage.judged == ["/shut", "/open"]
    assert stage.client == FORBIDDEN + OK


def test_pipelined_requests_are_answered_in_order() -> None:
    stage = Stage().asks(get("/open/1") + get("/shut") + get("/open/2"))
    assert stage.server == get("/open/1") and stage.client == b""
    stage.answers(OK)
    assert stage.server == get("/open/1") + get("/open/2") and stage.client == OK + FORBIDDEN
    stage.answers(OK)
    assert stage.client == OK + FORBIDDEN + OK


def test_many_refused_requests_in_one_piece() -> None:
    stage = Stage().asks(get("/shut") * 3000)
    assert stage.client == FORBIDDEN * 3000 and stage.server == b""


def test_bytes_one_at_a_time() -> None:
    stage = Stage()
    chunked = b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n"
    for byte in chunked + get("/open"):
        stage.asks(bytes([byte]))
    assert stage.server == chunked
    answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    for byte in answer:
        stage.answers(bytes([byte]))
    assert stage.client == answer and stage.server == chunked + get("/open")


def test_an_answer_before_the_body_is_whole() -> None:
    post = b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"
    stage = Stage().asks(post + b"ab").answers(OK).asks(b"cd" + get("/open"))
    assert stage.server == post + b"abcd" + get("/open") and stage.client == OK


@pytest.mark.parametrize("status", [101, 200])
def test_a_tunnel_after_an_allowed_request(status: int) -> None:
    ask = (
        get("/open", "Connection: Upgrade", "Upgrade: x")
        if status == 101
        else b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    answer = f"HTTP/1.1 {status} Well\r\n\r\n".encode()
    stage = Stage().asks(ask + b"early").answers(answer + b"first").asks(get("/shut")).answers(b"\x00")
    assert stage.session.is_tunnel
    assert stage.server == ask + b"early" + get("/shut") and stage.client == answer + b"first\x00"


@pytest.mark.parametrize(
    ("ask", "answer", "client"),
    [
        (get("/open", "Connection: close"), OK, OK),
        (get("/open"), OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), None),
        (b"GET /open HTTP/1.0\r\n\r\n", OK, OK),
    ],
)
def test_the_connection_ends_when_one_side_says_so(ask: bytes, answer: bytes, client: bytes | None) -> None:
    stage = Stage().asks(ask).answers(answer)
    assert stage.session.is_over and stage.client == (client or answer)


def test_a_body_until_the_end() -> None:
    stage = Stage().asks(get("/open")).answers(b"HTTP/1.1 200 OK\r\n\r\nabc").answers(b"def")
    assert not stage.told and not stage.session.is_over
    stage.ends("server")
    assert stage.session.is_over and [e.status for e in stage.told] == [200]


LAST = ("Expect: 100-continue", "Connection: close")  # after which a refusal is the last answer


@pytest.mark.parametrize("field", LAST)
def test_a_client_that_is_refused_for_good_is_let_go_when_it_ends_or_has_sent_all(field: str) -> None:
    """At once it would get a reset for what it still sends, and might not have the answer by then."""
    begun = f"POST /shut HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n{field}\r\n\r\n".encode()
    stage = Stage().asks(begun)
    assert b"403" in stage.client and b"connection: close" in stage.client
    assert stage.session.ends_client and not stage.session.is_over
    assert stage.ends("client").session.is_over
    stage = Stage().asks(begun + b"1234")
    assert not stage.session.is_over
    assert stage.asks(b"5" + get("/open")).session.is_over and not stage.server


def test_a_refused_client_that_ends_amid_its_body_is_over() -> None:
    stage = Stage().asks(b"POST /shut HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n12")
    assert not stage.session.ends_client and not stage.session.is_over
    assert stage.ends("client").session.is_over and [each.status for each in stage.told] == [403]


def test_a_broken_request_gets_a_400_and_the_end() -> None:
    stage = Stage().asks(get("/open")).asks(b"GET / HTTP/1.1\nHost: a\r\n\r\n").answers(OK)
    assert stage.client.startswith(OK + b"HTTP/1.1 400 ") and stage.session.is_over and stage.server == get("/open")


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\nx\r\n\r\n", b"garbage\r\n\r\n"])
def test_a_broken_answer_is_a_502(answer: bytes) -> None:
    stage = Stage().asks(get("/open")).answers(answer)
    assert stage.client.startswith(b"HTTP/1.1 502 ") and stage.session.is_over


def test_a_server_that_ends_too_early() -> None:
    assert Stage().asks(get("/open")).ends("server").client.startswith(b"HTTP/1.1 502 ")
    stage = Stage().asks(get("/open")).answers(OK[:-1]).ends("server")
    assert stage.session.is_over and stage.client == OK[:-1]


def test_a_server_that_ends_because_its_client_has() -> None:
    stage = Stage().asks(get("/open")).ends("client").ends("server")
    why = "the client ended, and then the server before its answer was whole"
    assert [(each.status, each.why) for each in stage.told] == [(502, why)]


def test_a_server_that_says_more_than_it_was_asked_for() -> None:
    stage = Stage().asks(get("/open")).answers(OK + OK)
    assert stage.session.is_over and stage.client == OK


POST = b"POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def outcomes(stage: Stage) -> list[tuple[int, bool, str]]:
    return [(each.status, each.allowed, each.why) for each in stage.told]


def test_a_broken_body_after_the_answer_has_begun_puts_nothing_into_it() -> None:
    stage = Stage().asks(POST).answers(OK[:-1]).asks(b"zz\r\n")
    assert stage.client == OK[:-1] and stage.session.is_broken and stage.session.is_over
    assert outcomes(stage) == [(200, True, "the size of a chunk is not a hexadecimal number on a line of its own")]
    stage = Stage().asks(POST).answers(OK).asks(b"zz\r\n")
    assert stage.client == OK and stage.session.is_over and not stage.session.is_broken
    assert outcomes(stage) == [(200, True, "")]


def test_a_chunk_that_goes_on_after_its_size_is_a_400() -> None:
    stage = Stage().asks(POST + b"2\r\nabc\r\n")
    assert stage.client.startswith(b"HTTP/1.1 400 ") and stage.session.is_over and stage.server == POST
    assert outcomes(stage) == [(400, True, "a chunk does not end where its size says")]


def test_a_server_that_fails_before_its_answer_and_in_it() -> None:
    stage = Stage().asks(get("/open")).fails("nobody listens")
    assert stage.client.startswith(b"HTTP/1.1 503 ") and outcomes(stage) == [(503, True, "nobody listens")]
    stage = Stage().asks(get("/open")).answers(b"HTTP/1.1 200 OK\r\n\r\nabc").fails("reset")
    assert stage.client.endswith(b"abc") and stage.session.is_broken and outcomes(stage) == [(200, True, "reset")]
    stage = Stage().asks(get("/open")).answers(OK).fails("reset")
    assert stage.session.is_over and not stage.session.is_broken and outcomes(stage) == [(200, True, "")]


def test_a_client_that_is_lost_is_told_of_once() -> None:
    for answered, wanted in ((b"", (0, True, "gone")), (OK[:-1], (200, True, "gone")), (OK, (200, True, ""))):
        stage = Stage().asks(get("/open")).answers(answered)
        stage.session.lost("gone")
        stage.session.lost("again")
        assert outcomes(stage) == [wanted] and stage.session.is_over


def test_draining_says_so_in_the_next_answer_and_ends_with_it() -> None:
    stage = Stage().asks(get("/open"))
    stage.session.drain()
    stage.answers(OK[:20]).answers(OK[20:]).asks(get("/open/2"))
    assert stage.client == b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
    assert stage.session.is_over and not stage.session.is_broken and stage.server == get("/open")
    assert [e.status for e in stage.told] == [200]


def test_draining_in_the_middle_of_an_answer_ends_with_the_next_one() -> None:
    stage = Stage().asks(get("/open")).answers(OK[:-1])
    stage.session.drain()
    stage.answers(OK[-1:])
    assert stage.client == OK and not stage.session.is_over
    stage.asks(get("/shut"))
    assert b"403 " in stage.client and b"connection: close" in stage.client and stage.session.is_over


def test_a_final_answer_alone_says_that_it_is_the_last() -> None:
    stage = Stage().asks(get("/open"))
    stage.session.drain()
    stage.answers(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert stage.client.startswith(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nconnection: close\r\n")


@pytest.mark.parametrize(
    ("asked", "answered", "status", "is_broken"),
    [
        (b"", b"", None, False),  # idle: nothing to answer
        (get("/open")[:-2], b"", 408, False),
        (get("/open"), b"", 503, False),
        (get("/open"), OK[:-1], 200, True),
    ],
)
def test_what_is_cut_off_is_answered_where_it_can_be(
    asked: bytes, answered: bytes, status: int | None, is_broken: bool
) -> None:
    stage = Stage().asks(asked).answers(answered) if answered else Stage().asks(asked)
    assert stage.session.waits_for_head is (status == 408)
    stage.session.cut("too slow")
    stage._sent()
    assert [(e.status, e.why) for e in stage.told] == ([(status, "too slow")] if status else [])
    assert stage.session.is_over and stage.session.is_broken is is_broken
    assert status is None or b" %d " % status in stage.client


def test_what_follows_the_last_request_is_no_request() -> None:
    stage = Stage().asks(get("/open", "Connection: close") + get("/open")).answers(OK)
    assert stage.judged == ["/open"] and stage.session.is_over and len(stage.told) == 1
    stage = Stage().asks(get("/open") + b"GET /op").ends("client").answers(OK)
    assert stage.session.is_over and len(stage.told) == 1


def test_a_broken_head_is_not_told_of_as_the_one_before() -> None:
    stage = Stage().asks(get("/open")).answers(OK).asks(b"GET /" + b"x" * head.MAX_HEAD)
    assert [(each.status, each.request is None, each.allowed) for each in stage.told] == [
        (200, False, True),
        (431, True, False),
    ]


@pytest.mark.parametrize("most", [8 << 10, 64 << 10, 256 << 10])
def test_a_head_may_be_as_long_as_somebody_says(most: int) -> None:
    room = most - len(get("/open", "X: "))
    stage = Stage(most).asks(get("/open", "X: " + room * "x")).answers(OK)
    assert stage.judged == ["/open"] and not stage.session.is_over
    stage.asks(get("/open", "X: " + (room + 1) * "x"))
    assert [each.status for each in stage.told] == [200, 431] and stage.told[1].why.endswith(
        f"longer than {most} bytes"
    )


@pytest.mark.parametrize(
    "start", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00", b" GET", b"\n", b"\r\n\x16"]
)
def test_what_will_be_no_request_is_refused_at_once(start: bytes) -> None:
    stage = Stage().asks(start)
    assert stage.client.startswith(b"HTTP/1.1 400 ") and stage.session.is_over


@pytest.mark.parametrize("start", [b"\r", b"\r\n\r", b"G", b"GET ", b"X" * 100, b"GET /\x16"])
def test_what_may_become_a_request_is_waited_for(start: bytes) -> None:
    stage = Stage().asks(start)
    assert stage.client == b"" and not stage.session.is_over and stage.session.waits_for_client


@pytest.mark.parametrize("seed", range(20))
def test_any_cut_gives_the_same(seed: int) -> None:
    rng = random.Random(seed)
    asks = [get(rng.choice(("/open/x", "/shut"))) for _ in range(8)]
    whole = b"".join(asks)
    stage, at, answered = Stage(), 0, 0
    while at < len(whole) or answered < stage.server.count(b"GET "):
        size = rng.randrange(1, 60)
        if at < len(whole):
            stage.asks(whole[at : at + size])
            at += size
        if answered < stage.server.count(b"\r\n\r\n"):
            stage.answers(OK)
            answered += 1
    assert stage.server == b"".join(ask for ask in asks if b"/open" in ask)
    assert stage.client == b"".join(OK if b"/open" in ask else FORBIDDEN for ask in asks)
