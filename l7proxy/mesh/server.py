"""The server's side: takes connections of other nodes' proxies, and judges each stream before anybody is called.

A stream is let in when the client's id, proved by TLS, owns the address that it speaks for; that address is not of this
node; the server's address is, and is owned by the id that was shown; and the kernel says that policy lets it in. Who
owns what the other node's agent may have heard first: what is not so yet is held for a moment. And it has to stay so.
"""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, cast

from control.certificates.verify import Untrusted
from control.proxy_feed import UNKNOWN_NODE
from l7proxy.hears import Hears
from l7proxy.mesh import contexts, frames, limits
from l7proxy.mesh.carrier import Carrier
from l7proxy.mesh.contexts import Contexts
from l7proxy.mesh.errors import BadFrame
from l7proxy.mesh.frames import Ends, Kind
from l7proxy.mesh.tally import Tally

DENIED = "denied by policy"


class NotYet(str):
    """Why a stream is not let in, unless the agent says something else in a moment."""


NOT_OWNER = NotYet("not the owner of the address")
NO_POD = NotYet("the server is no pod of this node with the identity that was asked for")
NO_NODE = NotYet("the address of the client's node is not known")
# Makes a link for a stream, or returns why it is not let in.
Enter = Callable[[Ends], "Hears | str"]
Caller = tuple[str, int]  # a peer's address and port
Tell = Callable[[str, Caller, Ends | None], None]  # why, whom, and what it asked for
_NOBODY: Caller = ("", 0)  # what it asked for says who it is


class _Peer(NamedTuple):
    """Who is at the other end, who was shown to it, until when its certificate is valid, and the roots that it was
    checked by."""

    id: str
    shown: str
    until: float
    roots: bytes


class _Hold(NamedTuple):
    """A stream that may be let in in a moment, and what refuses it then."""

    ends: Ends
    later: asyncio.TimerHandle


