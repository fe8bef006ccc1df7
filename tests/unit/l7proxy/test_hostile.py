"""What nobody sends but who means harm: it takes no more than its length's time and a bounded memory, whatever parser
reads it; and noise made of what a protocol's words are made of raises nothing.

Noise of plain bytes, and of single parsers, is in their own tests.
"""

import contextlib
import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control.model import HttpRule, L7Rules
from l7proxy.dns import message, stream
from l7proxy.dns import session as dns
from l7proxy.dns.exchange import End
from l7proxy.dns.name import Malformed
from l7proxy.exchange import Exchange
from l7proxy.http import Session
from l7proxy.http1 import head
from l7proxy.http2 import frames, hpack, huffman
from l7proxy.http2.frames import Broken
from l7proxy.mesh.errors import BadFrame
from l7proxy.mesh.frames import Ends, Kind, Reader, data_head, frame, opening, read_open
from l7proxy.policy.book import Policy
from l7proxy.tls import hello
from l7proxy.tls import session as tls

POLICY = Policy([(L7Rules(http=(HttpRule(path="/open.*"),)),)])
GET = b"GET /open HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST /open HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
HELLO_2 = frames.PREFACE + frames.settings({})
ASK_2 = hpack.encode(((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/open"), (b":authority", b"a")))
CLIENT, SERVER = End("10.0.0.1", 4000, 1), End("10.0.0.2", 53, 1)


def http() -> Session:
    return Session(POLICY.decide, lambda exchange: None)


def after(*said: bytes) -> Session:
    """Return a session in which a client has said so."""
    session = http()
    for each in said:
        session.from_client(each)
    return session


def bytewise(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


def feed(take: Callable[[bytes], object], pieces: Iterator[bytes]) -> None:
    for piece in pieces:
        take(piece)


def tls_session() -> tls.Session:
    return tls.Session(lambda name: True, lambda asked: None)


def dns_session(tell: Callable[[Any], None] = lambda lookup: None) -> dns.Session:
    return dns.Session(CLIENT, SERVER, lambda name: "x" in name, tell, lambda learned, then: then(), lambda: None)


def client_hello(body: bytes) -> bytes:
    return b"\x01" + len(body).to_bytes(3, "big") + body


def records(message: bytes, size: int) -> bytes:
    pieces = (message[at : at + size] for at in range(0, len(message), size))
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def answer_of(size: int, *records: bytes) -> bytes:
    """Return an answer to `a.`, IN A, with these records over and over."""
    count = size // sum(map(len, records))
    counted = (count * len(records)).to_bytes(2, "big")
    return b"\0\7\x81\x80\0\1" + counted + b"\0\0\0\0\1a\0\0\1\0\1" + b"".join(records) * count


DEEP = b"\1x" * 120  # labels; a name with all of them is as long as one may be
RECORD = b"\0\1\0\1\0\0\0\7\0\4\1\2\3\4"
NOTHING = b"\0\7\1\0\0\1\0\0\0\0\0\0" + b"\1a\0\0\1\0\1"  # a query

# What is done with so many bytes.
WORK: dict[str, Callable[[int], Any]] = {
    "blanks in a field": lambda n: head.request(b"GET / HTTP/1.1\r\nhost: a\r\nx: a" + b" " * n + b"b\r\n\r\n"),
    "blanks in an answer's": lambda n: head.response(b"HTTP/1.1 200 OK\r\nx: a" + b"\t" * n + b"b\r\n\r\n", "GET"),
    "colons": lambda n: head.request(b"GET / HTTP/1.1\r\nhost: a\r\nx:" + b":" * n + b"\r\n\r\n"),
    "options": lambda n: head.request(b"GET / HTTP/1.1\r\nhost: a\r\nconnection:" + b" ," * (n // 2) + b"\r\n\r\n"),
    "upgrades": lambda n: head.request(b"GET / HTTP/1.1\r\nhost: a\r\nupgrade:" + b",h2 " * (n // 4) + b"b\r\n\r\n"),
    "fields": lambda n: head.request(b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x:\r\n" * (n // 4) + b"\r\n"),
    "empty lines": lambda n: http().from_client(b"\r\n" * (2 * n)),
    "empty lines, bytewise": lambda n: feed(http().from_client, bytewise(b"\r\n" * (n // 2))),
    "a head, bytewise": lambda n: feed(http().from_client, bytewise(GET[:-2] + b"x:" + b"y" * n)),
    "requests": lambda n: http().from_client(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n" * (n // 27)),
    "small chunks": lambda n: after(POST).from_client(b"1\r\nx\r\n" * (n // 6)),
    "small chunks, bytewise": lambda n: feed(after(POST).from_client, bytewise(b"1\r\nx\r\n" * (n // 6))),
    "small chunks of an answer": lambda n: after(GET).from_server(OK + b"1\r\nx\r\n" * (n // 6)),
    "a trailer, bytewise": lambda n: feed(after(POST).from_client, bytewise(b"0\r\nx: " + b" " * n)),
    "hints": lambda n: after(GET).from_server(b"HTTP/1.1 103 x\r\n\r\n" * (n // 18)),
    "small frames": lambda n: after(HELLO_2).from_client(frames.frame(frames.DATA, 0, 1, b"") * (n // 9)),
    "a frame, bytewise": lambda n: feed(after(HELLO_2).from_client, bytewise(frames.frame(9, 0, 0, bytes(16384))[:n])),
    "indexed fields": lambda n: hpack.Decoder().decode(b"\x82" * n),
    "a table's entry": lambda n: hpack.Decoder().decode(b"\x40\1x\x7f\xb0\x1e" + bytes(4015) + b"\xbe" * n),
    "entries of a table": lambda n: hpack.Decoder().decode(b"\x40\1x\0" * (n // 4)),
    "Huffman": lambda n: huffman.decode(b"\0" * n),
    "a hello in small records": lambda n: feed(
        tls_session().from_client, (each for each in [records(client_hello(bytes(60_000))[: n // 6], 1)])
    ),
    "a hello in small records, bytewise": lambda n: feed(
        tls_session().from_client, bytewise(records(client_hello(bytes(60_000))[: n // 6], 1))
    ),
    "extensions": lambda n: hello.server_name(
        records(client_hello(bytes(38) + (n // 4 * 4).to_bytes(2, "big") + b"\0\5\0\0" * (n // 4)), 16_000)
    ),
    "records of an answer": lambda n: message.answer(answer_of(n, b"\xc0\x0c" + RECORD)),
    "long names": lambda n: message.answer(answer_of(n, DEEP + b"\0" + RECORD)),
    "names that point far": lambda n: message.answer(answer_of(n, b"\1y" + DEEP[:200] + b"\xc0\x0c" + RECORD)),
    "queries, bytewise": lambda n: feed(stream.Splitter().take, bytewise(stream.framed(NOTHING) * (n // 21))),
    "empty frames of a mesh": lambda n: Reader().feed(frame(Kind.DATA, 1) * (n // 8)),
    "frames of a mesh, bytewise": lambda n: feed(Reader().feed, bytewise(data_head(1, n) + bytes(n))),
}
PACKET_S = 15e-6  # of a core, for the event loop to read one
REFUSALS = (head.Malformed, Broken, hpack.TooLarge, hello.NotAHello, Malformed, BadFrame)


def seconds(work: Callable[[int], Any], size: int) -> float:
    began = time.process_time()
    with contextlib.suppress(*REFUSALS):
        work(size)
    return time.process_time() - began


@pytest.mark.parametrize("what", WORK)
def test_four_times_as_much_takes_no_more_than_about_four_times_as_long(what: str) -> None:
    """What is quadratic takes sixteen times as long. What is less than it takes to receive so many packets is not
    looked at."""
    work, size = WORK[what], 5_000 if "bytewise" in what else 15_000
    short, long = (min(seconds(work, each) for _ in range(3)) for each in (size, 4 * size))
    least = 4 * size * PACKET_S if "bytewise" in what else 0.05
    assert long < 9 * short or long < least, f"{short:.3f} s, {long:.3f} s"


# What a client may go on saying for ever, or until it is cut off: what it begins with, and what then comes each time.
ENDLESS: dict[str, tuple[Callable[[], Any], bytes, bytes]] = {
    "a method": (http, b"", b"G" * 10_000),
    "a target": (http, b"GET /", b"x" * 10_000),
    "a field": (http, GET[:-2] + b"x: ", b"y" * 10_000),
    "fields": (http, GET[:-2], b"x: y\r\n" * 2000),
    "empty lines": (http, b"", b"\r\n" * 5000),
    "different requests": (http, b"", b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % n for n in range(100))),
    "requests that nobody answers": (http, b"", GET * 400),
    "a body that is refused": (
        http,
        b"POST /shut HTTP/1.1\r\nhost: a\r\ncontent-length: 999999999\r\n\r\n",
        bytes(10_000),
    ),
    "a chunk's size": (http, POST, b"0" * 10_000),
    "a chunk's extension": (http, POST + b"1;", b"x" * 10_000),
    "a trailer": (http, POST + b"0\r\n", b"x: y\r\n" * 2000),
    "continuations": (http, HELLO_2 + frames.frame(1, 0, 1, b""), frames.frame(9, 0, 1, b"") * 1000),
    "a block": (http, HELLO_2 + frames.frame(1, 0, 1, b""), frames.frame(9, 0, 1, bytes(10_000))),
    "pings": (http, HELLO_2, frames.frame(6, 0, 0, bytes(8)) * 500),
    "settings": (http, HELLO_2, frames.settings({4: 9}) * 500),
    "requests of one stream": (http, HELLO_2, frames.headers(1, ASK_2, False) * 300),
    "frames that nobody knows": (http, HELLO_2, frames.frame(99, 0, 0, bytes(10_000))),
    "a hello": (tls_session, b"", records(client_hello(bytes(65_000)), 16_000)[:10_000]),
    "small records": (tls_session, records(client_hello(bytes(65_000))[:4], 4), records(bytes(400), 1)),
    "queries that are refused": (dns_session, b"", stream.framed(NOTHING) * 50),
    "queries that nobody answers": (dns_session, b"", stream.framed(NOTHING.replace(b"a", b"x")) * 50),
    "a query": (dns_session, b"\xff\xff", bytes(10_000)),
}


@pytest.mark.parametrize("what", ENDLESS)
def test_whoever_goes_on_for_ever_is_held_back_or_cut_off(what: str) -> None:
    """With a link's part: what is to be sent is taken, and nothing is read of whom the session does not wait for."""
    make, begin, then = ENDLESS[what]
    session = make()
    session.from_client(begin)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(200):  # two million bytes, where a piece is ten thousand
            if session.is_over or not session.waits_for_client:
                break
            session.from_client(then)
            session.to_server.clear()
            session.to_client.clear()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 1 << 20


# --- noise of words -------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *(
            b"GET ",
            b"POST ",
            b"HEAD ",
            b"CONNECT ",
            b"/open",
            b"/shut",
            b"*",
            b"http://a/open",
            b" HTTP/1.1",
            b" HTTP/1.0",
        ),
        *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b":", b": ", b",", b";", b"\0", b"\xff"),
        *(
            b"host: a\r\n",
            b"Host: b\r\n",
            b"content-length: 3\r\n",
            b"content-length: 0\r\n",
            b"expect: 100-continue\r\n",
        ),
        *(b"transfer-encoding: chunked\r\n", b"connection: close\r\n", b"connection: upgrade\r\n", b"upgrade: x\r\n"),
        *(b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"fffffffffffffff\r\n", b"ff;a=b\r\n"),
        *(
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 100 \r\n\r\n",
            b"HTTP/1.1 101 x\r\n\r\n",
            b"HTTP/1.0 304 x\r\n",
            GET,
            POST,
            OK,
        ),
        *(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", b"HTTP/1.1 204 x\r\n\r\n", frames.PREFACE),
    ]
)
SAID = st.tuples(st.booleans(), st.lists(WORDS, max_size=6).map(b"".join))  # by the client or the server
HEADS = st.lists(WORDS, max_size=10).map(lambda words: b"".join(words) + b"\r\n\r\n")


@given(HEADS)
def test_a_head_is_read_or_malformed(whole: bytes) -> None:
    for read in (head.request, lambda data: head.response(data, "GET")):
        try:
            found = read(whole)
        except head.Malformed:
            continue
        assert found.length is None or found.length >= -1


@settings(max_examples=400)
@given(st.lists(SAID, max_size=12), st.sampled_from(["lost", "failed", "cut", "server_ended", "client_ended"]))
def test_each_request_is_judged_and_told_once_whatever_both_say(said: list[tuple[bool, bytes]], end: str) -> None:
    judged, told = [0], list[Exchange]()

    def decide(*asked: Any) -> Any:
        judged[0] += 1
        return POLICY.decide(*asked)

    session = Session(decide, told.append)
    for is_client, words in said:
        if session.is_over:
            break
        (session.from_client if is_client else session.from_server)(words)
    getattr(session, end)(*(["why"] if end in ("lost", "failed", "cut") else []))
    session.lost("it is over")
    assert sum(each.request is not None for each in told) == judged[0]


@settings(max_examples=200)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=40), st.integers(0, 60)), max_size=8))
def test_each_query_is_told_once_whatever_both_say(said: list[tuple[bool, bytes, int]]) -> None:
    told: list[Any] = []
    session = dns_session(told.append)
    asks = 0
    for is_client, noise, at in said:
        whole = NOTHING.replace(b"\1a", b"\1x") if is_client else answer_of(16, b"\xc0\x0c" + RECORD)
        changed = whole[:at] + noise + whole[at + len(noise) :]
        if session.is_over:
            break
        before = len(told) + len(session.to_server)
        if is_client:
            session.from_client(stream.framed(changed))
            asks += len(told) + len(session.to_server) - before
        else:
            session.from_server(stream.framed(changed))
    session.lost("it is over")
    assert len(told) == asks


@given(st.binary(max_size=200), st.integers(0, 600), st.lists(st.integers(1, 40), min_size=1, max_size=40))
def test_a_hello_is_the_same_however_it_is_cut(noise: bytes, at: int, sizes: list[int]) -> None:
    name = b"\0\0\0\x0a\0\x08\0\0\5a.com"
    whole = records(client_hello(bytes(38) + len(name).to_bytes(2, "big") + name), 20)
    whole = whole[:at] + noise + whole[at:]
    results = []
    for cuts in ([len(whole)], sizes):
        reader, start = hello.Hello(), 0
        try:
            found = None
            while start < len(whole) and found is None:
                size = cuts[start % len(cuts)]
                found = reader.feed(whole[start : start + size])
                start += size
            results.append(found)
        except hello.NotAHello:
            results.append("no hello")
    assert results[0] == results[1]


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.just(opening(1, Ends("10.0.0.1", 4000, "fd00::1", 80)))), max_size=8)
)
def test_what_opens_a_stream_of_a_mesh_is_read_or_bad(pieces: list[bytes]) -> None:
    reader = Reader()
    try:
        for piece in pieces:
            for kind, _, body in reader.feed(piece):
                if kind is Kind.OPEN:
                    read_open(body)
    except BadFrame:
        pass
