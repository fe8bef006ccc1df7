"""The client's side: connections to other nodes' proxies, each with some streams at a time, kept when these are over.

A pool is for one client workload, one server workload and one node: what a connection has proved is true for all that
goes over it.
"""

import asyncio
import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import cast

from control.proxy_feed import UNKNOWN_NODE
from l7proxy.mesh import contexts, frames, limits, names
from l7proxy.mesh.carrier import Carrier
from l7proxy.mesh.contexts import Contexts
from l7proxy.mesh.frames import Ends, Kind
from l7proxy.mesh.stream import Stream
from l7proxy.mesh.tally import Tally

Sockets = Callable[[int], Awaitable[socket.socket]]  # makes one, of a family, in the host's network
Key = tuple[str, str, str]
Factory = Callable[[], asyncio.Protocol]


class Refused(ConnectionRefusedError):
    """The stream is not to be; the message says why, for the record."""


class _Elsewhere(Exception):
    """Another connection may do: this one went away, or takes no more streams."""


class _Asked:
    """For a stream that the other node has not answered for."""

    __slots__ = ("answer", "ends", "factory")

    def __init__(self, ends: Ends, factory: Factory) -> None:
        self.ends, self.factory = ends, factory
        self.answer: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()


class _Held:
    """A connection of the pool, what it was made with, and what was asked for on it."""

    __slots__ = ("asked", "carrier", "is_retired", "key", "made", "made_with", "since", "users")

    def __init__(self, key: Key, made_with: Contexts, carrier: Callable[["_Held"], Carrier]) -> None:
        self.key, self.made_with = key, made_with
        self.carrier = carrier(self)
        self.made: asyncio.Task[None]
        self.asked: dict[int, _Asked] = {}
        self.users = 0  # who wait for it to be made, or for an answer
        self.is_retired = False  # takes no more streams
        self.since = 0.0  # when it went idle

    @property
    def is_idle(self) -> bool:
        return not self.users and not self.carrier.streams

    @property
    def has_room(self) -> bool:
        carrier = self.carrier
        return not (self.is_retired or carrier.is_full) and (
            self.users + len(carrier.streams) < limits.STREAMS and carrier.moved < limits.HEAVY
        )


