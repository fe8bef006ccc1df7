"""Queries and responses, read strictly; the bytes that go on are those that came (RFC 1035, 4; RFC 6891, 6.1).

What is judged must be what the server sees: exactly one question, its name written out, nothing behind the end. What is
learned must be what was asked: addresses count only where a chain of CNAMEs leads to them from the question.
"""

import enum
import socket
import struct
from typing import NamedTuple

from l7proxy.dns.name import HEADER_SIZE, Malformed, Names, after

IN = 1  # the class
MAX_CHAIN = 16  # CNAMEs that are followed
PAYLOAD = 1232  # bytes of a datagram that our own answers say we take

_HEADER = struct.Struct("!6H")
_QUESTION = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_OPT = struct.Struct("!BHHIH")
_MAX_ADDITIONAL = 8  # records of a query: OPT, a signature
_RESPONSE, _OPCODE, _TRUNCATED, _DESIRED, _AVAILABLE, _UNCHECKED = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080, 0x0010
_DNSSEC_OK = 0x8000  # of an OPT's flags
_MAPPED = b"\x00" * 10 + b"\xff\xff"
_PROHIBITED = struct.pack("!HHH", 15, 2, 18)  # RFC 8914: an extended error


class Type(enum.IntEnum):
    """The types of records that mean something here; IXFR to MAILA ask for more than one name's records."""

    A = 1
    CNAME = 5
    AAAA = 28
    OPT = 41
    IXFR = 251
    AXFR = 252
    MAILB = 253
    MAILA = 254


class Rcode(enum.IntEnum):
    """What a response says of its query, where we say it or look at it."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


class Query(NamedTuple):
    """`name`: canonical, to be judged. `question`: as it came, with the case it came in. `edns`: an OPT's flags."""

    id: int
    flags: int
    name: str
    type: int
    klass: int
    question: bytes
    edns: int | None


class Answer(NamedTuple):
    """`addresses`, in order, are those that `cnames`, in order, lead to. `ttl`: seconds, the least of all of these."""

    id: int
    rcode: int
    truncated: bool
    name: str
    type: int
    klass: int
    addresses: tuple[str, ...]
    cnames: tuple[str, ...]
    ttl: int


def query(data: bytes) -> Query:
    """Read a query; raises Malformed, which says what to answer."""
    if len(data) < HEADER_SIZE:
        raise Malformed("it is shorter than a header", None)
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if flags & _RESPONSE:
        raise Malformed("it is a response", None)  # to answer it could go on for ever
    if flags & _OPCODE:
        raise Malformed("its opcode is not QUERY", Rcode.NOTIMP)
    if questions != 1:
        raise Malformed(f"it has {questions} questions")  # RFC 9619
    if answers or authorities or additional > _MAX_ADDITIONAL:
        raise Malformed("it has records that no query has")
    name, kind, klass, at = _question(data, Names(data))
    question = data[HEADER_SIZE:at]
    edns = None
    for _ in range(additional):
        end = after(data, at)
        found, _size, ttl, behind = _record(data, end)
        if found == Type.OPT:
            if edns is not None or end != at + 1:
                raise Malformed("it has an OPT that is not the only one, or not the root's")  # RFC 6891, 6.1.1
            edns = ttl & 0xFFFF
        at = behind
    if at != len(data):
        raise Malformed("bytes follow its end")
    return Query(ident, flags, name, kind, klass, question, edns)


def answer(data: bytes) -> Answer:
    """Read a response; raises Malformed. One that says that it is truncated counts as far as it is whole."""
    if len(data) < HEADER_SIZE:
        raise Malformed("it is shorter than a header")
    ident, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data)
    if not flags & _RESPONSE or flags & _OPCODE or questions != 1:
        raise Malformed("it is not the response to a query")
    names = Names(data)
    name, kind, klass, at = _question(data, names)
    truncated = bool(flags & _TRUNCATED)
    rcode = flags & 0xF
    aliases: dict[str, tuple[str, int]] = {}
    found: list[tuple[str, str, int]] = []
    try:
        for _ in range(answers):
            owner, at = names.read(at)
            what, of, ttl, end = _record(data, at)
            if of == IN and what in (Type.A, Type.AAAA):
                found.append((owner, _address(what, data[at + _RECORD.size : end]), ttl))
            elif of == IN and what == Type.CNAME:
                target, behind = names.read(at + _RECORD.size)
                if behind != end:
                    raise Malformed("a CNAME is not one name")
                aliases.setdefault(owner, (target, ttl))
            at = end
        for _ in range(authorities + additional):
            at = after(data, at)
            what, of, ttl, at = _record(data, at)
            if what == Type.OPT:
                rcode |= ttl >> 24 << 4  # RFC 6891, 6.1.3: the upper bits
        if at != len(data):
            raise Malformed("bytes follow its end")
    except Malformed:
        if not truncated:
            raise
    addresses, cnames, least = _chain(name, aliases, found)
    return Answer(ident, rcode, truncated, name, kind, klass, addresses, cnames, least)


