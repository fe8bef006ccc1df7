"""Heads of HTTP/1.1: what is read, and what nobody may act on."""

import pytest

from l7proxy.http1 import head

GET = b"GET /a?b=c HTTP/1.1\r\nHost: Shop.example:8080\r\nX-Y:  z \r\n\r\n"


def test_a_request() -> None:
    found = head.request(GET)
    assert (found.method, found.path, found.host) == ("GET", "/a?b=c", "shop.example:8080")
    assert found.fields == ((b"host", b"Shop.example:8080"), (b"x-y", b"z"))
    assert (found.length, found.keeps, found.upgrade, found.expects) == (0, True, False, False)


@pytest.mark.parametrize(
    ("lines", "length", "keeps"),
    [
        ("POST / HTTP/1.1|Host: a|Content-Length: 5", 5, True),
        ("POST / HTTP/1.1|Host: a|Transfer-Encoding: Chunked", None, True),
        ("GET / HTTP/1.1|Host: a|Connection: x, Close", 0, False),
        ("GET / HTTP/1.0", 0, False),
        ("GET / HTTP/1.0|Connection: keep-alive", 0, True),
        ("GET http://a/x HTTP/1.1|Host: A", 0, True),
        ("GET http://a?x HTTP/1.1|Host: a", 0, True),
        ("OPTIONS * HTTP/1.1|Host: a", 0, True),
        ("CONNECT db:5432 HTTP/1.1|Host: db:5432", 0, True),
        ("GET / HTTP/1.1|Host:", 0, True),
        ("GET / HTTP/1.1|Host: [fd00::1]:80", 0, True),
    ],
)
def test_framing(lines: str, length: int | None, keeps: bool) -> None:
    found = head.request(lines.replace("|", "\r\n").encode() + b"\r\n\r\n")
    assert (found.length, found.keeps) == (length, keeps)


def test_a_head_written_anew() -> None:
    fields = (*head.request(GET).fields, (b"x-z", b""))
    assert head.anew(GET, fields) == b"GET /a?b=c HTTP/1.1\r\nhost: Shop.example:8080\r\nx-y: z\r\nx-z: \r\n\r\n"


@pytest.mark.parametrize(
    ("upgrade", "offers"),
    [
        ("h2c", True),
        ("websocket, H2C", True),
        ("h2", True),
        ("HTTP/2.0", True),
        ("TLS/1.2", True),
        ("websocket", False),
        ("h2cx", False),
        ("x/h2c", False),
    ],
)
def test_an_offer_to_speak_another_http(upgrade: str, offers: bool) -> None:
    lines = ("Host: a", f"Upgrade: {upgrade}", "Connection: x, Upgrade, HTTP2-Settings", "HTTP2-Settings: AA")
    found = head.request("\r\n".join(("GET / HTTP/1.1", *lines, "", "")).encode())
    assert (found.offers_http, found.upgrade) == (offers, not offers)
    assert head.without_offer(found.fields) == ((b"host", b"a"), (b"connection", b"x"))


@pytest.mark.parametrize(
    "text",
    [
        "GET  / HTTP/1.1|Host: a||",  # two spaces
        "GET / HTTP/1.1 |Host: a||",
        " GET / HTTP/1.1|Host: a||",
        "GET / HTTP/2.0|Host: a||",
        "GET / HTTP/1.2|Host: a||",
        "GET / http/1.1|Host: a||",
        "GET /\tx HTTP/1.1|Host: a||",
        "GET /\x80 HTTP/1.1|Host: a||",
        "G\x00T / HTTP/1.1|Host: a||",
        "GET x HTTP/1.1|Host: a||",
        "GET * HTTP/1.1|Host: a||",
        "GET ftp://a/ HTTP/1.1|Host: a||",
        "GET http://b/ HTTP/1.1|Host: a||",  # which of the two is asked?
        "GET http://u@a/ HTTP/1.1|Host: a||",
        "CONNECT /x HTTP/1.1|Host: a||",
        "GET / HTTP/1.1||",  # no Host
        "GET / HTTP/1.1|Host: a|Host: a||",
        "GET / HTTP/1.1|Host: a b||",
        "GET / HTTP/1.1|Host: a/b||",
        "GET / HTTP/1.1|Host : a||",
        "GET / HTTP/1.1|Host: a| X: folded||",
        "GET / HTTP/1.1|Host: a|X: folded|\tmore||",
        "GET / HTTP/1.1|Host: a|: no name||",
        "GET / HTTP/1.1|Host: a|no colon||",
        "GET / HTTP/1.1|Host: a|X: nul\x00||",
        "GET / HTTP/1.1\nHost: a||",
        "GET / HTTP/1.1|Host: a|X: bare\nY: line feed||",
        "GET / HTTP/1.1|Host: a|X: bare\rY: return||",
        "POST / HTTP/1.1|Host: a|Content-Length: 5|Content-Length: 5||",
        "POST / HTTP/1.1|Host: a|Content-Length: 5, 5||",
        "POST / HTTP/1.1|Host: a|Content-Length: +5||",
        "POST / HTTP/1.1|Host: a|Content-Length: 0x5||",
        "POST / HTTP/1.1|Host: a|Content-Length: -1||",
        "POST / HTTP/1.1|Host: a|Content-Length: 5 5||",
        "POST / HTTP/1.1|Host: a|Content-Length:||",
        "POST / HTTP/1.1|Host: a|Content-Length: 9999999999999999999||",
        "POST / HTTP/1.1|Host: a|Content-Length: 5|Transfer-Encoding: chunked||",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, identity||",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: chunked||",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: xchunked||",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding : chunked||",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding:\x0bchunked||",
        "POST / HTTP/1.0|Transfer-Encoding: chunked||",
        "POST / HTTP/1.1|Host: a|Expect: 200-ok||",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(head.Malformed):
        head.request(text.replace("|", "\r\n").encode("latin-1"))


@pytest.mark.parametrize(
    ("text", "method", "length", "keeps"),
    [
        ("HTTP/1.1 200 OK|Content-Length: 3||", "GET", 3, True),
        ("HTTP/1.1 200||", "GET", -1, False),
        ("HTTP/1.1 200 |Transfer-Encoding: chunked||", "GET", None, True),
        ("HTTP/1.1 200 OK|Content-Length: 3||", "HEAD", 0, True),
        ("HTTP/1.1 304 Not Modified|Content-Length: 3||", "GET", 0, True),
        ("HTTP/1.1 204 No Content||", "GET", 0, True),
        ("HTTP/1.1 100 Continue||", "POST", 0, True),
        ("HTTP/1.0 200 OK|Content-Length: 3||", "GET", 3, False),
        ("HTTP/1.1 200 OK||", "CONNECT", 0, True),
    ],
)
def test_a_response(text: str, method: str, length: int | None, keeps: bool) -> None:
    found = head.response(text.replace("|", "\r\n").encode(), method)
    assert (found.length, found.keeps) == (length, keeps)


def test_a_head_has_a_bound() -> None:
    assert head.end_of(GET) == len(GET) and head.end_of(GET[:-1]) == 0
    assert head.end_of(b"x" * head.MAX_HEAD) == 0
    for data in (b"x" * (head.MAX_HEAD + 1), b"x" * head.MAX_HEAD + b"\r\n\r\n"):
        with pytest.raises(head.Malformed):
            head.end_of(data)
