"""Clients come in here: each gets a link to the server that it called, under what the ends of its connection ask."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import cast

from l7proxy import http
from l7proxy.dns import exchange
from l7proxy.dns import session as dns
from l7proxy.edge import facts
from l7proxy.edge.limits import Limits
from l7proxy.edge.link import Link, Session, ends_by_reset, reset
from l7proxy.edge.telling import Notes, Witness
from l7proxy.exchange import Asked, Exchange
from l7proxy.hears import Hears, protocol
from l7proxy.http1.session import Session as Http1
from l7proxy.mesh.errors import Ended
from l7proxy.mesh.frames import Ends
from l7proxy.mesh.node import Node
from l7proxy.mesh.server import DENIED, Caller, NotYet
from l7proxy.mesh.stream import Stream
from l7proxy.policy.book import Book, Kind, Policy, Side
from l7proxy.policy.requests import Decision, Fields
from l7proxy.refusal import Refusal
from l7proxy.tls import session as tls
from l7proxy.tracing import Tracer
from l7proxy.tunnel import Tunnel
from loader import abi

TellLookup = Callable[[exchange.Lookup, facts.Facts, abi.Proto], None]
_FORBIDDEN = int(Refusal.FORBIDDEN)
_NOT_YET = NotYet("policy does not know the client or the server yet")  # the agent tells proxies first
_JUST_NOW_S = 1.0  # a client that was heard so recently may be about to ask again


class Door:
    """Makes a link for each client, keeps what policy says to it up to date, and ends those that take too much."""

    def __init__(self, book: Book, notes: Notes, limits: Limits, tell_lookup: TellLookup, learn: dns.Learn) -> None:
        self._book, self.notes, self.limits = book, notes, limits
        self.tell_lookup, self.learn = tell_lookup, learn
        self.tracer = Tracer()
        self.node: Node | None = None  # what leads to other nodes, once the agent has told of it
        self.links: set[_Guarded] = set()
        self._sources = Counter[int]()  # connections of each identity

    def __call__(self) -> Link:
        return _Guarded(self, facts.of)

    def enter(self, ends: Ends) -> "Link | str":
        """Return a link for a stream of another node's proxy, or why there is none."""
        try:
            found = facts.between(*ends)
        except OSError:
            return "nobody tells the node proxy who asks for what"
        if not facts.is_pod(found.kernel.source) or not found.kernel.side[abi.Direction.INGRESS].endpoint:
            return _NOT_YET
        if self.policy(found).kind is Kind.NOTHING:
            return DENIED
        return _Guarded(self, lambda _: facts.between(*ends))

    def tell_refusal(self, why: str, caller: Caller, ends: Ends | None) -> None:
        """Put on record that another node's proxy, or what seems to be one, was refused."""
        server, port = self.node.at if self.node else ("", 0)
        found = facts.unknown(*ends) if ends else facts.unknown(*caller, server, port)
        now = time.monotonic_ns()
        Witness(self.notes, found, lambda _: 0).over(Exchange("TCP", None, 0, False, now, now, f"mTLS: {why}"))

    def policy(self, found: facts.Facts) -> Policy:
        return self._book.of_open(found.sides)

    def refuser(self, sides: tuple[Side, ...], asked: Asked) -> int:
        """Return the direction of the end that refuses a request; of the last, if none does by itself."""
        for side in sides:
            if not self._book.policy((side,)).decide(asked.method, asked.path, asked.host, asked.fields).allowed:
                return side.direction
        return sides[-1].direction

    def refresh(self) -> None:
        """Have every connection judged by what is in force now."""
        for link in list(self.links):
            link.refresh()

    def admit(self, link: "_Guarded", source: int) -> str:
        """Take a link in, or return why there is no room for it."""
        if len(self.links) >= self.limits.all_connections:
            return "the node proxy has no room for more connections: raise its limit of open files"
        if self._sources[source] >= self.limits.connections:
            return f"the client's identity has {self.limits.connections} connections to a worker of the node proxy"
        self._sources[source] += 1
        self.links.add(link)
        return ""

    def release(self, link: "_Guarded", source: int) -> None:
        if link in self.links:
            self.links.remove(link)
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]

    def sweep(self) -> None:
        """End what has been silent for too long: to be called each second."""
        now = asyncio.get_running_loop().time()
        for link in list(self.links):
            link.sweep(now, self.limits)

    def drain(self) -> None:
        """Have clients go elsewhere as soon as nothing of theirs is under way: to be called until there are none."""
        now = asyncio.get_running_loop().time()
        for link in list(self.links):
            link.drain(now)

    def cut(self, why: str) -> None:
        """End all connections."""
        for link in list(self.links):
            link.cut(why)


