"""The client's side: connections to other nodes' proxies, each with some streams at a time, kept when these are over.

A pool is for one client workload, one server workload and one node: what a connection has proved is true for all that
goes over it.
"""

import asyncio
import socket
import time
from collections import defaultdict
from typing import cast

from control.proxy_feed import UNKNOWN_NODE
from l7proxy.mesh import contexts, limits
from l7proxy.mesh.connection import Connection, Elsewhere, Factory, Key, Refused, Sockets
from l7proxy.mesh.contexts import Contexts
from l7proxy.mesh.frames import Ends
from l7proxy.mesh.stream import Stream
from l7proxy.mesh.tally import Tally


class Pool:
    """All connections that this worker has made to other nodes. `sockets`: where they come from."""

    def __init__(self, sockets: Sockets, tally: Tally) -> None:
        self._sockets, self._tally = sockets, tally
        self._contexts: Contexts | None = None
        self._of: defaultdict[Key, list[Connection]] = defaultdict(list)
        self._drains = False
        self._renewed = asyncio.Event()

    @property
    def _all(self) -> list[Connection]:
        return [each for some in self._of.values() for each in some]

    @property
    def is_over(self) -> bool:
        return not self._of

    @property
    def open(self) -> int:
        """Return how many are in use."""
        return sum(not each.is_idle for each in self._all)

    @property
    def idle(self) -> int:
        return sum(each.is_idle for each in self._all)

    def renew(self, new: Contexts) -> None:
        """Go by this from now on; what proves less than new ones would gets no more streams."""
        self._contexts = new
        self._renewed.set()
        self._renewed = asyncio.Event()  # the next time
        for each in self._all:
            if not new.is_like(each.made_with, each.key[0]):
                each.retire()

    def sweep(self) -> None:
        """Close what nobody has used for a while: to be called each second."""
        now = time.monotonic()
        for each in self._all:
            if each.is_idle and now - each.since > limits.IDLE_S:
                each.retire()

    def drain(self) -> None:
        """Keep no connection for the next stream any more."""
        self._drains = True
        for each in self._all:
            if each.is_idle:
                each.retire()

    def cut(self, why: str) -> None:
        """End all streams."""
        for each in self._all:
            each.carrier.cut(why)

    def close(self) -> None:
        for each in self._all:
            each.close()

    async def call(self, ends: Ends, factory: Factory) -> Stream:
        """Return a stream to a pod of another node, in the name of the client's workload; raises OSError."""
        refused = 0
        while True:
            key, now = await self._known(ends)
            found = next((each for each in self._of.get(key, ()) if each.has_room), None)
            connection = found or self._begin(key, now)
            connection.users += 1
            try:
                await connection.make(self._sockets)
                return await connection.ask(ends, factory)
            except Elsewhere as error:
                connection.is_retired = True
                # So much for a new one. But another call may have been the first on it, and a node that ends takes that
                # one alone; or roots have changed over there since the handshake.
                if found is None:
                    refused += 1
                    if refused == limits.MOST_REFUSED or not connection.is_proved:
                        raise ConnectionResetError(str(error)) from None
            finally:
                connection.users -= 1
                self._look(connection)

    async def _known(self, ends: Ends) -> tuple[Key, Contexts]:
        """Return who calls whom and where, as soon as it is known, if that is in a moment."""
        try:
            async with asyncio.timeout(limits.OWNER_S):
                while isinstance(found := _key(self._contexts, ends), str):
                    await self._renewed.wait()
        except TimeoutError:
            self._tally.refused[str(found)] += 1
            raise Refused(f"mTLS: {found}") from None
        assert self._contexts
        return found, self._contexts

    def _begin(self, key: Key, now: Contexts) -> Connection:
        """Return a connection that is about to be made: who comes meanwhile waits for it, too."""
        made = Connection(key, now, self._tally, self._look, self._forget)
        self._of[key].append(made)
        return made

    def _look(self, connection: Connection) -> None:
        """Keep it for the next stream, or not, if it has none now."""
        if not connection.is_idle:
            return
        connection.since = time.monotonic()
        is_current = self._contexts is not None and self._contexts.is_like(connection.made_with, connection.key[0])
        spare = sum(each.is_idle for each in self._of.get(connection.key, ())) > limits.MOST_IDLE
        if self._drains or not is_current or spare or connection.is_retired:
            connection.retire()

    def _forget(self, connection: Connection) -> None:
        some = self._of.get(connection.key, [])
        if connection in some:
            some.remove(connection)
        if not some:
            self._of.pop(connection.key, None)


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
    return Key(source, target, node)


def sockets_of(executor: object) -> Sockets:
    """Return what makes sockets in an executor's thread, which has stayed in the host's network."""

    async def make(family: int) -> socket.socket:
        return await asyncio.get_running_loop().run_in_executor(cast("None", executor), _made, family)

    return make


def _made(family: int) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
