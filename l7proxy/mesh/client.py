"""The client's side: one connection to another node's proxy per stream at a time, kept when the stream has ended well.

A pool is for one client workload, one server workload and one node: what a connection has proved is true for all that
goes over it.
"""

import asyncio
import contextlib
import socket
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import cast

from control.proxy_feed import UNKNOWN_NODE
from l7proxy.mesh import contexts, frames, limits, names
from l7proxy.mesh.contexts import Contexts
from l7proxy.mesh.frames import Ends, Kind
from l7proxy.mesh.stream import Carrier, Stream
from l7proxy.mesh.tally import Tally

Sockets = Callable[[int], Awaitable[socket.socket]]  # makes one, of a family, in the host's network
Key = tuple[str, str, str]


class Refused(ConnectionRefusedError):
    """The stream is not to be; the message says why, for the record."""


class _Held:
    """A connection of the pool, and what it was made with."""

    __slots__ = ("answer", "carrier", "factory", "key", "made_with", "since")

    def __init__(self, key: Key, made_with: Contexts) -> None:
        self.key, self.made_with = key, made_with
        self.carrier: Carrier
        self.answer: asyncio.Future[Stream] | None = None
        self.factory: Callable[[], asyncio.Protocol]
        self.since = 0.0  # when it went idle


class Pool:
    """All connections that this worker has made to other nodes. `sockets`: where they come from."""

    def __init__(self, sockets: Sockets, tally: Tally) -> None:
        self._sockets, self._tally = sockets, tally
        self._contexts: Contexts | None = None
        self._idle: defaultdict[Key, list[_Held]] = defaultdict(list)
        self._all: set[_Held] = set()
        self._drains = False
        self._renewed = asyncio.Event()

    @property
    def is_over(self) -> bool:
        return not self._all

    @property
    def open(self) -> int:
        """Return how many are in use."""
        return len(self._all) - self.idle

    @property
    def idle(self) -> int:
        return sum(map(len, self._idle.values()))

    def renew(self, new: Contexts) -> None:
        """Go by this from now on; what is idle and proves less than new ones would is closed."""
        self._contexts = new
        self._renewed.set()
        self._renewed = asyncio.Event()  # the next time
        for held in [each for some in self._idle.values() for each in some]:
            if not new.is_like(held.made_with, held.key[0]):
                held.carrier.close()

    def sweep(self) -> None:
        """Close what nobody has used for a while: to be called each second."""
        now = time.monotonic()
        for held in [each for some in self._idle.values() for each in some]:
            if now - held.since > limits.IDLE_S:
                held.carrier.close()

    def drain(self) -> None:
        """Keep no connection for the next stream any more."""
        self._drains = True
        for held in [each for some in self._idle.values() for each in some]:
            held.carrier.close()

    def close(self) -> None:
        for held in list(self._all):
            held.carrier.close()

    async def call(self, ends: Ends, factory: Callable[[], asyncio.Protocol]) -> Stream:
        """Return a stream to a pod of another node, in the name of the client's workload; raises OSError."""
        key, now = await self._known(ends)
        while (held := self._idle_one(key)) is not None:
            with contextlib.suppress(ConnectionError):  # it went away as we came: another one then
                return await self._ask(held, ends, factory, is_new=False)
        return await self._ask(await self._connect(key, now), ends, factory, is_new=True)

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

    def _idle_one(self, key: Key) -> _Held | None:
        some = self._idle.get(key)
        while some:
            held = some.pop()
            if held.carrier.is_open:
                return held
        return None

    async def _ask(self, held: _Held, ends: Ends, factory: Callable[[], asyncio.Protocol], is_new: bool) -> Stream:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Stream] = loop.create_future()
        held.answer = answer
        held.factory = factory
        held.carrier.write(frames.opening(ends))
        try:
            async with asyncio.timeout(limits.OPEN_S):
                return await answer
        except Refused as error:
            if not is_new:  # the word counts, whatever the connection is made with
                raise _Final(str(error)) from None
            raise
        except TimeoutError:
            held.carrier.abort()
            raise _Final(str(self._refused("the server's node did not answer in time"))) from None
        except BaseException:
            held.carrier.abort()
            raise
        finally:
            if held.answer is answer:  # else the connection is somebody else's already
                held.answer = None

    async def _connect(self, key: Key, now: Contexts) -> _Held:
        source, target, node = key
        context = now.client(source)
        assert context is not None
        held, began = _Held(key, now), time.monotonic()
        held.carrier = Carrier(
            lambda _, kind, body: self._answered(held, kind, body),
            lambda _: self._is_idle(held),
            lambda _: self._is_gone(held),
        )
        loop = asyncio.get_running_loop()
        sock = await self._sockets(socket.AF_INET6 if ":" in node else socket.AF_INET)
        try:
            async with asyncio.timeout(limits.CLIENTS_HANDSHAKE_S):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, (node, now.mesh.port))
                await loop.create_connection(
                    lambda: held.carrier, sock=sock, ssl=context, server_hostname=names.sni(target),
                    ssl_handshake_timeout=limits.CLIENTS_HANDSHAKE_S, ssl_shutdown_timeout=limits.LINGER_S,
                )  # fmt: skip
            assert held.carrier.tls
            shown, _ = now.peer(held.carrier.tls.get_extra_info("ssl_object"))
        except BaseException as error:
            sock.close() if held.carrier.tls is None else held.carrier.abort()
            if isinstance(error, (OSError, ValueError)):
                raise self._refused(contexts.word(error)) from error
            raise
        if shown != target:
            held.carrier.abort()
            raise self._refused("not the owner of the address")
        self._tally.good(time.monotonic() - began)
        self._all.add(held)
        return held

    def _answered(self, held: _Held, kind: Kind, body: bytes) -> None:
        if held.answer is None or held.answer.done():
            raise frames.BadFrame("an answer that nobody waits for")
        if kind is Kind.OPENED:
            # At once: the server's first bytes may have come with it.
            protocol = held.factory()
            stream = held.carrier.begin(protocol, {})
            held.answer.set_result(stream)
            protocol.connection_made(stream)
        elif kind is Kind.REFUSED:
            said = f"the server's node: {frames.read_word(body)}"
            held.answer.set_exception(self._refused(said, counts=False))
            self._is_idle(held)
        else:
            raise frames.BadFrame(f"{kind.name} is no answer")

    def _is_idle(self, held: _Held) -> None:
        some = self._idle[held.key]
        is_current = self._contexts is not None and self._contexts.is_like(held.made_with, held.key[0])
        if self._drains or not is_current or len(some) >= limits.MOST_IDLE:
            held.carrier.close()
            return
        held.since = time.monotonic()
        some.append(held)

    def _is_gone(self, held: _Held) -> None:
        self._all.discard(held)
        some = self._idle.get(held.key, [])
        if held in some:
            some.remove(held)
        if not some:
            self._idle.pop(held.key, None)
        if held.answer is not None and not held.answer.done():
            held.answer.set_exception(
                ConnectionResetError(f"mTLS: the server's node: {contexts.word(held.carrier.error or OSError())}")
            )

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


class _Final(OSError):
    """A refusal by a connection of the pool: not to be asked again on another."""


def sockets_of(executor: object) -> Sockets:
    """Return what makes sockets in an executor's thread, which has stayed in the host's network."""

    async def make(family: int) -> socket.socket:
        return await asyncio.get_running_loop().run_in_executor(cast("None", executor), _made, family)

    return make


def _made(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
