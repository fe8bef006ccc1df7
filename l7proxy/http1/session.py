"""One client's connection and the one to its server, as bytes in and bytes out.

Requests are judged one at a time, in order: the next one waits until its predecessor's answer is whole. A request that
is let through goes on as it came; one that is not gets a 403 and its body is thrown away, and the connection lives on.

    session.from_client(data)         # then send what to_server and to_client say, and clear them
    session.from_server(data)
"""

import re
import time
from collections.abc import Callable
from typing import NamedTuple

from l7proxy.exchange import Exchange, Span
from l7proxy.http1 import body, head
from l7proxy.http1.head import Malformed
from l7proxy.http1.refusal import message
from l7proxy.refusal import Refusal

_MAX_LATER = 64 << 10  # bytes of later requests, besides a head, before the client must wait

_EMPTY_LINES = re.compile(rb"(?:\r\n)+")
_PROTOCOLS = ("HTTP/1.0", "HTTP/1.1")


class Verdict(NamedTuple):
    """What policy says of one request. `head`: what goes on instead of it, where a rule mends headers.

    `told`, `why`, `span`: for the record.
    """

    allowed: bool
    head: bytes | None = None
    told: tuple[bytes, ...] = ()
    why: str = ""
    span: Span | None = None


_UNKNOWN = Verdict(False)  # of what could not be read
_HEAD, _BODY, _DONE = range(3)  # where one side of the exchange is


