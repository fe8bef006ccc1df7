"""One worker of the node proxy: `python -m l7proxy.worker NETNS FEED_FD HEIR_FD POSTS_FD DOOR_FDS DATAGRAMS_FD LIMITS`.

It stands in the proxy's network namespace as `nobody`, with CAP_NET_RAW alone: to call servers from their clients'
addresses. It holds no file and no secret. SIGTERM has it take no more clients and end when those it has are served. If
its master dies it goes on, and hands its doors to the next master.
"""

import asyncio
import contextlib
import ctypes
import gc
import json
import logging
import os
import pwd
import signal
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvloop

from control import proxy_feed
from l7proxy.edge import handover
from l7proxy.edge.datagrams import Datagrams
from l7proxy.edge.door import Door
from l7proxy.edge.limits import Limits
from l7proxy.edge.lookups import Lookups
from l7proxy.edge.teacher import Teacher
from l7proxy.edge.telling import Notes
from l7proxy.hears import protocol
from l7proxy.mesh import posts
from l7proxy.mesh.node import Node
from l7proxy.policy.book import Book
from loader import netns

LOG = logging.getLogger("sockmesh.proxy")
_CLONE_NEWNET = 0x40000000
_PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS = 8, 38
_CAP_NET_RAW, _CAPABILITY_VERSION = 13, 0x20080522
_FLUSH_S = 0.05
_AT_ONCE = 8  # batches of records: to pass on each by itself costs as much as what is in it, in three processes
_MOST_UNSENT = 4 << 20  # bytes that wait for the agent
_TICK_S, _DRAIN_TICK_S = 1.0, 0.2
_LAST_CALL_S = 1.0  # for a handshake that is under way when the doors are closed
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def drop_privileges(user: str = "nobody") -> None:
    """Become a user with no capability but CAP_NET_RAW."""
    who = pwd.getpwnam(user)
    _check(_libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl")
    os.setgroups([])
    os.setresgid(who.pw_gid, who.pw_gid, who.pw_gid)
    os.setresuid(who.pw_uid, who.pw_uid, who.pw_uid)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    bit = 1 << _CAP_NET_RAW
    data = (ctypes.c_uint32 * 6)(bit, bit, 0, 0, 0, 0)
    _check(_libc.capset(header, data), "capset")
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")


class Worker:
    """Serves clients at its doors, by the book that comes over the feed, and tells there what became of requests.

    `heir`: where a new master asks for the doors, once this one's is dead; `ground`: their network namespace's number;
    `told`: where the master says at which sockets other nodes' proxies call.
    """

    def __init__(
        self,
        doors: list[socket.socket],
        datagrams: socket.socket,
        feed: socket.socket,
        heir: socket.socket,
        told: socket.socket,
        ground: int,
        limits: Limits,
        outside: ThreadPoolExecutor,
    ) -> None:
        self._doors, self._feed, self._heir, self._ground = doors, feed, heir, ground
        self._datagrams_socket, self._told = datagrams, told
        self._datagrams: Datagrams | None = None
        self._book = Book()
        self._notes = Notes(self._due, self._full)
        self._batches: list[bytes] = []  # frames for the agent
        self._lookups = Lookups(lambda told: self._say("lookups", told))
        self._teacher = Teacher(lambda told: self._say("learned", told))
        self.door = Door(self._book, self._notes, limits, self._lookups.tell, self._teacher.learn)
        self._node = Node(outside, self.door.enter, self.door.tell_refusal, limits.connections)
        self._servers: list[asyncio.Server] = []
        self._lost = 0  # requests that the agent was not told of, nor that they are lost
        self._timer: asyncio.TimerHandle | None = None
        self._turn = -1
        self._is_orphan = False
        self._drains_since = 0.0  # 0: it does not

    def _say(self, kind: str, content: list[Any] | dict[str, Any]) -> None:
        """Tell the agent, unless it takes nothing."""
        if not self._is_orphan and self._writer.transport.get_write_buffer_size() <= _MOST_UNSENT:
            self._writer.write(proxy_feed.up(kind, content))

    def _due(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self._flush)

    def _full(self) -> None:
        self._gather()
        if len(self._batches) >= _AT_ONCE:
            self._send()

    def _flush(self) -> None:
        self._gather()
        self._send()

    def _gather(self) -> None:
        """Have a batch ready for the agent, unless it takes nothing: then what there is is lost, and counted."""
        batch = self._notes.take()
        if self._is_orphan or self._writer.transport.get_write_buffer_size() > _MOST_UNSENT:
            self._lost += len(batch)
        elif len(batch) or self._lost:
            self._batches.append(proxy_feed.up("requests", batch.content(self._lost)))
            self._lost = 0

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._batches:
            self._writer.write(b"".join(self._batches))
            self._batches.clear()

    async def run(self) -> None:
        """Serve until SIGTERM, and then until the clients that are there are served."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._drain)
        loop.add_reader(self._told, self._take_posts)
        reader, self._writer = await asyncio.open_connection(sock=self._feed)
        following = loop.create_task(self._follow(reader))
        while not self._is_over():
            await asyncio.sleep(_DRAIN_TICK_S if self._drains_since else _TICK_S)
            if following.done():
                following.result()  # what it raised ends the worker
            if self._is_orphan:  # nobody says any more that policy has changed, but the kernel
                self.door.refresh()
            elif not self._writer.transport.get_write_buffer_size():
                self._writer.write(proxy_feed.up("turn", self._turn))  # also to say: not stuck
                if self._lost:
                    self._flush()
            self.door.sweep()
            if self.door.node is not None:
                self._node.sweep()
                self._say("handshakes", self._node.content())
            if self._drains_since:
                self._drain_on(loop.time() - self._drains_since)
        self._flush()
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(self._writer.drain(), 1)
            self._writer.close()

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        """Take up what the master says; without one, go on by what the book has, and wait for who takes over."""
        frames = proxy_feed.Frames(proxy_feed.MOST_DOWN)
        try:
            while data := await reader.read(1 << 18):
                for body in frames.feed(data):
                    message = proxy_feed.read_down(body)
                    if isinstance(message, proxy_feed.Sets):
                        await self._take_up(message)
                    elif isinstance(message, proxy_feed.InForce):
                        self._teacher.in_force(message.number)
                    elif isinstance(message, proxy_feed.Mesh):
                        self._renew(message)
        except OSError:
            pass
        self._is_orphan = True
        if not self._drains_since:
            self._offer()

    async def _take_up(self, message: proxy_feed.Sets) -> None:
        self._book.replace(message.sets)
        self._notes.headers = frozenset(name.encode() for name in message.headers)
        self.door.tracer.ratio = message.traces
        self._teacher.want(message.names)
        self.door.refresh()
        self._node.look_again()
        if not self._servers and not self._drains_since:
            loop = asyncio.get_running_loop()
            self._datagrams = Datagrams(self._datagrams_socket, self._book, self._lookups.tell, self._teacher.learn)
            self._servers = [
                await loop.create_server(protocol(self.door), sock=door, backlog=4096) for door in self._doors
            ]
        self._turn = message.turn
        self._writer.write(proxy_feed.up("turn", self._turn))

    def _renew(self, message: proxy_feed.Mesh) -> None:
        """Go by new certificates, roots and owners; by those before, where the new ones cannot be used."""
        try:
            self._node.renew(message)
        except (OSError, ValueError) as error:  # ssl.SSLError among them
            LOG.warning("mTLS between nodes goes on with what it had: %s", error)
        self.door.node = self._node

    def _take_posts(self) -> None:
        try:
            given = posts.receive(self._told)
        except BlockingIOError:
            return
        except OSError:
            given = None
        if given is None:  # the master is dead: it goes on with those it has
            asyncio.get_running_loop().remove_reader(self._told)
            self._told.close()
        elif self._drains_since and not self._servers:
            for post in given:
                post.close()
        else:
            self._node.listen(given)

    # --- the end --------------------------------------------------------------------------------------------------

    def _offer(self) -> None:
        asyncio.get_running_loop().add_reader(self._heir, self._give)

    def _give(self) -> None:
        loop = asyncio.get_running_loop()
        mine = self._doors + self._node.posts
        if (caller := handover.give(self._heir, mine, self._ground, is_all=False)) is not None:
            loop.remove_reader(self._heir)
            loop.add_reader(caller, self._heard, caller)

    def _heard(self, caller: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(caller)
        with caller:
            is_served = handover.said_go(caller)
        if is_served:
            self._heir.close()
            self._drain()
        else:
            self._offer()

    def _drain(self) -> None:
        self._drains_since = self._drains_since or asyncio.get_running_loop().time()
        self._node.drain()

    def _drain_on(self, since_s: float) -> None:
        """Clients that are in the door may still come in for a moment; then those that are there are let go of."""
        if since_s > _LAST_CALL_S:
            for server in self._servers:
                server.close()
            self._servers.clear()
            self._node.stop()
        if since_s > self.door.limits.drain_s:
            why = f"the node proxy ends, and waited {self.door.limits.drain_s:g} s"
            self.door.cut(why)
            if since_s > self.door.limits.drain_s + _LAST_CALL_S:
                self._node.cut(why)  # what no link has any more, and the other node does not end
        else:
            self.door.drain()

    def _is_over(self) -> bool:
        drains = bool(self._drains_since) and not self._servers
        return drains and not self.door.links and self._node.is_over


async def serve(make: Callable[[], Worker]) -> None:
    """Run a worker that is made in its event loop."""
    await make().run()


def main(argv: list[str]) -> int:
    where, feed_fd, heir_fd, told_fd, door_fds, datagrams_fd, limits = argv
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which the master has got, too
    outside = ThreadPoolExecutor(1, "outside")
    outside.submit(os.getpid).result()  # its thread begins here, and stays in the host's network when this one leaves
    ground = os.stat(netns.path_of(where)).st_ino
    netns.enter(where)
    drop_privileges()
    doors = [socket.socket(fileno=int(fd)) for fd in door_fds.split(",")]
    others = (socket.socket(fileno=int(fd)) for fd in (datagrams_fd, feed_fd, heir_fd, told_fd))
    datagrams, feed, heir, told = others
    for sock in (*doors, datagrams, feed, heir, told):
        sock.setblocking(False)
    gc.freeze()
    uvloop.run(serve(lambda: Worker(doors, datagrams, feed, heir, told, ground, Limits(*json.loads(limits)), outside)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
