"""A request's head, from its fields: read strictly, because what is decided on must be what the server sees.

Pseudo-headers come first and once, and a request names one host (RFC 9113, 8.3.1). A client's blocks are much alike:
`Reader` reads only what has changed.
"""

from collections.abc import Iterable
from typing import NamedTuple

from l7proxy.http2 import fields, hpack
from l7proxy.http2.fields import Fields, Known, Malformed
from l7proxy.http2.frames import Broken

_KEPT = 4096  # blocks; clients send the same again and again
_MAX_KEPT = 1024  # bytes of one
_MAX_ALIKE = 64  # fields; blocks with more are read in full
_kept: dict[bytes, "Request"] = {}


class Request(NamedTuple):
    """What a request's head says. `path`: with its query; `length`: of the body in bytes, if it says so."""

    method: str
    path: str
    host: str
    fields: Fields  # without the pseudo-headers
    is_grpc: bool
    length: int | None
    pseudo: Fields  # as they came


def read(block: bytes, most: int = hpack.MAX_LIST) -> Request:
    """Read a block that leans on no table; raises Malformed, hpack.TooLarge, frames.Broken."""
    return of(fields.walk(block, most))


class _Alike(NamedTuple):
    """Blocks that begin and end with the same whole fields, with plain ones between (`traceparent`, `grpc-timeout`)."""

    start: bytes
    end: bytes
    request: Request
    before: Fields  # those of the start, but for the pseudo-headers
    after: Fields

    def read(self, block: bytes) -> Request | None:
        """Return what `read` returns, None if this block is not alike."""
        middle = block[len(self.start) : len(block) - len(self.end)]
        if middle[:1] == hpack.TO_NO_TABLE:
            return None
        found: list[hpack.Field] = []
        try:
            for piece in hpack.pieces(middle):
                field, kind = fields.known(hpack.field(piece))
                if kind != fields.PLAIN:
                    return None
                found.append(field)
        except Broken:
            return None
        if len(self.before) + len(found) + len(self.after) > _MAX_ALIKE:
            return None
        like = self.request
        changed = (*self.before, *found, *self.after)
        return Request(like.method, like.path, like.host, changed, like.is_grpc, like.length, like.pseudo)


class Reader:
    """`read` for the blocks of one client, one after the other. `most`: the same for all clients of a process."""

    __slots__ = ("_alike", "_pieces", "most")

    def __init__(self, most: int = hpack.MAX_LIST) -> None:
        self.most = most
        self._alike: _Alike | None = None
        self._pieces: list[bytes] = []  # of the last block that was read in full

    def read(self, block: bytes) -> Request:
        """Read a block that leans on no table; raises Malformed, hpack.TooLarge, frames.Broken."""
        if len(block) > _MAX_KEPT:
            return read(block, self.most)
        request = _kept.get(block)
        if request is not None:
            return request
        alike = self._alike
        if (
            alike is not None
            and block.startswith(alike.start)
            and block.endswith(alike.end)
            and len(block) >= len(alike.start) + len(alike.end)
            and (request := alike.read(block)) is not None
        ):
            return request
        known = fields.walk(block, self.most)
        request = of(known)
        self._compare(hpack.pieces(block), known, request)
        if len(_kept) >= _KEPT:
            _kept.clear()
        _kept[block] = request
        return request

    def _compare(self, pieces: list[bytes], known: list[Known], request: Request) -> None:
        """Learn from two blocks in which few fields differ."""
        last, self._pieces = self._pieces, pieces
        differ = [at for at, (one, other) in enumerate(zip(pieces, last, strict=False)) if one != other]
        if not differ or len(pieces) != len(last):
            return
        first, end = differ[0], differ[-1] + 1
        if any(kind != fields.PLAIN for _, kind in known[first:end]):
            return
        before = tuple(field for field, kind in known[:first] if kind != fields.ASKS)
        after = tuple(field for field, _ in known[end:])
        self._alike = _Alike(b"".join(pieces[:first]), b"".join(pieces[end:]), request, before, after)


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