class _Guarded(Link):
    __slots__ = (
        "_ask", "_began_as", "_door", "_facts", "_head_since", "_name", "_policy", "_source", "_told", "_told_then",
        "_witness",
    )  # fmt: skip

    def __init__(self, door: Door, ask: Callable[[socket.socket], facts.Facts]) -> None:
        super().__init__(Tunnel(), self._call_server, self._is_over)
        self._door, self._ask = door, ask
        self._policy: Policy
        self._facts: facts.Facts
        self._witness: Witness
        self._began_as = Kind.NOTHING
        self._name: str | None = None  # of the server, as a TLS client has asked for it
        self._source = 0  # the identity under which it was taken in
        self._told = 0  # records
        self._head_since, self._told_then = 0.0, 0  # when a sweep first saw the head that is not whole, if one is not

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        try:
            self._facts = self._ask(sock)
        except OSError:
            reset(cast(asyncio.Transport, transport))
            return
        self._judge_anew()
        self._source = self._facts.kernel.source
        if why := self._door.admit(self, self._source):
            self._tell_of_connection(why)
            reset(cast(asyncio.Transport, transport))
            return
        self.session = self._session()
        super().connection_made(transport)
        if self._policy.kind is Kind.NOTHING:
            self.reset()
        elif self._began_as is Kind.ANYTHING:
            self.dial()

    def _session(self) -> Session:
        self._began_as, door = self._policy.kind, self._door
        match self._began_as:
            case Kind.HTTP:
                return cast(Session, http.Session(self._decide, self._over, door.tracer, door.limits.header_bytes))
            case Kind.DNS:
                found = self._facts
                ends = (
                    exchange.End(found.client, found.client_port, 1),
                    exchange.End(found.server, found.server_port, 1),
                )
                return dns.Session(*ends, self._allows_name, self._looked_up, door.learn, self.flush)
            case Kind.SERVER_NAMES:
                return tls.Session(self._allows_server, self._asked_for)
            case _:
                return Tunnel()

    def _judge_anew(self) -> None:
        """Go by the facts."""
        found, door = self._facts, self._door
        self._policy = door.policy(found)
        self._witness = Witness(door.notes, found, lambda asked: door.refuser(found.sides or (), asked))

    def _decide(self, method: str, path: str, host: str, fields: Fields) -> Decision:
        return self._policy.decide(method, path, host, fields)

    def _allows_name(self, name: str) -> bool:
        return self._policy.allows_name(name)

    def _looked_up(self, lookup: exchange.Lookup) -> None:
        self._door.tell_lookup(lookup, self._facts, abi.Proto.TCP)

    def _allows_server(self, name: str) -> bool:
        self._name = name
        return self._policy.allows_server(name)

    def _asked_for(self, asked: tls.Asked) -> None:
        """Tell of a TLS client that is refused; of all others the kernel's records do."""
        if not asked.allowed:
            why = asked.why or (f"no rule allows the server name {asked.name}" if asked.name else "it names no server")
            self._over(Exchange("TLS", None, _FORBIDDEN, False, asked.began_ns, time.monotonic_ns(), why))

    def refresh(self) -> None:
        """Look again who asks for what. A request is denied from the next one on; what has none gets a reset."""
        if self.client is None or (self.client.is_closing() and not isinstance(self.client, Stream)):
            return  # what another node has not been sent yet is ours to stop
        sock = self.client.get_extra_info("socket")
        try:
            self._facts = self._ask(sock)
        except OSError:
            self.cut("nobody tells the node proxy who asks for what")
            return
        self._judge_anew()
        if not self._may_go_on():
            self.cut("policy does not let this connection go on")
        elif self._is_refused_plaintext():
            self.cut("mTLS: plaintext between nodes is refused now")

    def _may_go_on(self) -> bool:
        now, session = self._policy.kind, self.session
        if isinstance(session, Http1) and (asked := session.switched):
            return self._policy.decide(asked.method, asked.path, asked.host, asked.fields).allowed
        if now is Kind.SERVER_NAMES and self._began_as is now:
            return self._name is None or self._policy.allows_server(self._name)
        return now is Kind.ANYTHING or (now is Kind.HTTP and self._began_as is Kind.HTTP)

    def _is_refused_plaintext(self) -> bool:
        node, found = self._door.node, self._facts
        if node is None or not node.is_strict:
            return False
        ends = ((self.client, found.client), (self.server, found.server))
        return any(side is not None and not isinstance(side, Stream) and node.leads(ip) for side, ip in ends)

    def sweep(self, now: float, limits: Limits) -> None:
        """End it if it has been silent, or in the middle of a head, for too long; answer what nobody else does."""
        if isinstance(self.session, dns.Session):
            self.session.expire()
            self.flush()
        if now - self.active > limits.idle_s:
            self.cut(f"nothing came for {limits.idle_s:g} s")
        elif not self.session.waits_for_head:
            self._head_since = 0.0
        elif not self._head_since or self._told != self._told_then:
            self._head_since, self._told_then = now, self._told
        elif now - self._head_since > limits.header_s:
            self.cut(f"a request's head was not whole after {limits.header_s:g} s")

    def drain(self, now: float) -> None:
        """End it if nothing is under way, and was not just now: else with what comes next."""
        if self.session.is_idle and now - self.active > _JUST_NOW_S:
            self.close()
            return
        self.session.drain()
        self.flush()

    def cut(self, why: str) -> None:
        """End it in the middle, and have it on record why."""
        if self.session.is_over:  # but somebody does not take what is left for him
            self.reset()
            return
        if isinstance(self.client, Stream):
            self.client.why = why
        told = self._told
        self.session.cut(why)
        if self._told == told:
            self._tell_of_connection(why)
        self.flush()

    def server_lost(self, error: Exception | None) -> None:
        is_under_way = self.client is not None and not self.session.is_over
        if is_under_way and isinstance(error, Ended) and isinstance(self.session, Tunnel):  # others tell by themselves
            self._tell_of_connection(f"mTLS: {error}")
        super().server_lost(error)

    def _tell_of_connection(self, why: str) -> None:
        now = time.monotonic_ns()
        self._over(Exchange("TCP", None, 0, self._policy.kind is not Kind.NOTHING, now, now, why))

    async def _call_server(self, factory: Callable[[], Hears]) -> object:
        loop, found, node = asyncio.get_running_loop(), self._facts, self._door.node
        if facts.needs_mesh(found) or (node is not None and node.leads(found.server)):
            try:
                if node is None:
                    raise ConnectionRefusedError("mTLS: the node proxy has not been told of it yet")
                return await node.call(Ends(found.client, found.client_port, found.server, found.server_port), factory)
            except OSError as error:
                if isinstance(self.session, Tunnel) and self.client is not None:  # others tell of it by themselves
                    self._tell_of_connection(str(error))
                raise
        sock = facts.caller(self._facts.client)
        try:
            await loop.sock_connect(sock, (self._facts.server, self._facts.server_port))
            return await loop.create_connection(protocol(factory), sock=sock)
        except BaseException:  # the client is gone, say, and the server may be there: it must not hear a good end
            ends_by_reset(sock)
            sock.close()
            raise

    def _is_over(self, _: Link) -> None:
        self._door.release(self, self._source)

    def _over(self, exchange: Exchange) -> None:
        """Tell of a request."""
        self._told += 1
        self._witness.over(exchange)
