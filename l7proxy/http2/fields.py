"""Single header fields: which may be there at all, and which of them say more than others (RFC 9113, 8.2 and 8.3).

What may be read in two ways by the next reader, which may speak HTTP/1.1, is refused.
"""

import functools
import re

from l7proxy.http2 import hpack
from l7proxy.http2.hpack import Field

Fields = tuple[Field, ...]

PLAIN, ASKS, STATUS, HOST, LENGTH, GRPC, GRPC_STATUS = range(
    7
)  # what a field is to us; ASKS: a request's pseudo-header
Known = tuple[Field, int]  # one that is well-formed, and what it is

_CACHED = 4096  # fields; most are the same in each request
_MAX_CACHED = 2048  # bytes of a block whose fields are kept
_MOST_OF_CACHED = 20 << 10  # bytes of its fields, were all of it Huffman's shortest and the names the table's longest

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_PSEUDO = {
    b":method": re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}"),
    b":scheme": re.compile(rb"https?"),
    b":authority": re.compile(rb"(?:[-._~!$&'()*+,;=0-9A-Za-z%]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?"),
    b":path": re.compile(rb"(?:/[\x21-\x7e]{0,16383}|\*)"),
    b":status": re.compile(rb"[1-5][0-9][0-9]"),
}
_HOST = _PSEUDO[b":authority"]
_LENGTH = re.compile(rb"[0-9]{1,18}")
_OF_A_CONNECTION = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_SPECIAL = _OF_A_CONNECTION | {b"te", b"host", b"content-length", b"content-type", b"grpc-status"}


class Malformed(ValueError):
    """A message that nobody should act on; the text says why, for the record."""


def known(field: Field) -> Known:
    """Return what a field is; raises Malformed."""
    name, value = field
    if pseudo := _PSEUDO.get(name):
        if not pseudo.fullmatch(value):
            raise Malformed(f"{name.decode()} is not what it may be")
        return field, STATUS if name == b":status" else ASKS
    if not _NAME.fullmatch(name):
        raise Malformed("a field's name is not a token in lower case")
    if not _VALUE.fullmatch(value):
        raise Malformed(f"the value of {name.decode()} is not text, or has blanks around it")
    if name not in _SPECIAL:
        return field, PLAIN
    if name in _OF_A_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
        raise Malformed(f"{name.decode()} is about a connection of HTTP/1.1")
    if name == b"host":
        if not _HOST.fullmatch(value):
            raise Malformed("host is not a name or an address, with a port or without")
        return field, HOST
    if name == b"content-length":
        if not _LENGTH.fullmatch(value):
            raise Malformed("content-length is not a number")
        return field, LENGTH
    if name == b"grpc-status":
        return field, GRPC_STATUS
    return field, GRPC if name == b"content-type" and value.lower().startswith(b"application/grpc") else PLAIN


def _read(piece: bytes) -> Known:
    return known(hpack.field(piece))


_read_again = functools.lru_cache(maxsize=_CACHED)(_read)


def walk(block: bytes, most: int = hpack.MAX_LIST) -> list[Known]:
    """Return the fields of a block that leans on no table; raises Malformed, hpack.TooLarge, frames.Broken."""
    pieces = hpack.pieces(block)
    if len(pieces) > hpack.MAX_FIELDS:
        raise hpack.TooLarge(most)
    if len(block) <= _MAX_CACHED and most >= _MOST_OF_CACHED:  # so few bytes cannot become too many
        return list(map(_read_again, pieces))
    found = [hpack.field(piece) for piece in pieces]
    if hpack.size(found) > most:
        raise hpack.TooLarge(most)
    return [known(each) for each in found]


def check_trailers(found: list[Known]) -> None:
    """Raises Malformed for what a message's end may not say: what its head has said (RFC 9110, 6.5.1)."""
    if any(kind in (ASKS, STATUS, HOST, LENGTH) for _, kind in found):
        raise Malformed("the trailers say what only a head may say")
