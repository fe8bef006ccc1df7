"""DNS queries in datagrams: each is judged, asked of its server in its client's name, and answered in its server's.

What is asked keeps few sockets busy, one for each client and server. Such a socket is given up for a new one after a
while: its port is the half of what an answer must guess (RFC 5452, 9.2).
"""

import asyncio
import collections
import itertools
import socket
import time
from collections.abc import Callable

from l7proxy.dns import exchange
from l7proxy.dns.exchange import Answered, End, Forward, Lookup, Reply, Resolver
from l7proxy.dns.learned import Learned
from l7proxy.dns.message import Query
from l7proxy.edge import udp
from l7proxy.edge.facts import Facts
from l7proxy.policy.book import Book, Kind, Policy
from loader import abi

_AT_ONCE = 64  # datagrams that are taken in one go, before others have their turn
_MOST_CALLERS, _MOST_VOICES = 512, 128  # sockets
_RENEW_NS = 20 * 10**9
_TICK_S = 0.5
_LONGEST = 65535

Learn = Callable[[Learned, Callable[[], None]], None]
Tell = Callable[[Lookup, Facts, abi.Proto], None]


class Client(End):
    """Who asks, and what the kernel says of it and of its server."""

    facts: Facts
    policy: Policy


class Caller(End):
    """A server as one client's socket reaches it."""

    sock: socket.socket | None
    born: int


class Datagrams:
    """Serves a door until the loop ends. `learn`: told what an answer teaches, calls back when it is in force."""

    def __init__(self, door: socket.socket, book: Book, tell: Tell, learn: Learn) -> None:
        self._door, self._book, self._tell, self._learn = door, book, tell, learn
        self._loop = asyncio.get_running_loop()
        self._resolver = Resolver(self._judge, self._over)
        self._voices = collections.OrderedDict[tuple[str, int], udp.Voice]()
        self._callers = collections.OrderedDict[tuple[str, str, int], Caller]()
        self._retired = collections.deque[Caller]()
        self._serial = itertools.count(1)
        self._ticks = False
        self.dropped = 0  # nobody asks, or nobody may
        self._loop.add_reader(door, self._come)

    # --- from clients ---------------------------------------------------------------------------------------------

    def _come(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                came = udp.take(self._door)
            except OSError:
                return  # nothing waits
            if came is not None:
                self._take(came)

    def _take(self, came: udp.Came) -> None:
        try:
            found = self._voice(came.server, came.server_port).facts(came.client, came.client_port)
        except OSError:  # nobody says who it is
            self.dropped += 1
            return
        client = Client(came.client, came.client_port)
        client.facts, client.policy = found, self._book.of_open(found.sides)
        if client.policy.kind not in (Kind.DNS, Kind.ANYTHING):
            self.dropped += 1
            return
        now = time.monotonic_ns()
        server = self._caller(came, now)
        match self._resolver.from_client(came.data, client, server, now):
            case Forward(_, data):
                self._ask(server, client.address, data)
            case Reply() as reply:
                self._answer(reply, server)
        self._tick_later()

    def _judge(self, query: Query, client: End, _: End) -> bool:
        assert isinstance(client, Client)
        return client.policy.allows_name(query.name)

    def _over(self, lookup: Lookup) -> None:
        assert isinstance(lookup.client, Client)
        self._tell(lookup, lookup.client.facts, abi.Proto.UDP)

    def _voice(self, server: str, port: int) -> udp.Voice:
        voice = self._voices.get((server, port))
        if voice is None:
            if len(self._voices) >= _MOST_VOICES:
                self._voices.popitem(last=False)[1].close()
            voice = self._voices[server, port] = udp.Voice(server, port)
        self._voices.move_to_end((server, port))
        return voice

    def _answer(self, reply: Reply, server: End) -> None:
        try:
            self._voice(server.address, server.port).say(reply.data, reply.client.address, reply.client.port)
        except OSError:  # as a datagram that is lost: the client asks again
            self.dropped += 1

    # --- to servers -----------------------------------------------------------------------------------------------

    def _caller(self, came: udp.Came, now: int) -> Caller:
        key = came.client, came.server, came.server_port
        caller = self._callers.get(key)
        if caller is not None and now - caller.born > _RENEW_NS:
            self._retired.append(self._callers.pop(key))
            caller = None
        if caller is None:
            while len(self._callers) + len(self._retired) >= _MOST_CALLERS:
                self._give_up(self._retired.popleft() if self._retired else self._callers.popitem(last=False)[1])
            caller = self._callers[key] = Caller(came.server, came.server_port, next(self._serial))
            caller.sock, caller.born = None, now
        self._callers.move_to_end(key)
        return caller

    def _ask(self, server: Caller, client: str, data: bytes) -> None:
        try:
            if server.sock is None:
                server.sock = udp.caller(client, server.address, server.port)
                self._loop.add_reader(server.sock, self._answered, server)
            server.sock.send(data)
        except BlockingIOError:
            pass  # as one that is lost on its way
        except OSError:
            self._unreachable(server)

    def _answered(self, server: Caller) -> None:
        for _ in range(_AT_ONCE):
            try:
                assert server.sock is not None
                data = server.sock.recv(_LONGEST)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error came back
                self._unreachable(server)
                return
            answered = self._resolver.from_server(data, server, time.monotonic_ns())
            if answered is not None:
                self._teach(answered, server)

    def _teach(self, answered: Answered, server: Caller) -> None:
        """Answer the client once what it may connect to next is in force."""
        if answered.learned is None:
            self._answer(answered.reply, server)
        else:
            self._learn(answered.learned, lambda: self._answer(answered.reply, server))

    def _unreachable(self, server: Caller) -> None:
        for reply in self._resolver.server_gone(server, time.monotonic_ns()):
            self._answer(reply, server)

    def _give_up(self, caller: Caller) -> None:
        self._unreachable(caller)
        if caller.sock is not None:
            self._loop.remove_reader(caller.sock)
            caller.sock.close()

    # --- time -----------------------------------------------------------------------------------------------------

    def _tick_later(self) -> None:
        if not self._ticks:
            self._ticks = True
            self._loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        now = time.monotonic_ns()
        self._ticks = False
        for reply in self._resolver.expire(now):
            assert isinstance(reply.client, Client)
            found = reply.client.facts
            self._answer(reply, End(found.server, found.server_port))
        for key, caller in list(self._callers.items()):
            if now - caller.born > _RENEW_NS:
                self._retired.append(self._callers.pop(key))
        while self._retired and now - self._retired[0].born > _RENEW_NS + exchange.LIMITS.timeout_ns:
            self._give_up(self._retired.popleft())
        if len(self._resolver) or self._callers or self._retired:
            self._tick_later()
