"""A request's head, from its fields: read strictly, because what is decided on must be what the server sees.

Pseudo-headers come first and once, and a request names one host (RFC 9113, 8.3.1).
"""

import functools
from collections.abc import Iterable
from typing import NamedTuple

from l7proxy.http2 import fields
from l7proxy.http2.fields import Fields, Known, Malformed

_CACHED = 4096  # blocks; clients send the same again and again
_MAX_CACHED = 1024  # bytes of one


class Request(NamedTuple):
    """What a request's head says. `path`: with its query; `length`: of the body in bytes, if it says so."""

    method: str
    path: str
    host: str
    fields: Fields  # without the pseudo-headers
    is_grpc: bool
    length: int | None
    pseudo: Fields  # as they came


def read(block: bytes) -> Request:
    """Read a block that leans on no table; raises Malformed, hpack.TooLarge, frames.Broken."""
    return _read_again(block) if len(block) <= _MAX_CACHED else of(fields.walk(block))


def of(known: Iterable[Known]) -> Request:
    """Return the request that has these fields, in their order; raises Malformed."""
    pseudo: dict[bytes, bytes] = {}
    plain: list[tuple[bytes, bytes]] = []
    host: bytes | None = None
    length: int | None = None
    is_grpc = False
    for field, kind in known:
        if kind == fields.ASKS:
            if plain or field[0] in pseudo:
                raise Malformed("a pseudo-header is not at the start, or there twice")
            pseudo[field[0]] = field[1]
            continue
        plain.append(field)
        if kind == fields.PLAIN:
            continue
        if kind == fields.STATUS:
            raise Malformed("a request has a :status")
        if kind == fields.HOST:
            if host is not None:
                raise Malformed("there is more than one host")
            host = field[1]
        elif kind == fields.LENGTH:
            if length is not None:
                raise Malformed("there is more than one content-length")
            length = int(field[1])
        elif kind == fields.GRPC:
            is_grpc = True
    method, path = _target(pseudo)
    authority = pseudo.get(b":authority", host)
    if authority is None:
        raise Malformed("a request names no host")
    if host is not None and host.lower() != authority.lower():
        raise Malformed("host is not what :authority says")
    return Request(method, path, authority.decode().lower(), tuple(plain), is_grpc, length, tuple(pseudo.items()))


def _target(pseudo: dict[bytes, bytes]) -> tuple[str, str]:
    """Return method and path; CONNECT has an authority instead of one (RFC 9113, 8.5)."""
    method, path = pseudo.get(b":method"), pseudo.get(b":path")
    if method == b"CONNECT":
        if path is not None or b":scheme" in pseudo or b":authority" not in pseudo:
            raise Malformed("CONNECT has a :path or a :scheme, or no :authority")
        return "CONNECT", ""
    if method is None or path is None or b":scheme" not in pseudo:
        raise Malformed("a request lacks :method, :scheme or :path")
    if path == b"*" and method != b"OPTIONS":
        raise Malformed("the path is * but the method is not OPTIONS")
    return method.decode(), path.decode()


@functools.lru_cache(maxsize=_CACHED)
def _read_again(block: bytes) -> Request:
    return of(fields.walk(block))
