"""The head of a request or a response: read strictly, because what is decided on must be what the server sees.

The bytes go on as they came, so whatever two readers might read in two ways is refused: no bare LF, no folded lines, no
space before a colon, no second Host or Content-Length, no length beside chunks (RFC 9112, 2.2, 5 and 6).
"""

import functools
import re
from collections.abc import Mapping
from typing import NamedTuple

from l7proxy.exchange import Fields

MAX_HEAD = 64 << 10  # bytes, where nobody says otherwise
_MAX_START = 64  # bytes that are looked at of a head that is not whole
_CACHED = 4096  # heads; clients that keep a connection send the same again and again
_MAX_CACHED = 1024  # bytes of one

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"(%b) ([\x21-\x7e]{1,16384}) HTTP/1\.([01])\r\n" % _TOKEN)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_FIELDS = re.compile(rb"(?:%b:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n" % _TOKEN)
_FIELD = re.compile(rb"([^:]+):([^\r]*)\r\n")
_AUTHORITY = re.compile(rb"(?:[-._~!$&'()*+,;=0-9A-Za-z%]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]+)([/?].*)?", re.IGNORECASE | re.DOTALL)
_LENGTH = re.compile(rb"[0-9]{1,18}")
_OFFERS = frozenset((b"upgrade", b"http2-settings"))
_START = re.compile(rb"(?:\r\n)*(?:\r?\Z|%b(?: |\Z))" % _TOKEN)
_HTTP_AGAIN = re.compile(rb"(?i)(?:^|,)[\t ]*(?:h2c?|http|tls)[\t ]*(?:[/,]|$)")  # what an upgrade would make of it


class Malformed(ValueError):
    """A head that nobody should act on; the text says why, for the record."""


class Request(NamedTuple):
    """What a request's head says. `length`: of the body in bytes, None: it is chunked. `path`: with its query."""

    method: str
    path: str
    host: str
    minor: int  # of the version, HTTP/1.x
    fields: Fields
    length: int | None
    keeps: bool  # the connection, when the exchange is over
    upgrade: bool
    expects: bool  # a 100 before the body
    offers_http: bool = False  # to go on in another version of HTTP: nobody would judge what comes then


class Response(NamedTuple):
    """What a response's head says. `length` None: chunked; -1: the body ends with the connection."""

    status: int
    minor: int
    fields: Fields
    length: int | None
    keeps: bool


def end_of(data: bytes | bytearray, start: int = 0, most: int = MAX_HEAD) -> int:
    """Return where the head ends that begins at `start`, 0 if it has not ended yet; raises Malformed when too long."""
    at = data.find(b"\r\n\r\n", start)
    if at < 0:
        if len(data) - start > most:
            raise Malformed(f"the head is longer than {most} bytes")
        return 0
    if at + 4 - start > most:
        raise Malformed(f"the head is longer than {most} bytes")
    return at + 4


def check_start(data: bytes) -> None:
    """Raises Malformed for the first bytes of what will be no request, however it goes on."""
    if not _START.match(data, 0, _MAX_START):
        raise Malformed("the request line is not METHOD TARGET HTTP/1.x")


def anew(head: bytes, fields: Fields) -> bytes:
    """Return a head with the same first line and these fields."""
    line = head[: head.index(b"\r\n") + 2]
    return b"".join((line, *(b"%b: %b\r\n" % field for field in fields), b"\r\n"))


def changed(head: bytes, changes: Mapping[bytes, bytes | None]) -> bytes:
    """Return a head in which these fields, by lower-case name, have these values, each once, or are gone (None). All
    else is as it came, to the byte.

    >>> changed(b"GET / HTTP/1.1\\r\\nHost:x\\r\\nB3: 1\\r\\n\\r\\n", {b"b3": b"0"})
    b'GET / HTTP/1.1\\r\\nHost:x\\r\\nB3: 0\\r\\n\\r\\n'
    """
    start = head.index(b"\r\n") + 2
    parts, left = [head[:start]], dict(changes)
    for field in _FIELD.finditer(head, start, len(head) - 2):
        name = field[1].lower()
        if name not in changes:
            parts.append(field[0])
        elif (value := left.pop(name, None)) is not None:
            parts.append(b"%b: %b\r\n" % (field[1], value))
    parts += [b"%b: %b\r\n" % (name, value) for name, value in left.items() if value is not None]
    return b"".join((*parts, b"\r\n"))


def closing(head: bytes) -> bytes:
    """Return a response's head saying that the connection ends with it (RFC 9112, 9.6), before what else it says of it.

    >>> closing(b"HTTP/1.1 200 OK\\r\\n\\r\\n")
    b'HTTP/1.1 200 OK\\r\\nconnection: close\\r\\n\\r\\n'
    """
    at = head.index(b"\r\n") + 2
    return head[:at] + b"connection: close\r\n" + head[at:]


