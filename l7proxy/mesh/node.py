"""A worker's part in mTLS between nodes: the pool of its own calls, the server for others', and what both hold."""

import asyncio
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from control.proxy_feed import Mesh
from l7proxy.mesh.client import Pool, sockets_of
from l7proxy.mesh.contexts import Contexts, owner_of
from l7proxy.mesh.frames import Ends
from l7proxy.mesh.server import Enter, Server, Tell
from l7proxy.mesh.stream import Stream
from l7proxy.mesh.tally import Tally

LOG = logging.getLogger("sockmesh.proxy")


class Node:
    """`outside`: an executor whose one thread has stayed in the host's network."""

    def __init__(self, outside: ThreadPoolExecutor, enter: Enter, tell: Tell) -> None:
        self._outside = outside
        self.tally = Tally()
        self.pool = Pool(sockets_of(outside), self.tally)
        self.server = Server(enter, tell, self.tally)
        self._contexts: Contexts | None = None
        self._listens_at: tuple[str, int] | None = None
        self._doors: list[socket.socket] = []

    @property
    def at(self) -> tuple[str, int]:
        """Return where other nodes call."""
        return self._listens_at or ("", 0)

    async def renew(self, mesh: Mesh) -> None:
        """Go by this from now on; raises ValueError (ssl.SSLError) where it cannot be used."""
        new = Contexts(mesh)
        self._contexts = new
        self.pool.renew(new)
        self.server.renew(new)
        at = (mesh.address, mesh.port) if mesh.address else None
        if at != self._listens_at:
            self.stop()
            if at:
                self._doors = [await asyncio.get_running_loop().run_in_executor(self._outside, listener, *at)]
                self.server.listen(self._doors)
            self._listens_at = at

    def leads(self, server: str) -> bool:
        """Tell whether a server's address is another node's, and so behind a tunnel."""
        return self._contexts is not None and bool(owner_of(self._contexts.owners, server)[1])

    async def call(self, ends: Ends, factory: Callable[[], asyncio.Protocol]) -> Stream:
        """Return a stream to a pod of another node; raises OSError."""
        return await self.pool.call(ends, factory)

    def sweep(self) -> None:
        self.pool.sweep()
        self.server.sweep()

    def stop(self) -> None:
        """Take no more calls of other nodes."""
        self.server.stop()
        for door in self._doors:
            door.close()
        self._doors = []
        self._listens_at = None

    def content(self) -> dict[str, Any]:
        """Return the figures of it, as the agent is told."""
        return self.tally.content(self.pool.open, self.pool.idle)


def listener(address: str, port: int) -> socket.socket:
    """Return a socket that shares its place with those of other workers, and of the proxy before or after this one."""
    sock = socket.socket(
        socket.AF_INET6 if ":" in address else socket.AF_INET,
        socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
    )
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        sock.listen(1024)
    except BaseException:
        sock.close()
        raise
    return sock
