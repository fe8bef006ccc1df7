"""One connection of the client's side to another node's proxy: how it is made, and how streams are asked for on it."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast

from l7proxy.hears import Hears
from l7proxy.mesh import contexts, frames, limits, names
from l7proxy.mesh.carrier import Carrier
from l7proxy.mesh.contexts import Contexts
from l7proxy.mesh.errors import BadFrame
from l7proxy.mesh.frames import Ends, Kind
from l7proxy.mesh.stream import Stream
from l7proxy.mesh.tally import Tally

Sockets = Callable[[int], Awaitable[socket.socket]]  # makes one, of a family, in the host's network
Factory = Callable[[], Hears]


class Key(NamedTuple):
    """Between whom a connection is, by SPIFFE id, and the address of the server's node."""

    source: str
    target: str
    node: str


class Refused(ConnectionRefusedError):
    """The stream is not to be; the message says why, for the record."""


class Elsewhere(Exception):
    """Another connection may do: this one went away, or takes no more streams."""


class _Asked:
    """For a stream that the other node has not answered for."""

    __slots__ = ("answer", "ends", "factory")

    def __init__(self, ends: Ends, factory: Factory) -> None:
        self.ends, self.factory = ends, factory
        self.answer: asyncio.Future[Stream] = asyncio.get_running_loop().create_future()


class Connection:
    """`idle`: told when its last stream is over; `gone`: when it is. `since`: when it was last used."""

    def __init__(
        self,
        key: Key,
        made_with: Contexts,
        tally: Tally,
        idle: Callable[["Connection"], None],
        gone: Callable[["Connection"], None],
    ) -> None:
        self.key, self.made_with, self._tally, self._gone = key, made_with, tally, gone
        self.carrier = Carrier(self._answered, lambda _: idle(self), lambda _: self._is_gone())
        self.users = 0  # who wait for it to be made, or for an answer
        self.is_retired = False  # begins no more streams
        self.is_proved = False  # the other node has answered on it: whom it does not trust it only hangs up on
        self.since = time.monotonic()
        self._asked: dict[int, _Asked] = {}
        self._making: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        return not self.users and not self.carrier.streams

    @property
    def has_room(self) -> bool:
        carrier = self.carrier
        return not (self.is_retired or carrier.is_full) and (
            self.users + len(carrier.streams) < limits.STREAMS and carrier.moved < limits.HEAVY
        )

    def retire(self) -> None:
        """Begin no more streams on it, and close it when it has none."""
        self.is_retired = True
        if self.is_idle:
            self.carrier.close()

    def close(self) -> None:
        if self._making is not None:
            self._making.cancel()
        self.carrier.close()

    async def make(self, sockets: Sockets) -> None:
        """Make it, once for all who want it; raises OSError."""
        if self._making is None:
            self._making = asyncio.get_running_loop().create_task(self._make(sockets))
            self._making.add_done_callback(self._is_made)
        await asyncio.shield(self._making)

    def _is_made(self, making: "asyncio.Task[None]") -> None:
        if not making.cancelled() and making.exception() is None and self.is_retired:  # or who waited has gone
            self.retire()

    async def _make(self, sockets: Sockets) -> None:
        try:
            began = time.monotonic()
            await self._shake(sockets)
            self._tally.good(time.monotonic() - began)
        except BaseException as error:
            self.is_retired = True
            self._gone(self)
            if isinstance(error, Refused) or not isinstance(error, (OSError, ValueError)):
                raise
            raise self._refused(contexts.word(error)) from error

    async def _shake(self, sockets: Sockets) -> None:
        source, target, node = self.key
        context = self.made_with.client(source)
        assert context is not None
        loop, carrier = asyncio.get_running_loop(), self.carrier
        sock = await sockets(socket.AF_INET6 if ":" in node else socket.AF_INET)
        try:
            async with asyncio.timeout(limits.CLIENTS_HANDSHAKE_S):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(sock, (node, self.made_with.mesh.port))
                await loop.create_connection(
                    lambda: cast(asyncio.BufferedProtocol, carrier), sock=sock, ssl=context,
                    server_hostname=names.sni(target),
                    ssl_handshake_timeout=limits.CLIENTS_HANDSHAKE_S, ssl_shutdown_timeout=limits.LINGER_S,
                )  # fmt: skip
            assert carrier.tls
            shown, _ = self.made_with.peer(carrier.tls.get_extra_info("ssl_object"))
        except BaseException:
            sock.close() if carrier.tls is None else carrier.abort()
            raise
        if shown != target:
            carrier.abort()
            raise self._refused("not the owner of the address")

    async def ask(self, ends: Ends, factory: Factory) -> Stream:
        """Return a stream on it, which is made; raises Refused, or Elsewhere."""
        carrier = self.carrier
        if not carrier.is_open:
            raise Elsewhere("mTLS: the server's node: it went away")
        carrier.last += 1
        number, asked = carrier.last, _Asked(ends, factory)
        self._asked[number] = asked
        carrier.write(frames.opening(number, ends))
        try:
            async with asyncio.timeout(limits.OPEN_S):
                return await asked.answer
        except (TimeoutError, asyncio.CancelledError) as error:
            if (stream := carrier.streams.get(number)) is not None:
                stream.abort()
            else:
                carrier.write(frames.reset(number, ""))
            if isinstance(error, TimeoutError):
                self.is_retired = True
                raise self._refused("the server's node did not answer in time") from None
            raise
        finally:
            self._asked.pop(number, None)

    def _answered(self, carrier: Carrier, kind: Kind, number: int, body: bytes) -> None:
        self.is_proved = True
        asked = self._asked.get(number)
        if asked is None or asked.answer.done():
            if not 0 < number <= carrier.last:
                raise BadFrame(f"{kind.name} for what nobody has asked")
        elif kind is Kind.OPENED:
            # At once: the server's first bytes may have come with it.
            protocol = asked.factory()
            stream = carrier.begin(number, protocol, asked.ends)
            asked.answer.set_result(stream)
            protocol.connection_made(cast(asyncio.Transport, stream))
        elif kind is Kind.REFUSED and body:
            asked.answer.set_exception(Refused(f"mTLS: the server's node: {frames.read_word(body)}"))
        elif kind is Kind.REFUSED:
            self.is_retired = True
            asked.answer.set_exception(Elsewhere("mTLS: the server's node takes no more"))
        else:
            raise BadFrame(f"{kind.name} is no answer")

    def _is_gone(self) -> None:
        self.is_retired = True
        self._gone(self)
        for asked in self._asked.values():
            if not asked.answer.done():
                why = contexts.word(self.carrier.error or OSError())
                asked.answer.set_exception(Elsewhere(f"mTLS: the server's node: {why}"))

    def _refused(self, why: str) -> Refused:
        self._tally.refused[why] += 1
        return Refused(f"mTLS: {why}")
