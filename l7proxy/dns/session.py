"""A DNS client's connection: a session (see edge/link.py) of queries and answers, each with its length before it.

Queries of one connection are on their way at the same time, and are answered as the answers come (RFC 7766, 6.2.1.1).
"""

import time
from collections.abc import Callable

from l7proxy.dns import exchange, message, stream
from l7proxy.dns.exchange import Answered, End, Forward, Lookup, Reply, Resolver
from l7proxy.dns.learned import Learned

_MOST = 64  # queries of one connection that wait for answers; then no more are read

Learn = Callable[[Learned, Callable[[], None]], None]


class Session:
    """`judge`: asked once for each query; `tell`: told of each when it is over; `learn`: told what an answer teaches,
    calls back when the client may have it; `flush`: has what it then says sent; `clock`: says nanoseconds."""

    __slots__ = (
        "_client", "_client_ended", "_clock", "_flush", "_from_client", "_from_server", "_learn", "_learning",
        "_resolver", "_server", "_server_ended", "is_broken", "is_over", "to_client", "to_server",
    )  # fmt: skip

    becomes = None
    ends_client = ends_server = False  # both ends close at once, when all is answered

    def __init__(
        self, client: End, server: End, judge: Callable[[str], bool], tell: Callable[[Lookup], None], learn: Learn,
        flush: Callable[[], None], clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:  # fmt: skip
        self._client, self._server, self._learn, self._flush, self._clock = client, server, learn, flush, clock

        def allows(query: message.Query, _client: End, _server: End) -> bool:
            return judge(query.name)

        limits = exchange.Limits(of_one=2 * _MOST, in_all=2 * _MOST)
        self._resolver = Resolver(allows, tell, limits)
        self._from_client, self._from_server = stream.Splitter(), stream.Splitter()
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []
        self.is_over = self.is_broken = self._client_ended = self._server_ended = False
        self._learning = 0  # answers that wait to be in force

    waits_for_head = False  # a query that is not whole takes 64 KiB at most, and the idle time ends it

    @property
    def is_idle(self) -> bool:
        return self._from_client.is_idle and not len(self._resolver) and not self._learning

    def drain(self) -> None:
        """Ask for an end as soon as all is answered; a client asks again over a new connection."""
        self.client_ended()

    def cut(self, why: str) -> None:
        """End in the middle."""
        self._resolver.client_gone(self._client, self._clock())
        self.is_over = self.is_broken = True

    @property
    def waits_for_client(self) -> bool:
        return len(self._resolver) + self._learning < _MOST

    def expire(self) -> None:
        """Answer SERVFAIL to what has waited long enough: to be called each second."""
        late = self._resolver.expire(self._clock())
        self._say(late)
        if late and self.to_server:  # nothing was ever sent: the server does not even take the connection
            self.server_ended()
        self._end()

    def from_client(self, data: bytes) -> None:
        now = self._clock()
        for each in self._from_client.take(data):
            match self._resolver.from_client(each, self._client, self._server, now):
                case Forward(_, query):
                    self.to_server.append(stream.framed(query))
                case Reply() as reply:
                    self._say([reply])
                case None:  # no query: what else it says is none either
                    self.is_over = self.is_broken = True
                    return

    def from_server(self, data: bytes) -> None:
        for each in self._from_server.take(data):
            answered = self._resolver.from_server(each, self._server, self._clock())
            if answered is None:
                continue
            if answered.learned is None:
                self._say([answered.reply])
            else:
                self._teach(answered.learned, answered)
        self._end()

    def _teach(self, learned: Learned, answered: Answered) -> None:
        is_now = True

        def then() -> None:
            self._learning -= 1
            self._say([answered.reply])
            self._end()
            if not is_now:  # else whoever brought the answer does
                self._flush()

        self._learning += 1
        self._learn(learned, then)
        is_now = False

    def _say(self, replies: list[Reply]) -> None:
        self.to_client += (stream.framed(reply.data) for reply in replies)

    def _end(self) -> None:
        if ((self._client_ended and not len(self._resolver)) or self._server_ended) and not self._learning:
            self.is_over = True

    def client_ended(self) -> None:
        self._client_ended = True
        self._end()

    def server_ended(self) -> None:
        self._server_ended = True
        self._say(self._resolver.server_gone(self._server, self._clock()))
        self._end()

    def failed(self, why: str) -> None:
        """The server cannot be reached, or is lost: who waits for an answer is told so."""
        self.server_ended()

    def lost(self, why: str) -> None:
        """The client is gone."""
        self._resolver.client_gone(self._client, self._clock())
        self.is_over = True