def is_answered_by(asked: Query, found: Answer) -> bool:
    """Tell whether the response has the query's question; the case of its name may have been lost on the way."""
    return (asked.name, asked.type, asked.klass) == (found.name, found.type, found.klass)


def refused(asked: Query) -> bytes:
    """Return the answer to what policy denies; it says so to those who understand extended errors."""
    return _reply(asked, Rcode.REFUSED, _PROHIBITED)


def servfail(asked: Query) -> bytes:
    """Return the answer to what nobody answered."""
    return _reply(asked, Rcode.SERVFAIL)


def not_implemented(asked: Query) -> bytes:
    """Return the answer to what is never asked through us."""
    return _reply(asked, Rcode.NOTIMP)


def failed(data: bytes, rcode: int) -> bytes:
    """Return the answer to a query that could not be read but for its header."""
    ident, flags = _QUESTION.unpack_from(data)
    return _HEADER.pack(ident, _RESPONSE | flags & (_OPCODE | _DESIRED) | rcode, 0, 0, 0, 0)


def with_id(data: bytes, ident: int) -> bytes:
    """Return the message under another id."""
    return ident.to_bytes(2, "big") + data[2:]


def _question(data: bytes, names: Names) -> tuple[str, int, int, int]:
    """Return name, type and class, and where the question ends; nothing is before it that it could point to."""
    name, at = names.read(HEADER_SIZE)
    if at + _QUESTION.size > len(data):
        raise Malformed("its question is cut short")
    kind, klass = _QUESTION.unpack_from(data, at)
    return name, kind, klass, at + _QUESTION.size


def _record(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Return type, class and TTL of the record whose name ends at `at`, and where it ends."""
    end = at + _RECORD.size
    if end > len(data):
        raise Malformed("a record is cut short")
    kind, klass, ttl, length = _RECORD.unpack_from(data, at)
    end += length
    if end > len(data):
        raise Malformed("a record is cut short")
    return kind, klass, ttl, end


def _address(kind: int, data: bytes) -> str:
    if len(data) != (4 if kind == Type.A else 16):
        raise Malformed("an address has a wrong length")
    if len(data) == 16 and data.startswith(_MAPPED):
        data = data[12:]  # a connection to it is one to the IPv4 address
    return socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)


def _chain(
    name: str, aliases: dict[str, tuple[str, int]], found: list[tuple[str, str, int]]
) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Return the addresses that a chain from `name` leads to, the chain's names behind it, and the least TTL."""
    cnames: dict[str, None] = {}
    ttls: list[int] = []
    at = name
    while at in aliases and len(cnames) < MAX_CHAIN:
        at, ttl = aliases.pop(at)
        cnames[at] = None
        ttls.append(ttl)
    addresses: dict[str, None] = {}
    for owner, address, ttl in found:
        if owner == name or owner in cnames:
            addresses[address] = None
            ttls.append(ttl)
    # RFC 2181, 8: one with the highest bit set is none.
    return tuple(addresses), tuple(cnames), min((ttl if ttl < 1 << 31 else 0 for ttl in ttls), default=0)


def _reply(asked: Query, rcode: Rcode, option: bytes = b"") -> bytes:
    flags = _RESPONSE | asked.flags & (_DESIRED | _UNCHECKED) | rcode
    if asked.flags & _DESIRED:
        flags |= _AVAILABLE  # to those whom we let ask
    head = _HEADER.pack(asked.id, flags, 1, 0, 0, asked.edns is not None) + asked.question
    if asked.edns is None:
        return head
    return head + _OPT.pack(0, Type.OPT, PAYLOAD, asked.edns & _DNSSEC_OK, len(option)) + option
