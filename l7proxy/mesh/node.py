"""A worker's part in mTLS between nodes: the pool of its own calls, the server for others', and what both hold."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from control.proxy_feed import Mesh
from l7proxy.hears import Hears
from l7proxy.mesh.client import Pool, sockets_of
from l7proxy.mesh.contexts import Contexts, owner_of
from l7proxy.mesh.frames import Ends
from l7proxy.mesh.server import Enter, Server, Tell
from l7proxy.mesh.stream import Stream
from l7proxy.mesh.tally import Tally


class Node:
    """`outside`: an executor whose one thread has stayed in the host's network; `most`: streams of one workload."""

    def __init__(self, outside: ThreadPoolExecutor, enter: Enter, tell: Tell, most: int) -> None:
        self.tally = Tally()
        self.pool = Pool(sockets_of(outside), self.tally)
        self.server = Server(enter, tell, self.tally, most)
        self._contexts: Contexts | None = None

    @property
    def at(self) -> tuple[str, int]:
        """Return where other nodes call."""
        return (self._contexts.mesh.address, self._contexts.mesh.port) if self._contexts else ("", 0)

    @property
    def posts(self) -> list[socket.socket]:
        """Return the sockets where it takes their calls."""
        return self.server.posts

    @property
    def is_over(self) -> bool:
        """Tell whether, after `drain` and `stop`, there is nothing left that goes to or comes from another node."""
        return self.pool.is_over and self.server.is_over

    def renew(self, mesh: Mesh) -> None:
        """Go by this from now on; raises ValueError (ssl.SSLError) where it cannot be used."""
        new = Contexts(mesh)
        self._contexts = new
        self.pool.renew(new)
        self.server.renew(new)

    def listen(self, posts: list[socket.socket]) -> None:
        """Take calls of other nodes at these sockets, at no others; once it is known whom to trust."""
        self.server.listen(posts)

    def look_again(self) -> None:
        """Policy may be another one now."""
        self.server.look_again()

    def leads(self, server: str) -> bool:
        """Tell whether a server's address is another node's, and so behind a tunnel."""
        return self._contexts is not None and bool(owner_of(self._contexts.owners, server)[1])

    @property
    def is_strict(self) -> bool:
        """Tell whether nothing may go between this node's pods and another's but through a tunnel."""
        return self._contexts is not None and self._contexts.mesh.mode == "strict"

    async def call(self, ends: Ends, factory: Callable[[], Hears]) -> Stream:
        """Return a stream to a pod of another node; raises OSError."""
        return await self.pool.call(ends, factory)

    def sweep(self) -> None:
        self.pool.sweep()
        self.server.sweep()

    def drain(self) -> None:
        """Keep no connection for its next stream, so that those come to who takes over; calls still come in."""
        self.pool.drain()
        self.server.drain()

    def cut(self, why: str) -> None:
        """End all streams: also those that have been closed here, and that the other node has not ended."""
        self.pool.cut(why)
        self.server.cut(why)

    def stop(self) -> None:
        """Take no more calls of other nodes."""
        self.server.listen([])

    def content(self) -> dict[str, Any]:
        """Return the figures of it, as the agent is told."""
        return self.tally.content(self.pool.open, self.pool.idle)