class Session:
    """`judge`: asked once for each request; `tell`: told of each exchange when it is over; `most`: bytes of a
    request's head.

    `to_server`, `to_client`: what is to be sent. `ends_server`, `ends_client`: nothing follows it, though more may come
    from there. `waits_for_client`: more may be read from it. `is_over`: close both when all is sent; `is_broken`: at
    once, for what the client has is not whole. `is_tunnel`: bytes go both ways as they are.
    """

    __slots__ = (
        "_answer", "_asked", "_began", "_body", "_client_ended", "_discards", "_drains", "_held", "_interim", "_judge",
        "_most", "_request", "_response", "_tell", "_to_come", "_untold", "_verdict", "ends_client", "is_broken",
        "is_over", "is_tunnel", "to_client", "to_server",
    )  # fmt: skip

    becomes = None  # nothing else: see http.Session

    def __init__(
        self,
        judge: Callable[[head.Request, bytes], Verdict],
        tell: Callable[[Exchange], None],
        most: int = head.MAX_HEAD,
    ) -> None:
        self._judge, self._tell, self._most = judge, tell, most
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []
        self.is_over = self.is_broken = self.is_tunnel = self.ends_client = self._client_ended = False
        self._held = b""  # from the client, not yet looked at
        self._answer = b""  # from the server, a head that is not whole
        self._asked = self._to_come = _HEAD
        self._discards = False  # the body of a refused request
        self._drains = False  # the next answer is the last one
        self._request: head.Request | None = None
        self._verdict = _UNKNOWN
        self._untold = False  # there is an exchange that is not over
        self._response: head.Response | None = None
        self._body: body.Body | None = None
        self._interim: body.Body | None = None
        self._began = 0

    @property
    def waits_for_client(self) -> bool:
        return len(self._held) <= self._most + _MAX_LATER

    @property
    def ends_server(self) -> bool:
        return self._client_ended and not self._held

    @property
    def is_idle(self) -> bool:
        """Whether nobody is in the middle of anything."""
        return self._asked == _HEAD and not self._held

    @property
    def switched(self) -> head.Request | None:
        """The request by which the connection has become a tunnel, if it has."""
        return self._request if self.is_tunnel else None

    @property
    def waits_for_head(self) -> bool:
        """Whether a request has begun of which the head is not whole."""
        return self._asked == _HEAD and bool(self._held)

    def drain(self) -> None:
        """Have the next answer be the last one, and say so in it."""
        self._drains = True

    def cut(self, why: str) -> None:
        """End it, for the client takes too long or has no right to go on, with an answer where one can be given."""
        if self.is_tunnel:
            self.is_over = self.is_broken = True
        elif self.is_idle:
            self.is_over = True
        elif self._to_come == _HEAD:
            self._refuse(Refusal.TOO_SLOW if self._asked == _HEAD else Refusal.UNAVAILABLE, why, last=True)
        else:
            self._break_off(why)

    # --- from the client ------------------------------------------------------------------------------------------

    def from_client(self, data: bytes) -> None:
        if self.is_tunnel:
            self.to_server.append(data)
            return
        self._held = self._held + data if self._held else data
        self._go_on()

    def _go_on(self) -> None:
        """Take what the client has sent as far as it may be taken now."""
        try:
            while True:
                if self._asked == _DONE == self._to_come:
                    self._next()
                if self.is_over or self.is_tunnel:
                    return
                before = len(self._held)
                if before and self._asked == _HEAD:
                    self._take_head()
                elif before and self._asked == _BODY:
                    self._take_body()
                if len(self._held) == before:
                    if self._client_ended and self._asked == _HEAD:
                        self.is_over = True  # what there is of a request will never be whole
                    return
        except Malformed as error:
            self._bad_request(str(error))

    def _take_head(self) -> None:
        if empty := _EMPTY_LINES.match(self._held):  # RFC 9112, 2.2: an empty line before a request is no request
            self._held = self._held[empty.end() :]
            return
        end = head.end_of(self._held, most=self._most)
        if not end:
            head.check_start(self._held)
            return
        whole = self._held if end == len(self._held) else self._held[:end]
        self._held = self._held[end:]
        self._began = time.monotonic_ns()
        request = head.request(whole)
        self._verdict = verdict = self._judge(request, whole)
        self._request, self._untold = request, True
        if request.length == 0:
            self._asked = _DONE
        else:
            self._body, self._asked = body.of(request.length), _BODY
        if verdict.allowed:
            self._discards = False
            self.to_server.append(verdict.head or whole)
            self._to_come = _HEAD
            return
        # A client that waits for a 100 may send the body all the same, or not: nobody can tell which.
        self._discards = True
        self._refuse(Refusal.FORBIDDEN, verdict.why, last=request.expects or not request.keeps)

    def _take_body(self) -> None:
        assert self._body is not None
        end = self._body.take(self._held, 0)
        if end and not self._discards:
            self.to_server.append(self._held if end == len(self._held) else self._held[:end])
        self._held = self._held[end:]
        if self._body.is_done:
            self._asked = _DONE

    def client_ended(self) -> None:
        """The client will send no more; what was asked may still be answered."""
        self._client_ended = True
        if self.ends_client if self.is_tunnel else self._asked == _HEAD or self._discards:
            self.is_over = True

    # --- from the server ------------------------------------------------------------------------------------------

    def from_server(self, data: bytes) -> None:
        if self.is_tunnel:
            self.to_client.append(data)
            return
        try:
            while data and not self.is_over:
                if self.is_tunnel:
                    self.to_client.append(data)
                    return
                data = self._take_answer(data) if self._to_come == _HEAD else self._take_answered(data)
                if data and self._to_come == _DONE:
                    raise Malformed("the server sent more than it was asked for")
        except Malformed as error:
            self._bad_answer(str(error))

    def _take_answer(self, data: bytes) -> bytes:
        if self._asked == _HEAD or self._discards:
            raise Malformed("the server answered before it was asked")
        self._answer = self._answer + data if self._answer else data
        end = head.end_of(self._answer)
        if not end:
            return b""
        data, self._answer = self._answer, b""
        whole, request = data[:end], self._request
        assert request is not None
        response = head.response(whole, request.method)
        if response.status == 101 or (request.method == "CONNECT" and 200 <= response.status < 300):
            if response.status == 101 and not request.upgrade:
                raise Malformed("the server switched protocols without being asked")
            self.is_tunnel = True
            self.to_client.append(whole)
            self._told(response.status)
            if self._held:
                self.to_server.append(self._held)
                self._held = b""
            return data[end:]
        if response.status < 200:
            self.to_client.append(whole)
            return data[end:]
        if self._drains:
            whole = head.closing(whole)
            data, end, response = whole + data[end:], len(whole), response._replace(keeps=False)
        self._response = response
        if response.length is not None and 0 <= response.length <= len(data) - end:  # all of it has come
            end += response.length
            self.to_client.append(data if end == len(data) else data[:end])
            self._answered()
        else:
            self.to_client.append(whole)
            self._interim, self._to_come = body.of(response.length), _BODY
        return data[end:]

    def _take_answered(self, data: bytes) -> bytes:
        assert self._interim is not None
        if self._answer:
            data, self._answer = self._answer + data, b""
        end = self._interim.take(data, 0)
        if end:
            self.to_client.append(data if end == len(data) else data[:end])
        rest = data[end:]
        if self._interim.is_done:
            self._answered()
            return rest
        self._answer = rest  # a line of a chunk that is not whole
        return b""

    def _answered(self) -> None:
        self._to_come = _DONE
        assert self._response is not None and self._request is not None
        self._told(self._response.status)
        self._go_on()

    def server_ended(self) -> None:
        """The server will send no more."""
        if self.is_tunnel:
            self.ends_client = True
            self.is_over = self._client_ended
            return
        if self._to_come == _BODY and isinstance(self._interim, body.UntilClose):
            self._answered()
        elif self._asked != _HEAD and self._to_come != _DONE and not self._discards:
            who = "the client ended, and then the server" if self._client_ended else "the server closed"
            self._bad_answer(f"{who} before its answer was whole")
        self.is_over = True

    # --- both -----------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Turn to the next exchange, or take the connection for over."""
        answered = self._discards or (self._response is not None and self._response.keeps)
        keeps = self._request is not None and self._request.keeps and answered
        self.is_over = self.is_over or not keeps or self.ends_client
        self._asked = self._to_come = _HEAD
        self._discards = False
        self._request, self._verdict, self._began = None, _UNKNOWN, 0

    def _told(self, status: int, why: str = "") -> None:
        request, verdict, now = self._request, self._verdict, time.monotonic_ns()
        protocol = _PROTOCOLS[1 if request is None else request.minor]
        began, told, span = self._began or now, verdict.told, verdict.span
        self._untold = False
        self._tell(Exchange(protocol, request, status, verdict.allowed, began, now, why, None, told, span))

    def _refuse(self, status: Refusal, why: str, last: bool) -> None:
        """Answer in the server's place."""
        last = last or self._drains
        is_head = self._request is not None and self._request.method == "HEAD"
        self.to_client.append(message(status, why, is_head, last))
        self._told(int(status), why)
        self._to_come = _DONE
        if last and self._discards and self._asked == _BODY:
            # A close with bytes of it unread is a reset: whoever sends all before it reads would not have the answer.
            self.ends_client = True
        else:
            self.is_over = self.is_over or last

    def _bad_request(self, why: str) -> None:
        if self._to_come == _HEAD:
            self._refuse(Refusal.TOO_LARGE if "longer" in why else Refusal.BAD_REQUEST, why, last=True)
        else:
            self._break_off(why)

    def _bad_answer(self, why: str) -> None:
        if self._to_come == _HEAD and self._asked != _HEAD:
            self._refuse(Refusal.BAD_GATEWAY, why, last=True)
        else:
            self._break_off(why)

    def _break_off(self, why: str) -> None:
        """End it where an answer has begun: of that, only the end can tell the client."""
        self.is_over = True
        self.is_broken = self._to_come == _BODY
        self._lose(why)

    def failed(self, why: str) -> None:
        """The server cannot be reached, or is lost before its time."""
        self.to_server.clear()
        if self.is_tunnel:
            self.is_broken = True
        elif self._to_come == _BODY:
            self._break_off(why)
        elif self._asked != _HEAD and self._to_come == _HEAD:
            self._refuse(Refusal.UNAVAILABLE, why, last=True)
        self.is_over = True

    def lost(self, why: str) -> None:
        """The client is gone: what was under way is told of."""
        self.is_over = True
        self._lose(why)

    def _lose(self, why: str) -> None:
        if self._untold:
            self._told(self._response.status if self._to_come == _BODY and self._response else 0, why)
