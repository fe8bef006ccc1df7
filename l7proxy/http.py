"""An HTTP client's connection in whichever version it speaks: one function judges each request, one is told of it.

HTTP/2 is known by its preface (RFC 9113, 3.4); all else is for HTTP/1 to read, or to refuse. What a rule mends goes on
mended. A rule that would change how a message is read or where it goes lets nothing through: it asks for what cannot
be done, and the record says so.

    session = Session(policy.decide, tell)         # for the rest see edge/link.py
"""

from collections.abc import Callable, Iterable

from l7proxy import tracing
from l7proxy.exchange import Exchange, Fields
from l7proxy.http1 import head
from l7proxy.http1.session import Session as Http1
from l7proxy.http1.session import Verdict as Http1Verdict
from l7proxy.http2 import fields
from l7proxy.http2.exchange import Verdict as Http2Verdict
from l7proxy.http2.frames import PREFACE
from l7proxy.http2.request import Request
from l7proxy.http2.session import Session as Http2
from l7proxy.policy.requests import ALLOWED, DENIED, Change, Decision, mended

Decide = Callable[[str, str, str, Fields], Decision]  # method, path, host and fields: Policy.decide

_NOBODY = tracing.Tracer()
_GOES_ON_1, _GOES_ON_2 = Http1Verdict(True), Http2Verdict(True)
_DENIED_1, _DENIED_2 = Http1Verdict(False), Http2Verdict(False)
# Of fields that may be in any request, those that a rule may not change; the others are not fields.PLAIN.
_NOT_A_RULES = frozenset((b"te", b"trailer", b"expect", b"http2-settings"))


class Session:
    """`decide`: asked once for each request; `tell`: told of each exchange when it is over; `most`: bytes of a
    request's head. See http1.Session.

    `becomes`: the session of the version, when it is known, which whoever is in a hurry may use in place of this one.
    """

    __slots__ = ("_decide", "_first", "_most", "_session", "_tell", "_tracer", "becomes")

    def __init__(
        self,
        decide: Decide,
        tell: Callable[[Exchange], None],
        tracer: tracing.Tracer | None = None,
        most: int = head.MAX_HEAD,
    ) -> None:
        self._decide, self._tell, self._most = decide, tell, most
        self._tracer = tracer or _NOBODY
        self._first: bytes | None = b""  # what may become the preface; None: the version is known
        self._session: Http1 | Http2 = Http1(for_http1(decide, self._tracer), tell, most)
        self.becomes: Http1 | Http2 | None = None

    def from_client(self, data: bytes) -> None:
        if self._first is not None:
            data = self._first + data
            if len(data) < len(PREFACE) and PREFACE.startswith(data):
                self._first = data
                return
            self._first = None
            if data.startswith(PREFACE):
                self._session = Http2(for_http2(self._decide, self._tracer), self._tell, self._most)
            self.becomes = self._session
        self._session.from_client(data)

    def from_server(self, data: bytes) -> None:
        self._session.from_server(data)

    def client_ended(self) -> None:
        self._session.client_ended()

    def server_ended(self) -> None:
        self._session.server_ended()

    def failed(self, why: str) -> None:
        self._session.failed(why)

    def lost(self, why: str) -> None:
        self._session.lost(why)

    @property
    def to_server(self) -> list[bytes]:
        return self._session.to_server

    @property
    def to_client(self) -> list[bytes]:
        return self._session.to_client

    @property
    def is_over(self) -> bool:
        return self._session.is_over

    @property
    def is_broken(self) -> bool:
        return self._session.is_broken

    @property
    def is_idle(self) -> bool:
        return not self._first and self._session.is_idle

    @property
    def waits_for_head(self) -> bool:
        return bool(self._first) or self._session.waits_for_head

    def drain(self) -> None:
        self._session.drain()

    def cut(self, why: str) -> None:
        self._session.cut(why)

    @property
    def ends_client(self) -> bool:
        return self._session.ends_client

    @property
    def ends_server(self) -> bool:
        return self._session.ends_server

    @property
    def waits_for_client(self) -> bool:
        return self._session.waits_for_client


def for_http1(decide: Decide, tracer: tracing.Tracer = _NOBODY) -> Callable[[head.Request, bytes], Http1Verdict]:
    """Return what an http1.Session asks; a head is written anew only where it must not go on as it came."""

    def judge(request: head.Request, whole: bytes) -> Http1Verdict:
        found = decide(request.method, request.path, request.host, request.fields)
        traced = None if tracer.ratio is None else tracer.begin(request.fields)
        is_plain = found is ALLOWED and not request.offers_http
        verdict = _GOES_ON_1 if is_plain else _verdict_1(found, request, whole)
        if traced is None:
            return verdict
        span, changes = traced
        return verdict._replace(
            head=head.changed(verdict.head or whole, changes) if verdict.allowed else None, span=span
        )

    return judge


def _verdict_1(found: Decision, request: head.Request, whole: bytes) -> Http1Verdict:
    if not found.allowed:
        return _DENIED_1 if found is DENIED else Http1Verdict(False, None, found.told)
    if why := unmendable(found.changes):
        return Http1Verdict(False, None, found.told, why)
    if not found.changes and not request.offers_http:
        return Http1Verdict(True, None, found.told)
    going = head.without_offer(request.fields) if request.offers_http else request.fields
    return Http1Verdict(True, head.anew(whole, mended(going, found.changes)), found.told)


def for_http2(decide: Decide, tracer: tracing.Tracer = _NOBODY) -> Callable[[Request], Http2Verdict]:
    """Return what an http2.Session asks."""

    def judge(request: Request) -> Http2Verdict:
        found = decide(request.method, request.path, request.host, request.fields)
        traced = None if tracer.ratio is None else tracer.begin(request.fields)
        verdict = _GOES_ON_2 if found is ALLOWED else _verdict_2(found, request)
        if traced is None:
            return verdict
        span, changes = traced
        going = request.fields if verdict.fields is None else verdict.fields
        return verdict._replace(fields=tracing.applied(going, changes) if verdict.allowed else None, span=span)

    return judge


def _verdict_2(found: Decision, request: Request) -> Http2Verdict:
    if not found.allowed:
        return _DENIED_2 if found is DENIED else Http2Verdict(False, None, found.told)
    if why := unmendable(found.changes):
        return Http2Verdict(False, None, found.told, why)
    return Http2Verdict(True, mended(request.fields, found.changes) if found.changes else None, found.told)


def unmendable(changes: Iterable[Change]) -> str:
    """Return why a rule's changes cannot be made, "" if they can."""
    for _, name, value in changes:
        try:
            _, kind = fields.known((name, value))
        except fields.Malformed as error:
            return f"a rule would change a header to what nobody may send: {error}"
        if kind not in (fields.PLAIN, fields.GRPC) or name in _NOT_A_RULES:
            return f"a rule would change {name.decode()}, which says how a request is read or where it goes"
    return ""
