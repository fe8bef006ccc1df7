"""One HTTP request and what became of it, whichever version it came in: what a flow record is made of."""

from typing import NamedTuple, Protocol

Fields = tuple[tuple[bytes, bytes], ...]  # lower-case name and value, in order


class Asked(Protocol):
    """What a request's head says: http1.head.Request or http2.request.Request. `path`: with its query."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def host(self) -> str: ...
    @property
    def fields(self) -> Fields: ...


class Span(NamedTuple):
    """A request as a step of a trace, in hexadecimal digits: 32, 16, and 16 or none if the trace begins here."""

    trace: bytes
    id: bytes
    parent: bytes


class Exchange(NamedTuple):
    """One request, told of once, when it is over.

    `allowed`: by policy; what comes of it may still be a refusal of ours, and `why` says so. `told`: names of headers
    that were not as a rule says.
    """

    protocol: str  # "HTTP/1.1", "HTTP/2"
    request: Asked | None  # None: it could not be read, or the connection itself was at fault
    status: int  # 0: it was never answered
    allowed: bool
    began_ns: int
    ended_ns: int
    why: str = ""
    grpc_status: int | None = None
    told: tuple[bytes, ...] = ()
    span: Span | None = None
