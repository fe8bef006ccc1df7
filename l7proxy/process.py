"""One worker of the node proxy as its master sees it: a process that comes and goes, at listening sockets that stay."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

from control import proxy_feed
from l7proxy.edge.limits import Limits
from l7proxy.mesh import posts
from l7proxy.outbox import Outbox

_QUICK_S = 1.0  # one that ends sooner is started again no sooner
_STUCK_S, _STARTS_S = 10.0, 60.0  # a worker says each second that it is not stuck, once it has started
_MOST_WAITING = 2 * proxy_feed.MOST_DOWN
_TURN = b'["turn",'


class Process:
    """Serves `doors` and `datagrams`, also who came to wait there while it was not running. `turn`: what it has taken
    up."""

    def __init__(self, netns: str, doors: list[socket.socket], datagrams: socket.socket, limits: Limits) -> None:
        self.doors, self.datagrams = doors, datagrams
        self._netns, self._limits = netns, limits
        self._child: subprocess.Popen[bytes] | None = None
        self.feed: socket.socket | None = None
        self.outbox: Outbox | None = None
        self._posts: list[socket.socket] = []  # the master's
        self._tells: socket.socket | None = None  # of them
        self.turn = -1
        self._started = self._silent_until = float("-inf")

    @property
    def is_running(self) -> bool:
        return self._child is not None

    @property
    def pid(self) -> int:
        """Return its number, 0 while it is not running."""
        return self._child.pid if self._child else 0

    @property
    def has_been_told(self) -> bool:
        """Tell whether nothing waits for it: else what is told instead must say all."""
        return self.outbox is None or self.outbox.is_empty

    @property
    def may_start(self) -> bool:
        return self._child is None and time.monotonic() - self._started > _QUICK_S

    @property
    def is_stuck(self) -> bool:
        return self._child is not None and time.monotonic() > self._silent_until

    def start(self, heir: socket.socket, last: bytes) -> None:
        """Start the process, and tell it what is in force."""
        self._started = time.monotonic()
        self._silent_until = self._started + _STARTS_S
        self.turn = -1
        self.feed, theirs = socket.socketpair()
        self._tells, told = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._tells.setblocking(False)
        self._frames = proxy_feed.Frames(proxy_feed.MOST_UP)
        doors, datagrams = [door.fileno() for door in self.doors], self.datagrams.fileno()
        with theirs, told:
            self._child = subprocess.Popen(
                [
                    sys.executable, "-m", "l7proxy.worker", self._netns, str(theirs.fileno()), str(heir.fileno()),
                    str(told.fileno()), ",".join(map(str, doors)), str(datagrams), json.dumps(self._limits),
                ],
                pass_fds=(*doors, datagrams, theirs.fileno(), heir.fileno(), told.fileno()),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )  # fmt: skip
        self.outbox = Outbox(self.feed, _MOST_WAITING)
        self.tell(last)
        self.listen(self._posts)

    def listen(self, at: list[socket.socket]) -> None:
        """Have it take calls of other nodes' proxies at these sockets, also when it is started again."""
        self._posts = at
        if self._tells:
            with contextlib.suppress(OSError):  # it has ended, or is stuck: the next one is told
                posts.send(self._tells, at)

    def tell(self, frame: bytes, instead: bool = True) -> None:
        """Tell it what is in force now, in place of what it has not read yet; or, not `instead`, something else."""
        if self.outbox:
            try:
                self.outbox.put_instead(frame) if instead else self.outbox.put(frame)
            except OSError:
                self._hang_up()

    def flush(self) -> None:
        """Go on telling."""
        if self.outbox:
            try:
                self.outbox.flush()
            except OSError:
                self._hang_up()

    def hear(self) -> list[bytes]:
        """Return what it tells the agent."""
        out: list[bytes] = []
        if self.feed is None:
            return out
        try:
            data = self.feed.recv(1 << 18)
        except BlockingIOError:
            return out
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return out
        self._silent_until = time.monotonic() + _STUCK_S
        try:
            for body in self._frames.feed(data):
                if body.startswith(_TURN):
                    self.turn = int(body[len(_TURN) : -1])
                else:
                    out.append(body)
        except ValueError:  # it is out of its mind
            self.kill()
        return out

    def _hang_up(self) -> None:
        for sock in (self.feed, self._tells):
            if sock:
                sock.close()
        self.feed = self._tells = self.outbox = None

    def ended(self) -> int | None:
        """Return with what status it has ended, once."""
        status = self._child.poll() if self._child else None
        if status is not None:
            self._child = None
            self._hang_up()
        return status

    def drain(self) -> None:
        """Have it take no more clients, and end when those it has are served."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                self._child.send_signal(number)

    def close(self) -> None:
        """Let go of it and of its doors; who waits there gets a reset, unless somebody else has them too."""
        self.kill()
        if self._child:
            self._child.wait()
        self._hang_up()
        for door in (*self.doors, self.datagrams):
            door.close()
