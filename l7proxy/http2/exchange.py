"""One request over HTTP/2: what policy says of it, where it is, and what the record tells of it."""

from typing import NamedTuple

from l7proxy.http2.fields import Fields
from l7proxy.http2.request import Request


class Verdict(NamedTuple):
    """What policy says of one request. `fields`: what goes on instead of its own, where a rule mends headers."""

    allowed: bool
    fields: Fields | None = None


class Exchange(NamedTuple):
    """One request and what became of it, for the record. `status` 0: it was never answered."""

    request: Request | None  # None: it could not be read, or the connection itself was at fault
    status: int
    allowed: bool
    began_ns: int
    ended_ns: int
    why: str = ""
    grpc_status: int | None = None


class Stream:
    """A request that was let through. `asked`, `answered`: the client, the server has ended its side."""

    __slots__ = ("answered", "asked", "began", "grpc_status", "left", "request", "status")

    def __init__(self, request: Request, began: int, asked: bool) -> None:
        self.request, self.began, self.asked = request, began, asked
        self.left = request.length  # of the body, if the request says how long it is
        self.answered = False
        self.status = 0
        self.grpc_status: int | None = None
