"""Playbooks: one policy for HTTP/1 and HTTP/2, and one kind of record of both."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.model import HeaderMatch, HttpRule, L7Rules, Mismatch
from l7proxy.edge.link import Session as LinkSession
from l7proxy.exchange import Exchange
from l7proxy.http import Session, unmendable
from l7proxy.http2 import frames, hpack
from l7proxy.http2.frames import PREFACE
from l7proxy.policy.book import Policy
from l7proxy.policy.requests import Change, Fields

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
GREETS = frames.settings({})
ACK = frames.frame(frames.SETTINGS, frames.ACK, 0, b"")


def policy(*rules: HttpRule) -> Policy:
    return Policy([(L7Rules(http=rules),)])


OPEN = policy(HttpRule(path="/open"))


class Stage:
    def __init__(self, rules: Policy = OPEN) -> None:
        self.told: list[Exchange] = []
        self.session = Session(rules.decide, self.told.append)
        self.server = self.client = b""

    def _sent(self) -> "Stage":
        self.server += b"".join(self.session.to_server)
        self.client += b"".join(self.session.to_client)
        self.session.to_server.clear()
        self.session.to_client.clear()
        return self

    def asks(self, data: bytes) -> "Stage":
        self.session.from_client(data)
        return self._sent()

    def answers(self, data: bytes) -> "Stage":
        self.session.from_server(data)
        return self._sent()

    def outcomes(self) -> list[tuple[str, int, bool, str]]:
        return [(each.protocol, each.status, each.allowed, each.why) for each in self.told]


def get(path: str, *fields: str, minor: int = 1) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.{minor}", "Host: a", *fields, "", ""]).encode()


def block(path: str, *fields: tuple[bytes, bytes]) -> bytes:
    pseudo = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"a"))
    return hpack.encode((*pseudo, *fields))


def ask(path: str, *fields: tuple[bytes, bytes], stream: int = 1) -> bytes:
    return frames.headers(stream, block(path, *fields), ends=True)


def fields_of(head: bytes) -> Fields:
    """Return the fields of a head that we wrote."""
    return tuple((name, value) for name, _, value in (line.partition(b": ") for line in head.split(b"\r\n")[1:-2]))


def test_either_version_is_judged_and_told_of() -> None:
    stage = Stage().asks(get("/open")).answers(OK).asks(get("/shut"))
    assert stage.server == get("/open") and stage.client.startswith(OK + b"HTTP/1.1 403 ")
    assert stage.outcomes() == [("HTTP/1.1", 200, True, ""), ("HTTP/1.1", 403, False, "")]
    stage = Stage().asks(PREFACE + GREETS).answers(GREETS).asks(ACK + ask("/open") + ask("/shut", stream=3))
    stage.answers(frames.headers(1, hpack.encode(((b":status", b"200"),)), ends=True))
    assert stage.outcomes() == [("HTTP/2", 403, False, ""), ("HTTP/2", 200, True, "")]
    assert block("/shut") not in stage.server and block("/open") in stage.server
    assert [each.request and (each.request.method, each.request.path, each.request.host) for each in stage.told] == [
        ("GET", "/shut", "a"),
        ("GET", "/open", "a"),
    ]


def test_the_old_version_is_told_by_its_name() -> None:
    assert Stage().asks(get("/shut", minor=0)).outcomes() == [("HTTP/1.0", 403, False, "")]


@pytest.mark.parametrize("ends", range(1, len(PREFACE)))
def test_what_begins_like_the_preface_and_is_not_is_for_http1(ends: int) -> None:
    stage = Stage()
    for byte in PREFACE[:ends]:
        stage.asks(bytes([byte]))
    assert (stage.server, stage.client, stage.told) == (b"", b"", []) and not stage.session.is_idle
    assert stage.session.waits_for_client and not stage.session.is_over
    stage.asks(b"\x00\r\n\r\n")
    assert stage.server == b"" and stage.client.startswith(b"HTTP/1.1 400 ")
    assert [each[:3] for each in stage.outcomes()] == [("HTTP/1.1", 400, False)]


@pytest.mark.parametrize("method", ["P", "PR", "PRI", "POST", "PRIx"])
def test_methods_that_begin_like_the_preface(method: str) -> None:
    stage = Stage()
    whole = get("/open").replace(b"GET", method.encode())
    for byte in whole:
        stage.asks(bytes([byte]))
    assert stage.server == whole


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00\x01", b"SSH-2.0-x\r\n"])
def test_other_bytes_are_a_400_at_once(data: bytes) -> None:
    stage = Stage().asks(data)
    assert stage.client.startswith(b"HTTP/1.1 400 ") and stage.session.is_over and stage.server == b""
    assert [each[1:3] for each in stage.outcomes()] == [(400, False)] and stage.told[0].request is None


def test_a_client_that_says_nothing() -> None:
    for start in (b"", b"PRI *"):
        stage = Stage().asks(start) if start else Stage()
        assert stage.session.is_idle is not bool(start)
        stage.session.client_ended()
        assert stage.session.is_over and not stage.told


# --- what rules mend -----------------------------------------------------------------------------------------------


def mends(*headers: HeaderMatch) -> Stage:
    return Stage(policy(HttpRule(headers=headers)))


def test_what_a_rule_mends_goes_on_mended_in_either_version() -> None:
    rule = (HeaderMatch("X-A", "1", Mismatch.REPLACE), HeaderMatch("X-B", None, Mismatch.LOG))
    post = b"POST /p?q HTTP/1.1\r\nHost: a\r\nX-A: 2\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n"
    stage = mends(*rule).asks(post + b"ok").answers(OK)
    line, fields = post[: post.index(b"\r\n") + 2], b"host: a\r\ncontent-length: 2\r\nconnection: keep-alive\r\n"
    assert stage.server == line + fields + b"x-a: 1\r\n\r\nok"
    assert stage.told[0].told == (b"x-a", b"x-b") and stage.told[0].request is not None
    stage = mends(*rule).asks(PREFACE + GREETS).answers(GREETS).asks(ACK + ask("/", (b"x-a", b"2"), (b"x-c", b"3")))
    assert stage.server.endswith(ask("/", (b"x-c", b"3"), (b"x-a", b"1")))
    stage.session.lost("gone")
    assert stage.told[0].told == (b"x-a", b"x-b") and stage.outcomes() == [("HTTP/2", 0, True, "gone")]


def test_what_a_rule_only_notes_goes_on_as_it_came() -> None:
    stage = mends(HeaderMatch("X-A", "1", Mismatch.LOG)).asks(get("/")).answers(OK)
    assert stage.server == get("/") and stage.told[0].told == (b"x-a",)


@pytest.mark.parametrize("mismatch", [Mismatch.ADD, Mismatch.REPLACE, Mismatch.DELETE])
@pytest.mark.parametrize(
    "name", ["Content-Length", "Transfer-Encoding", "Host", "Connection", "TE", "Upgrade", "Expect", ":path", "x y", ""]
)
def test_a_rule_may_not_change_how_a_request_is_read(name: str, mismatch: Mismatch) -> None:
    why = unmendable((Change(mismatch, name.lower().encode(), b"9"),))
    assert why.startswith("a rule would change")


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\n", "a\x00", " a"])
def test_a_rule_may_not_add_what_is_no_value(value: str) -> None:
    stage = mends(HeaderMatch("X-A", value, Mismatch.ADD)).asks(get("/"))
    assert stage.server == b"" and stage.client.startswith(b"HTTP/1.1 403 ")
    assert [each.why[:35] for each in stage.told] == ["a rule would change a header to wha"]


def test_a_request_that_a_rule_would_frame_otherwise_goes_nowhere() -> None:
    rule = HeaderMatch("Content-Length", "0", Mismatch.REPLACE)
    why = "a rule would change content-length, which says how a request is read or where it goes"
    stage = mends(rule).asks(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
    assert stage.server == b"" and b"content-length" not in stage.client.partition(b"\r\n\r\n")[2]
    assert stage.outcomes() == [("HTTP/1.1", 403, False, why)] and stage.told[0].told == (b"content-length",)
    stage = mends(rule).asks(PREFACE + GREETS).answers(GREETS).asks(ACK + ask("/"))
    assert stage.outcomes() == [("HTTP/2", 403, False, why)] and stage.server.endswith(ACK)


def test_nobody_gets_into_another_http_unjudged() -> None:
    offer = get("/open", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")
    stage = Stage().asks(offer)
    assert stage.server == b"GET /open HTTP/1.1\r\nhost: a\r\n\r\n"
    stage.answers(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
    assert stage.client.startswith(b"HTTP/1.1 502 ") and stage.outcomes()[0][1:3] == (502, True)
    assert stage.session.is_over and stage.asks(PREFACE + GREETS + ask("/shut")).server.count(b"\r\n\r\n") == 1


_NAMES = st.sampled_from([b"x-a", b"x-b", b"host", b"content-length", b"connection", b"content-type"])
_VALUES = st.sampled_from([b"", b"1", b"close", b"a\r\nb: c", b"\xff"])


@given(
    st.lists(
        st.builds(
            HeaderMatch,
            _NAMES.map(bytes.decode),
            _VALUES.map(lambda value: value.decode("latin-1")),
            st.sampled_from(list(Mismatch)),
        ),
        max_size=3,
    )
)
def test_whatever_rules_say_both_versions_let_the_same_through(headers: list[HeaderMatch]) -> None:
    """A head as it goes on is one that HTTP/1 reads again, and as long a request."""
    first = mends(*headers).asks(get("/", "Content-Type: x", "X-A: 1"))
    second = mends(*headers).asks(PREFACE + GREETS).answers(GREETS)
    second.asks(ACK + ask("/", (b"host", b"a"), (b"content-type", b"x"), (b"x-a", b"1")))
    if not first.server:
        assert first.outcomes()[0][2:] == second.outcomes()[0][2:]
        assert first.told[0].told == second.told[0].told
        return
    again = Stage(policy(HttpRule())).asks(first.server)
    assert again.server == first.server
    assert not second.told and second.server.endswith(
        ask(
            "/",
            *fields_of(
                first.server.replace(b"Host", b"host").replace(b"Content-Type", b"content-type").replace(b"X-A", b"x-a")
            ),
        )
    )


@given(st.lists(st.binary(max_size=40), max_size=8), st.booleans())
def test_noise_raises_nothing(pieces: list[bytes], is_second: bool) -> None:
    stage = Stage()
    if is_second:
        stage.asks(PREFACE)
    for piece in pieces:
        stage.asks(piece).answers(piece)
    stage.session.client_ended()
    stage.session.lost("gone")
    assert stage.session.is_over and not any(each.allowed for each in stage.told)


def test_it_is_what_a_link_asks_for() -> None:
    session: LinkSession = Session(OPEN.decide, lambda exchange: None)
    session.failed("nobody listens")
    assert session.is_over and not session.is_broken and not session.to_client