def without_offer(fields: Fields) -> Fields:
    """Return the fields of a request that offers to go on in another version of HTTP, as if it did not."""
    options = b", ".join(sorted(_options(fields) - _OFFERS))
    going = tuple(field for field in fields if field[0] not in _OFFERS and field[0] != b"connection")
    return (*going, (b"connection", options)) if options else going


def request(head: bytes) -> Request:
    """Read a request's head, with its empty line; raises Malformed."""
    return _request_again(head) if len(head) <= _MAX_CACHED else _request(head)


def response(head: bytes, method: str) -> Response:
    """Read the head of a response to a request with that method; raises Malformed."""
    return _response_again(head, method) if len(head) <= _MAX_CACHED else _response(head, method)


def _request(head: bytes) -> Request:
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise Malformed("the request line is not METHOD TARGET HTTP/1.x")
    method, target, minor = line[1].decode(), line[2], int(line[3])
    fields = _fields(head, line.end())
    named = dict(fields)
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1:
        raise Malformed("there is more than one Host")
    if minor == 1 and not hosts:
        raise Malformed("there is no Host")
    host = hosts[0] if hosts else b""
    if not _AUTHORITY.fullmatch(host):
        raise Malformed("the Host is not a name or an address, with a port or without")
    path, host = _path(method, target, host)
    length = _length(fields, minor, default=0)
    options = _options(fields)
    keeps = b"close" not in options and (minor == 1 or b"keep-alive" in options)
    expects = named.get(b"expect", b"").lower() == b"100-continue"
    if b"expect" in named and not expects:
        raise Malformed("Expect is not 100-continue")
    offers_http = any(_HTTP_AGAIN.search(value) for name, value in fields if name == b"upgrade")
    upgrade = b"upgrade" in named and b"upgrade" in options and not offers_http
    expects = expects and length != 0
    return Request(method, path, host.decode().lower(), minor, fields, length, keeps, upgrade, expects, offers_http)


def _response(head: bytes, method: str) -> Response:
    line = _STATUS_LINE.match(head)
    if line is None:
        raise Malformed("the status line is not HTTP/1.x STATUS REASON")
    minor, status = int(line[1]), int(line[2])
    fields = _fields(head, line.end())
    length = _length(fields, minor, default=-1)
    if status < 200 or status in (204, 304) or method == "HEAD" or (method == "CONNECT" and status < 300):
        length = 0  # RFC 9112, 6.3: whatever the fields say
    options = _options(fields)
    keeps = length != -1 and b"close" not in options and (minor == 1 or b"keep-alive" in options)
    return Response(status, minor, fields, length, keeps)


_request_again = functools.lru_cache(maxsize=_CACHED)(_request)
_response_again = functools.lru_cache(maxsize=_CACHED)(_response)


def _fields(head: bytes, start: int) -> Fields:
    if not _FIELDS.fullmatch(head, start):
        raise Malformed("a header line is not NAME: VALUE")
    found = _FIELD.finditer(head, start, len(head) - 2)
    # An expression that looked for the blanks itself would try each of thousands in a row as where the value ends.
    return tuple((match[1].lower(), match[2].strip(b" \t")) for match in found)


def _path(method: str, target: bytes, host: bytes) -> tuple[str, bytes]:
    """Return path and host of a target (RFC 9112, 3.2); its own authority counts, and must be what Host says."""
    if method == "CONNECT":
        if not _AUTHORITY.fullmatch(target):
            raise Malformed("the target of CONNECT is not HOST:PORT")
        return "", target
    if target.startswith(b"/") or (target == b"*" and method == "OPTIONS"):
        return target.decode(), host
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not _AUTHORITY.fullmatch(absolute[1]):
        raise Malformed("the target is neither a path nor http://HOST/PATH")
    if host and absolute[1].lower() != host.lower():
        raise Malformed("the target's host is not the Host")
    rest = absolute[2] or b"/"
    return (rest if rest.startswith(b"/") else b"/" + rest).decode(), absolute[1]


def _length(fields: Fields, minor: int, default: int) -> int | None:
    """Return the length of the body, None for chunks."""
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if codings:
        if lengths:
            raise Malformed("there is a Content-Length beside a Transfer-Encoding")
        if minor == 0 or [coding.lower() for coding in codings] != [b"chunked"]:
            raise Malformed("Transfer-Encoding is not chunked, once")
        return None
    if not lengths:
        return default
    if len(lengths) > 1 or not _LENGTH.fullmatch(lengths[0]):
        raise Malformed("Content-Length is not one number")
    return int(lengths[0])


def _options(fields: Fields) -> set[bytes]:
    """Return the options of all Connection fields."""
    return {
        option.strip(b" \t").lower() for name, value in fields if name == b"connection" for option in value.split(b",")
    }
