"""Queries of clients and answers of servers, as bytes in and bytes out: judged, matched, learned from, told of.

    match resolver.from_client(data, client, server, now):
        case Forward(server, data) | Reply(client, data): ...   # send it there; None: it was dropped, and counted
    answered = resolver.from_server(data, server, now)
    # Apply answered.learned, then send answered.reply: the client may connect as soon as it has it.

Towards the server a query has a random id of ours, so that clients cannot collide, and an answer counts only if it came
from where the query went, with that id and that question (RFC 5452, 9.1). All else is dropped and counted, and the
query goes on waiting. `now` is in nanoseconds.
"""

import collections
import enum
import secrets
from collections.abc import Callable
from typing import NamedTuple

from l7proxy.dns import message
from l7proxy.dns.learned import Learned
from l7proxy.dns.message import Rcode, Type
from l7proxy.dns.name import Malformed

_MAX_DRAWS = 64  # with a quarter of all ids taken, as many in vain as never happens
_OF_MANY_NAMES = (Type.AXFR, Type.IXFR, Type.MAILA, Type.MAILB)


class End(NamedTuple):
    """One end of a query. `stream`: 0 for datagrams, else which TCP connection: a datagram never answers for one."""

    address: str
    port: int
    stream: int = 0


class Limits(NamedTuple):
    """Queries that may wait for an answer: of one client's address, and in all; and for how long."""

    of_one: int = 256
    in_all: int = 4096
    timeout_ns: int = 10 * 10**9


LIMITS = Limits()


class Lookup(NamedTuple):
    """One query and what became of it, for the record. `name` is "" where it could not be read."""

    client: End
    server: End
    name: str
    type: int
    rcode: int
    addresses: tuple[str, ...]
    ttl: int
    cnames: tuple[str, ...]
    allowed: bool
    began_ns: int
    ended_ns: int
    why: str = ""


class Forward(NamedTuple):
    """What is sent to a server."""

    server: End
    data: bytes


class Reply(NamedTuple):
    """What is sent to a client."""

    client: End
    data: bytes


class Answered(NamedTuple):
    """A server's answer. `learned` is to be applied before the client may see `reply`."""

    reply: Reply
    learned: Learned | None


class Dropped(enum.Enum):
    """Why something went nowhere."""

    NOT_A_QUERY = "a client's message that is a response, or shorter than a header"
    UNASKED = "an answer too late, twice, or forged: nothing with its id waits for that server"
    OTHER_QUESTION = "an answer to another question than the one with its id: forged"
    MALFORMED = "an answer that could not be read"


class _Asked(NamedTuple):
    query: message.Query
    client: End
    server: End
    began: int


def _draw() -> int:
    return secrets.randbits(16)


