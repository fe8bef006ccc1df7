"""Broken, ambiguous and random HTTP/1.1 to a server that is read by a strict reader of its own, made from RFC 9112.

The server never sees a request that the rule does not allow, nor a byte that is not part of one.
"""

import random
import re

import pytest

from control.model import HttpRule, L7Rules
from l7proxy.exchange import Exchange
from l7proxy.http import Session
from l7proxy.policy.book import Policy

POLICY = Policy([(L7Rules(http=(HttpRule(path="/open[a-z0-9]*"),)),)])
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CASES = 4000

_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (?:http://[^/ ]*)?([\x21-\x7e]+) HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*;[^\x00-\x08\x0a-\x1f\x7f]*)?")


def strictly_read(data: bytes) -> list[str]:
    """Return the paths of whole requests; AssertionError where the bytes are not, or not the beginning of, requests."""
    paths: list[str] = []
    while data:
        whole, end, data = data.partition(b"\r\n\r\n")
        assert end, f"part of a head: {whole!r}"
        first, *rest = whole.split(b"\r\n")
        line = _LINE.fullmatch(first)
        assert line, f"no request line: {first!r}"
        path = line[2].decode()
        assert re.fullmatch("/open[a-z0-9]*", path), f"not allowed: {path}"
        fields: dict[bytes, list[bytes]] = {}
        for each in rest:
            field = _FIELD.fullmatch(each)
            assert field, f"no field: {each!r}"
            fields.setdefault(field[1].lower(), []).append(field[2])
        assert len(fields.get(b"host", [])) <= 1
        lengths, codings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
        assert not (lengths and codings), "two lengths"
        if codings:
            assert [each.lower() for each in codings] == [b"chunked"]
            left = _after_chunks(data)
        else:
            assert len(lengths) <= 1 and all(re.fullmatch(rb"[0-9]+", each) for each in lengths)
            size = int(lengths[0]) if lengths else 0
            left = data[size:] if len(data) >= size else None
        if left is None:
            return paths  # its body is not whole: nothing can follow
        paths.append(path)
        data = left
    return paths


def _after_chunks(data: bytes) -> bytes | None:
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            assert re.fullmatch(rb"[^\x00-\x08\x0a-\x0c\x0e-\x1f\x7f]*", line), f"no chunk: {line!r}"
            return None
        chunk = _CHUNK.fullmatch(line)
        assert chunk, f"no chunk: {line!r}"
        size = int(chunk[1], 16)
        if not size:
            break
        if len(data) < size + 2:
            return None
        assert data[size : size + 2] == b"\r\n"
        data = data[size + 2 :]
    while True:  # trailers
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None
        if not line:
            return data
        assert _FIELD.fullmatch(line), f"no trailer: {line!r}"


def seen_by_server(pieces: list[bytes]) -> bytes:
    """Say it piece by piece to a session whose server answers each whole request; return what the server got."""
    told: list[Exchange] = []
    session = Session(POLICY.decide, told.append)
    got, answered = b"", 0
    for piece in pieces:
        if session.is_over or session.is_broken:
            break
        session.from_client(piece)
        while True:
            got += b"".join(session.to_server)
            session.to_server.clear()
            if len(strictly_read(got)) == answered or session.is_over or session.is_broken:
                break
            answered += 1
            session.from_server(OK)
    return got


def post(fields: bytes, body: bytes = b"", line: bytes = b"POST /open HTTP/1.1") -> bytes:
    return line + b"\r\nHost: a\r\n" + fields + b"\r\n" + body


HIDDEN = b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CORPUS = {
    "CL.TE": post(b"Content-Length: 5\r\n" + CHUNKED, b"0\r\n\r\n"),
    "TE.CL": post(CHUNKED + b"Content-Length: 4\r\n", b"0\r\n\r\n"),
    "TE.TE": post(CHUNKED + b"Transfer-Encoding: x\r\n", b"0\r\n\r\n"),
    "TE of another": post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    "TE with a tab": post(b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n"),
    "two lengths": post(b"Content-Length: 0\r\nContent-Length: 9\r\n"),
    "length, plus": post(b"Content-Length: +0\r\n"),
    "length, comma": post(b"Content-Length: 0, 0\r\n"),
    "length, space": post(b"Content-Length: 1 0\r\n"),
    "length, negative": post(b"Content-Length: -1\r\n"),
    "obs-fold": post(b"X: a\r\n Content-Length: 9\r\n"),
    "bare LF": post(b"X: a\nContent-Length: 9\r\n"),
    "bare CR": post(b"X: a\rContent-Length: 9\r\n"),
    "NUL": post(b"X: a\0b\r\n"),
    "space before colon": post(b"Content-Length : 9\r\n"),
    "extension with LF": post(CHUNKED, b"1;a\nb\r\nx\r\n0\r\n\r\n"),
    "chunk size overflows": post(CHUNKED, b"10000000000000001\r\nx\r\n0\r\n\r\n"),
    "chunk size in 0x": post(CHUNKED, b"0x1\r\nx\r\n0\r\n\r\n"),
    "chunk without its end": post(CHUNKED, b"1\r\nxy0\r\n\r\n"),
    "second Host": post(b"Host: b\r\n"),
    "another Host": post(b"", line=b"GET http://b/open HTTP/1.1"),
    "h2c": post(b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"),
    "trailing garbage": post(b"", b"\0garbage\r\n\r\n"),
    "CONNECT": post(b"", line=b"CONNECT /open HTTP/1.1"),
}


@pytest.mark.parametrize("said", CORPUS.values(), ids=CORPUS)
@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_nothing_is_smuggled(said: bytes, size: int) -> None:
    said += HIDDEN
    got = seen_by_server([said[at : at + size] for at in range(0, len(said), size)])
    strictly_read(got)
    assert b"/secret" not in got


PARTS = (
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b",", b"+", b"0", b"1", b"f", b";a=b", CHUNKED, b"chunked",
    b"Content-Length: 3\r\n", b"Content-Length: 0\r\n", b"Host: b\r\n", b"0\r\n\r\n", b"Expect: 100-continue\r\n",
    b"Connection: close\r\n", b"HTTP/1.0", HIDDEN,
)  # fmt: skip
VALID = (
    post(b""), HIDDEN, post(b"Content-Length: 3\r\n", b"abc"), post(CHUNKED, b"3\r\nabc\r\n0\r\n\r\n"),
    post(CHUNKED, b"1;a=b\r\nx\r\n0\r\nX-T: y\r\n\r\n"),
    post(b"Content-Length: 3\r\n", b"abc", b"POST /secret HTTP/1.1"),
)  # fmt: skip


def test_random_streams_show_the_server_only_what_was_checked() -> None:
    passed = 0
    for seed in range(CASES):
        chance = random.Random(seed)
        said = bytearray(b"".join(chance.choices(VALID, k=chance.randint(1, 5))))
        for _ in range(chance.choice((0, 1, 1, 2, 4))):
            at = chance.randrange(len(said))
            said[at : at + chance.choice((0, 0, 1, 2))] = chance.choice(PARTS)
        cuts = sorted(chance.choices(range(len(said)), k=chance.randint(0, 6)))
        pieces = [bytes(said[a:b]) for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
        try:
            passed += len(strictly_read(seen_by_server(pieces)))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {pieces!r}: {error}") from error
    assert passed > CASES // 2  # it is not that nothing goes through
