"""One request over HTTP/2 while it is under way: what policy says of it, and where it is."""

from typing import NamedTuple

from l7proxy.exchange import Span
from l7proxy.http2.fields import Fields
from l7proxy.http2.request import Request


class Verdict(NamedTuple):
    """What policy says of one request. `fields`: what goes on instead of its own, where a rule mends headers.

    `told`, `why`, `span`: for the record.
    """

    allowed: bool
    fields: Fields | None = None
    told: tuple[bytes, ...] = ()
    why: str = ""
    span: Span | None = None


class Stream:
    """A request that was let through. `asked`, `answered`: the client, the server has ended its side."""

    __slots__ = ("answered", "asked", "began", "grpc_status", "left", "request", "span", "status", "told")

    def __init__(
        self, request: Request, began: int, asked: bool, told: tuple[bytes, ...], span: Span | None = None
    ) -> None:
        self.request, self.began, self.asked, self.told, self.span = request, began, asked, told, span
        self.left = request.length  # of the body, if the request says how long it is
        self.answered = False
        self.status = 0
        self.grpc_status: int | None = None