class Resolver:
    """`judge`: asked once for each query that could go on; `tell`: told of each query when it is over.

    `dropped`: how many messages, by reason. `draw`: an id that nobody can guess.
    """

    __slots__ = ("_draw", "_judge", "_limits", "_of", "_tell", "_waiting", "dropped")

    def __init__(
        self,
        judge: Callable[[message.Query, End, End], bool],
        tell: Callable[[Lookup], None],
        limits: Limits = LIMITS,
        draw: Callable[[], int] = _draw,
    ) -> None:
        if not 0 < limits.in_all <= 1 << 14:
            raise ValueError("of 65,536 ids at most a quarter may wait")
        self._judge, self._tell, self._limits, self._draw = judge, tell, limits, draw
        self._waiting: collections.OrderedDict[tuple[End, int], _Asked] = collections.OrderedDict()  # oldest first
        self._of: collections.Counter[str] = collections.Counter()  # waiting, by client's address
        self.dropped: collections.Counter[Dropped] = collections.Counter()

    def __len__(self) -> int:
        return len(self._waiting)

    # --- from the client ------------------------------------------------------------------------------------------

    def from_client(self, data: bytes, client: End, server: End, now: int) -> Forward | Reply | None:
        """Take a query that the client sent to `server`."""
        try:
            query = message.query(data)
        except Malformed as error:
            if error.rcode is None:
                self.dropped[Dropped.NOT_A_QUERY] += 1
                return None
            self._tell(Lookup(client, server, "", 0, error.rcode, (), 0, (), False, now, now, str(error)))
            return Reply(client, message.failed(data, error.rcode))
        asked = _Asked(query, client, server, now)
        if query.klass != message.IN:
            return self._refuse(asked, Rcode.REFUSED, f"its class is {query.klass}, not IN", now)
        if query.type in _OF_MANY_NAMES:  # one name would be judged, and others be told
            return self._refuse(asked, Rcode.NOTIMP, f"its type {query.type} asks for records of many names", now)
        if not self._judge(query, client, server):
            return self._refuse(asked, Rcode.REFUSED, "", now)
        if len(self._waiting) >= self._limits.in_all or self._of[client.address] >= self._limits.of_one:
            return self._fail(asked, "too many queries wait for an answer", now)
        for _ in range(_MAX_DRAWS):
            ident = self._draw()
            if (server, ident) not in self._waiting:
                self._waiting[server, ident] = asked
                self._of[client.address] += 1
                return Forward(server, message.with_id(data, ident))
        return self._fail(asked, "no id is free", now)

    def _refuse(self, asked: _Asked, rcode: Rcode, why: str, now: int) -> Reply:
        self._told(asked, rcode, now, why, allowed=False)
        answer = message.refused if rcode is Rcode.REFUSED else message.not_implemented
        return Reply(asked.client, answer(asked.query))

    def _fail(self, asked: _Asked, why: str, now: int) -> Reply:
        self._told(asked, Rcode.SERVFAIL, now, why)
        return Reply(asked.client, message.servfail(asked.query))

    # --- from the server ------------------------------------------------------------------------------------------

    def from_server(self, data: bytes, server: End, now: int) -> Answered | None:
        """Take what came from `server`."""
        key = server, int.from_bytes(data[:2], "big")
        asked = self._waiting.get(key)
        if asked is None:
            self.dropped[Dropped.UNASKED] += 1
            return None
        try:
            found = message.answer(data)
        except Malformed:
            self.dropped[Dropped.MALFORMED] += 1
            return None
        if not message.is_answered_by(asked.query, found):
            self.dropped[Dropped.OTHER_QUESTION] += 1
            return None
        self._done(key)
        query, client = asked.query, asked.client
        self._tell(
            Lookup(
                client, server, query.name, query.type, found.rcode, found.addresses, found.ttl, found.cnames,
                True, asked.began, now,
            )
        )  # fmt: skip
        learned = None
        if found.addresses and found.rcode == Rcode.NOERROR:
            learned = Learned(query.name, found.addresses, found.ttl, found.cnames)
        return Answered(Reply(client, message.with_id(data, query.id)), learned)

    # --- without an answer ----------------------------------------------------------------------------------------

    def next_timeout(self) -> int | None:
        """Return when the oldest query has waited long enough, None if none waits."""
        oldest = next(iter(self._waiting.values()), None)
        return None if oldest is None else oldest.began + self._limits.timeout_ns

    def expire(self, now: int) -> list[Reply]:
        """Answer those that have waited long enough."""
        out = []
        while (due := self.next_timeout()) is not None and due <= now:
            asked = self._done(next(iter(self._waiting)))
            out.append(self._fail(asked, "the server did not answer in time", now))
        return out

    def server_gone(self, server: End, now: int) -> list[Reply]:
        """Answer those that wait for a server whose connection ended, or that cannot be reached."""
        gone = [key for key in self._waiting if key[0] == server]
        return [self._fail(self._done(key), "the server cannot be reached", now) for key in gone]

    def client_gone(self, client: End, now: int) -> None:
        """Forget what a client asked that hears no answer any more."""
        for key in [key for key, asked in self._waiting.items() if asked.client == client]:
            self._told(self._done(key), Rcode.SERVFAIL, now, "the client is gone")

    def _done(self, key: tuple[End, int]) -> _Asked:
        asked = self._waiting.pop(key)
        self._of[asked.client.address] -= 1
        if not self._of[asked.client.address]:
            del self._of[asked.client.address]
        return asked

    def _told(self, asked: _Asked, rcode: Rcode, now: int, why: str, allowed: bool = True) -> None:
        query = asked.query
        self._tell(
            Lookup(asked.client, asked.server, query.name, query.type, rcode, (), 0, (), allowed, asked.began, now, why)
        )