class Pool:
    """All connections that this worker has made to other nodes. `sockets`: where they come from."""

    def __init__(self, sockets: Sockets, tally: Tally) -> None:
        self._sockets, self._tally = sockets, tally
        self._contexts: Contexts | None = None
        self._of: defaultdict[Key, list[_Held]] = defaultdict(list)
        self._drains = False
        self._renewed = asyncio.Event()

    @property
    def _all(self) -> list[_Held]:
        return [held for some in self._of.values() for held in some]

    @property
    def is_over(self) -> bool:
        return not self._of

    @property
    def open(self) -> int:
        """Return how many are in use."""
        return sum(not held.is_idle for held in self._all)

    @property
    def idle(self) -> int:
        return sum(held.is_idle for held in self._all)

    def renew(self, new: Contexts) -> None:
        """Go by this from now on; what proves less than new ones would gets no more streams."""
        self._contexts = new
        self._renewed.set()
        self._renewed = asyncio.Event()  # the next time
        for held in self._all:
            if not new.is_like(held.made_with, held.key[0]):
                self._retire(held)

    def sweep(self) -> None:
        """Close what nobody has used for a while: to be called each second."""
        now = time.monotonic()
        for held in self._all:
            if held.is_idle and now - held.since > limits.IDLE_S:
                self._retire(held)

    def drain(self) -> None:
        """Keep no connection for the next stream any more."""
        self._drains = True
        for held in self._all:
            if held.is_idle:
                self._retire(held)

    def close(self) -> None:
        for held in self._all:
            held.made.cancel()
            held.carrier.close()

    async def call(self, ends: Ends, factory: Factory) -> Stream:
        """Return a stream to a pod of another node, in the name of the client's workload; raises OSError."""
        while True:
            key, now = await self._known(ends)
            held = next((held for held in self._of[key] if held.has_room), None)
            is_new = held is None
            if held is None:
                held = self._begin(key, now)
            held.users += 1
            try:
                await asyncio.shield(held.made)
                return await self._ask(held, ends, factory)
            except _Elsewhere as error:
                held.is_retired = True
                if is_new:
                    raise ConnectionResetError(str(error)) from None
            finally:
                held.users -= 1
                self._look(held)

    async def _known(self, ends: Ends) -> tuple[Key, Contexts]:
        """Return who calls whom and where, as soon as it is known, if that is in a moment."""
        try:
            async with asyncio.timeout(limits.OWNER_S):
                while isinstance(found := _key(self._contexts, ends), str):
                    await self._renewed.wait()
        except TimeoutError:
            raise self._refused(str(found)) from None
        assert self._contexts
        return found, self._contexts

    async def _ask(self, held: _Held, ends: Ends, factory: Factory) -> Stream:
        carrier = held.carrier
        carrier.last += 1
        number, asked = carrier.last, _Asked(ends, factory)
        held.asked[number] = asked
        carrier.write(frames.opening(number, ends))
        try:
            if not carrier.is_open:
                raise _Elsewhere("mTLS: the server's node: it went away")
            async with asyncio.timeout(limits.OPEN_S):
                return await asked.answer
        except (TimeoutError, asyncio.CancelledError) as error:
            if (stream := carrier.streams.get(number)) is not None:
                stream.abort()
            else:
                carrier.write(frames.reset(number, ""))
            if isinstance(error, TimeoutError):
                held.is_retired = True
                raise self._refused("the server's node did not answer in time") from None
            raise
        finally:
            held.asked.pop(number, None)

    def _begin(self, key: Key, now: Contexts) -> _Held:
        """Return a connection that is about to be made: who comes meanwhile waits for it, too."""

        def carrier(held: _Held) -> Carrier:
            return Carrier(
                lambda _, kind, number, body: self._answered(held, kind, number, body),
                lambda _: self._look(held),
                lambda _: self._is_gone(held),
            )

        held = _Held(key, now, carrier)
        self._of[key].append(held)
        held.made = asyncio.get_running_loop().create_task(self._connect(held))
        held.made.add_done_callback(lambda _: self._look(held))
        return held

    async def _connect(self, held: _Held) -> None:
        """Make it, or raise OSError to all that wait for it."""
        try:
            began = time.monotonic()
            await self._shake(held)
            self._tally.good(time.monotonic() - began)
        except BaseException as error:
            self._forget(held)
            if isinstance(error, Refused) or not isinstance(error, (OSError, ValueError)):
                raise
            raise self._refused(contexts.word(error)) from error

    async def _shake(self, held: _Held) -> None:
        source, target, node = held.key
        context = held.made_with.client(source)
        assert context is not None
        loop, carrier = asyncio.get_running_loop(), held.carrier
        sock = await self._sockets(socket.AF_INET6 if ":" in node else socket.AF_INET)
        try:
            async with asyncio.timeout(limits.CLIENTS_HANDSHAKE_S):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, (node, held.made_with.mesh.port))
                await loop.create_connection(
                    lambda: carrier, sock=sock, ssl=context, server_hostname=names.sni(target),
                    ssl_handshake_timeout=limits.CLIENTS_HANDSHAKE_S, ssl_shutdown_timeout=limits.LINGER_S,
                )  # fmt: skip
            assert carrier.tls
            shown, _ = held.made_with.peer(carrier.tls.get_extra_info("ssl_object"))
        except BaseException:
            sock.close() if carrier.tls is None else carrier.abort()
            raise
        if shown != target:
            carrier.abort()
            raise self._refused("not the owner of the address")

    def _answered(self, held: _Held, kind: Kind, number: int, body: bytes) -> None:
        asked = held.asked.get(number)
        if asked is None or asked.answer.done():
            if not 0 < number <= held.carrier.last:
                raise frames.BadFrame(f"{kind.name} for what nobody has asked")
        elif kind is Kind.OPENED:
            # At once: the server's first bytes may have come with it.
            protocol = asked.factory()
            stream = held.carrier.begin(number, protocol, asked.ends)
            asked.answer.set_result(stream)
            protocol.connection_made(stream)
        elif kind is Kind.REFUSED and body:
            said = f"the server's node: {frames.read_word(body)}"
            asked.answer.set_exception(self._refused(said, counts=False))
        elif kind is Kind.REFUSED:
            held.is_retired = True
            asked.answer.set_exception(_Elsewhere("mTLS: the server's node takes no more"))
        else:
            raise frames.BadFrame(f"{kind.name} is no answer")

    def _look(self, held: _Held) -> None:
        """Keep it for the next stream, or not, if it has none now."""
        if not held.is_idle or not held.made.done() or held.made.cancelled() or held.made.exception():
            return
        held.since = time.monotonic()
        is_current = self._contexts is not None and self._contexts.is_like(held.made_with, held.key[0])
        spare = sum(each.is_idle for each in self._of.get(held.key, ())) > limits.MOST_IDLE
        if self._drains or not is_current or spare or held.is_retired:
            self._retire(held)

    def _retire(self, held: _Held) -> None:
        """Begin no more streams on it, and close it when it has none."""
        held.is_retired = True
        if held.is_idle:
            held.carrier.close()

    def _is_gone(self, held: _Held) -> None:
        self._forget(held)
        for asked in held.asked.values():
            if not asked.answer.done():
                why = contexts.word(held.carrier.error or OSError())
                asked.answer.set_exception(_Elsewhere(f"mTLS: the server's node: {why}"))

    def _forget(self, held: _Held) -> None:
        held.is_retired = True
        some = self._of.get(held.key, [])
        if held in some:
            some.remove(held)
        if not some:
            self._of.pop(held.key, None)

    def _refused(self, why: str, counts: bool = True) -> Refused:
        if counts:
            self._tally.refused[why] += 1
        return Refused(f"mTLS: {why}")


def _key(now: Contexts | None, ends: Ends) -> Key | str:
    """Return between whom a stream is, or why there is none to be."""
    if now is None:
        return "the node proxy has not been told of mTLS yet"
    source, nodes = contexts.owner_of(now.owners, ends.client)
    target, node = contexts.owner_of(now.owners, ends.server)
    if not source or nodes:
        return "the client's address has no owner on this node"
    if not target or not node:
        return "the server's address has no owner on another node"
    if node == UNKNOWN_NODE:
        return "the address of the server's node is not known"
    if now.client(source) is None:
        return "the client's workload has no certificate"
    return source, target, node


def sockets_of(executor: object) -> Sockets:
    """Return what makes sockets in an executor's thread, which has stayed in the host's network."""

    async def make(family: int) -> socket.socket:
        return await asyncio.get_running_loop().run_in_executor(cast("None", executor), _made, family)

    return make


def _made(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
