"""What a server's header blocks say that a record tells of: the status, and gRPC's own (RFC 9113, 8.3.2)."""

import functools
from typing import NamedTuple

from l7proxy.http2 import fields
from l7proxy.http2.fields import Malformed

_CACHED = 1024  # blocks
_MAX_CACHED = 1024  # bytes of one


class Answer(NamedTuple):
    """`status` 0: these are trailers. `grpc_status` None: it says none that is a number."""

    status: int
    grpc_status: int | None


def read(block: bytes) -> Answer:
    """Read a block that leans on no table; raises Malformed, hpack.TooLarge, frames.Broken."""
    return _read_again(block) if len(block) <= _MAX_CACHED else _read(block)


def _read(block: bytes) -> Answer:
    status, grpc_status = 0, None
    for at, ((_, value), kind) in enumerate(fields.walk(block)):
        if kind == fields.STATUS:
            if at:
                raise Malformed(":status is not at the start, or there twice")
            status = int(value)
        elif kind == fields.ASKS:
            raise Malformed("an answer has the pseudo-header of a request")
        elif kind == fields.GRPC_STATUS and value.isdigit() and len(value) <= 3:
            grpc_status = int(value)
    return Answer(status, grpc_status)


_read_again = functools.lru_cache(maxsize=_CACHED)(_read)