class Server:
    """Serves at listening sockets in the host's network. `tell`: puts a refusal on record; `most`: streams of one
    workload."""

    def __init__(self, enter: Enter, tell: Tell, tally: Tally, most: int) -> None:
        self._enter, self._tell, self._tally = enter, tell, tally
        self._most_of_one = most + limits.MOST_SPARE
        self._contexts: Contexts | None = None
        self._handshakes: set[asyncio.Task[None]] = set()
        self._peers: dict[Carrier, _Peer] = {}
        self._waits: dict[Carrier, float] = {}  # those without a stream, since when
        self._held: dict[Carrier, dict[int, _Hold]] = {}
        self._of_one = Counter[str]()
        self._drains = False
        self.posts: list[socket.socket] = []

    @property
    def is_over(self) -> bool:
        return not self._handshakes and not self._peers

    def renew(self, new: Contexts) -> None:
        """Go by this from now on."""
        before, self._contexts = self._contexts, new
        if before is None:  # before that it was not known whom to trust
            for post in self.posts:
                self._take_at(post)
        for carrier in list(self._peers):
            if carrier in self._waits and not self._is_good(carrier):
                carrier.close()
            for stream in list(carrier.streams.values()):
                if why := self._why_not(carrier, stream.ends):
                    self._refuse(why, _NOBODY, stream.ends)
                    stream.cut(why)
        self.look_again()

    def look_again(self) -> None:
        """The agent or the kernel may know more: let in what is held for that."""
        for carrier, holds in list(self._held.items()):
            for number, hold in list(holds.items()):
                self._judge(carrier, number, hold.ends)

    def _is_good(self, carrier: Carrier) -> bool:
        """Tell whether what a peer has proved is still proof: what it asks for next is for a new connection, if not."""
        peer, now = self._peers.get(carrier), self._contexts
        return peer is not None and now is not None and peer.roots == now.mesh.roots and time.time() <= peer.until

    def listen(self, posts: list[socket.socket]) -> None:
        """Take calls at these, which are its own from now on, and at no others."""
        for post in self.posts:
            asyncio.get_running_loop().remove_reader(post)
            post.close()
        self.posts = posts
        for post in posts:
            post.setblocking(False)
            if self._contexts is not None:
                self._take_at(post)

    def drain(self) -> None:
        """Keep no connection for its next stream; the first of each is served."""
        self._drains = True
        for carrier in list(self._waits):
            if carrier.last:
                carrier.close()

    def cut(self, why: str) -> None:
        """End all streams."""
        for carrier in list(self._peers):
            carrier.cut(why)

    def sweep(self) -> None:
        """End those that have asked for nothing for too long: to be called each second."""
        now = time.monotonic()
        for carrier, since in list(self._waits.items()):
            if now - since > (limits.SERVERS_IDLE_S if carrier.last else limits.FIRST_S):
                carrier.close()

    def _take_at(self, post: socket.socket) -> None:
        if post in self.posts:
            asyncio.get_running_loop().add_reader(post, self._accept, post)

    def _accept(self, post: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        assert self._contexts
        for _ in range(limits.AT_ONCE):
            try:
                sock, (address, port, *_) = post.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no room for more files, say: they wait here until there is
                loop.remove_reader(post)
                loop.call_later(limits.AGAIN_S, self._take_at, post)
                return
            if len(self._handshakes) >= limits.MOST_HANDSHAKES:
                self._refuse("too many handshakes at once", (address, port))
                sock.close()
                continue
            task = loop.create_task(self._shake(sock, (address, port), self._contexts))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _shake(self, sock: socket.socket, caller: Caller, now: Contexts) -> None:
        loop, began = asyncio.get_running_loop(), time.monotonic()
        carrier = Carrier(
            self._came, self._look, self._is_gone, lambda carrier: self._is_made(carrier, caller, now, began)
        )
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(limits.SERVERS_HANDSHAKE_S):
                await loop.connect_accepted_socket(
                    lambda: cast(asyncio.BufferedProtocol, carrier), sock, ssl=now.server,
                    ssl_shutdown_timeout=limits.LINGER_S, ssl_handshake_timeout=2 * limits.SERVERS_HANDSHAKE_S,
                )  # fmt: skip
        except OSError as error:
            self._refuse(contexts.word(error), caller)
            carrier.abort() if carrier.tls else sock.close()

    def _is_made(self, carrier: Carrier, caller: Caller, now: Contexts, began: float) -> None:
        """Take in who has proved what OpenSSL asks for, before anything that it says is heard."""
        assert carrier.tls
        found = carrier.tls.get_extra_info("ssl_object")
        try:
            id, until = now.peer(found)
        except Untrusted as error:
            why = contexts.word(error)
        else:
            most = self._most_of_one
            why = f"more than {most} connections of one workload" if self._of_one[id] >= most else ""
        if why:
            self._refuse(why, caller)
            carrier.abort()
            return
        self._tally.good(time.monotonic() - began)
        self._peers[carrier] = _Peer(id, now.shown(found), until, now.mesh.roots)
        self._of_one[id] += 1
        self._waits[carrier] = time.monotonic()

    def _came(self, carrier: Carrier, kind: Kind, number: int, body: bytes) -> None:
        if kind is not Kind.OPEN:
            if not 0 < number <= carrier.last:
                raise BadFrame(f"{kind.name} without a stream")
            if kind is Kind.RESET:  # nobody waits for it any more
                self._hold_no_more(carrier, number)
                self._look(carrier)
            return
        if number <= carrier.last:
            raise BadFrame("OPEN by a number of before")
        ends, is_first = frames.read_open(body), not carrier.last
        carrier.last = number
        carrier.asked += 1  # each is judged, and its server called, also if a RESET comes right behind it
        under_way = max(len(carrier.streams) + len(self._held.get(carrier, ())), carrier.asked - 1)
        if under_way >= limits.STREAMS_TAKEN or not self._is_good(carrier) or (self._drains and not is_first):
            carrier.write(frames.refusal(number, ""))
            self._look(carrier)
            return
        self._waits.pop(carrier, None)
        self._judge(carrier, number, ends)

    def _judge(self, carrier: Carrier, number: int, ends: Ends, is_last: bool = False) -> None:
        link = self._why_not(carrier, ends) or self._enter(ends)
        if isinstance(link, NotYet) and not is_last:
            holds = self._held.setdefault(carrier, {})
            if number not in holds:
                loop = asyncio.get_running_loop()
                holds[number] = _Hold(ends, loop.call_later(limits.OWNER_S, self._judge, carrier, number, ends, True))
            return
        self._hold_no_more(carrier, number)
        if isinstance(link, str):
            self._refuse(link, _NOBODY, ends)
            carrier.write(frames.refusal(number, link))
            self._look(carrier)
            return
        carrier.write(frames.frame(Kind.OPENED, number))
        link.connection_made(cast(asyncio.Transport, carrier.begin(number, link, ends)))

    def _hold_no_more(self, carrier: Carrier, number: int) -> None:
        holds = self._held.get(carrier, {})
        if (hold := holds.pop(number, None)) is not None:
            hold.later.cancel()
        if not holds:
            self._held.pop(carrier, None)

    def _why_not(self, carrier: Carrier, ends: Ends) -> str:
        """Return why such a stream must not be, whatever policy says; or ""."""
        assert self._contexts
        id, shown, *_ = self._peers[carrier]
        source, node = contexts.owner_of(self._contexts.owners, ends.client)
        target, own = contexts.owner_of(self._contexts.owners, ends.server)
        if source != id or not node:
            return NOT_OWNER
        if node == UNKNOWN_NODE:
            return NO_NODE
        return "" if target and target == shown and not own else NO_POD

    def _look(self, carrier: Carrier) -> None:
        """Keep a connection for its next stream, or not, if it has none now."""
        if carrier.streams or carrier in self._held or not carrier.is_open:
            return
        self._waits[carrier] = time.monotonic()
        if self._drains or not self._is_good(carrier):
            carrier.close()

    def _is_gone(self, carrier: Carrier) -> None:
        self._waits.pop(carrier, None)
        for hold in self._held.pop(carrier, {}).values():
            hold.later.cancel()
        peer = self._peers.pop(carrier, None)
        if peer:
            self._of_one[peer.id] -= 1
            if not self._of_one[peer.id]:
                del self._of_one[peer.id]

    def _refuse(self, why: str, caller: Caller, ends: Ends | None = None) -> None:
        self._tally.refused[why] += 1
        self._tell(why, caller, ends)
