"""The node proxy's other half in the agent: tells it what policy asks of bytes, before the kernel does, and takes its
records.

The proxy is a process of its own, started by whoever starts the agent. It comes to the agent's socket and may come
again; while there is none, the kernel leads to it what it must look into, and nobody takes it.
"""

import contextlib
import json
import logging
import os
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from control import model, proxy_feed
from control.agent import handshakes
from control.flow import told
from control.flow.summary import counted
from control.policy_set import L7
from loader import abi

LOG = logging.getLogger("sockmesh.agent")
_SEND_US = 300_000  # microseconds in which a proxy must read on, or come again: one that is stuck holds up nobody
_WAIT_S = 1.0  # for proxies to have taken up what policy says next; one that is slower denies what it does not know
_MOST_RECORDS = 100_000
T = TypeVar("T")
_MOST_LEARNED = 1024  # frames that wait
Sets = Mapping[int, Mapping[abi.PolicyKey, L7]]


class Learned(NamedTuple):
    """What a worker of a proxy has learned of names, unread; it waits for `in_force`."""

    caller: socket.socket
    word: proxy_feed.InForce
    told: list[Any]


class Proxies:
    """Listens in the run directory from `start` until `close`; `publish` may be called before.

    `wake`: called from any thread when there is what somebody waits for.
    """

    wake: Callable[[], None] = staticmethod(lambda: None)

    def __init__(
        self, run_dir: Path, ground: proxy_feed.Ground, headers: tuple[str, ...] = (), traces: float | None = None
    ) -> None:
        self._path, self._ground, self._headers = run_dir / proxy_feed.SOCKET, ground, headers
        self._callers: dict[socket.socket, int] = {}  # and the turn that each has taken up
        self._workers: dict[socket.socket, int] = {}
        self._now = proxy_feed.Sets(0, {}, headers, traces=traces)  # what is published
        self._mesh: proxy_feed.Mesh | None = None  # nobody knows yet: those that were told keep it
        self.handshakes = handshakes.Tally()
        self._changed = threading.Condition()
        self._batches: deque[told.Batch] = deque()
        self._waiting = 0  # requests in them
        self._lookups: deque[list[Any]] = deque()
        self._learned: deque[Learned] = deque(maxlen=_MOST_LEARNED)
        self.lost = 0  # requests and queries that nothing is told of
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            self._listener.bind(str(self._path))
        finally:
            os.umask(before)
        self._listener.listen(8)

    def start(self) -> None:
        threading.Thread(target=self._accept, name="proxies", daemon=True).start()

    def publish(self, sets: Sets, names: tuple[model.NamePeer, ...] = (), again: bool = False) -> None:
        """Tell all proxies, and return when they have taken it up, or after a second; who is late already is not waited
        for.

        `again`: also if it is the same: what the kernel says of connections has changed, and they are to ask anew.
        """
        with self._changed:
            before = self._now
            if (sets, names) == (before.sets, before.names) and not again:
                return
            until = time.monotonic() + _WAIT_S
            late = {caller for caller, turn in self._callers.items() if turn < before.turn}
            turn = before.turn + 1
            self._now = before._replace(turn=turn, sets=dict(sets), names=names)
            frame = proxy_feed.down(self._now)
            for caller in list(self._callers):
                self._send(caller, frame)
            if not self._changed.wait_for(
                lambda: all(t >= turn or caller in late for caller, t in self._callers.items()),
                until - time.monotonic(),
            ):
                LOG.warning(
                    "the node proxy has not taken up a change of policy after %g s: it denies what is new", _WAIT_S
                )

    def publish_mesh(self, mesh: proxy_feed.Mesh) -> bool:
        """Tell all proxies, unless it is the same; return whether it is another. `publish` waits until they have it."""
        with self._changed:
            if mesh == self._mesh:
                return False
            self._mesh = mesh
            frame = proxy_feed.down(mesh)
            for caller in list(self._callers):
                self._send(caller, frame)
            return True

    def wait_for_one(self) -> None:
        """Return when a proxy that went on without an agent has come back and taken up what is published, or after a
        second."""
        with self._changed:
            self._changed.wait_for(lambda: any(t >= self._now.turn for t in self._callers.values()), _WAIT_S)

    def take(self, most: int) -> list[told.Batch]:
        """Return what came since, of about so many requests; the rest is for the next call."""
        out = []
        while self._batches and most > 0:
            out.append(self._batches.popleft())
            most -= len(out[-1].kind)
        with self._changed:
            self._waiting -= sum(len(batch.kind) for batch in out)
        return out

    def take_lookups(self) -> list[list[Any]]:
        """Return the records of DNS queries that came since."""
        return _taken(self._lookups)

    def take_learned(self) -> list[Learned]:
        """Return what was learned of names since."""
        return _taken(self._learned)

    def in_force(self, learned: Learned) -> None:
        """Tell whoever waits that what it has learned is in force."""
        with self._changed:
            self._send(learned.caller, proxy_feed.down(learned.word))

    @property
    def is_there(self) -> bool:
        """Tell whether a proxy is connected."""
        return bool(self._callers)

    @property
    def connected(self) -> int:
        return len(self._callers)

    @property
    def workers(self) -> int:
        """Return how many processes the connected proxies have told of."""
        return sum(list(self._workers.values()))  # a copy: others come and go meanwhile

    def _send(self, caller: socket.socket, frame: bytes) -> None:
        try:
            caller.sendall(frame)
        except OSError:
            self._drop(caller)

    def _drop(self, caller: socket.socket) -> None:
        with self._changed:
            self._callers.pop(caller, None)
            served = bool(self._workers.pop(caller, 0))
            others = any(self._workers.values())
            self._changed.notify_all()
        if served and self._listener.fileno() >= 0:
            if others:
                LOG.info("a node proxy has left, another one serves here")
            else:
                LOG.warning("the node proxy has left: what policy sends to it is not served until there is one again")
        self.handshakes.keep(caller, 0)
        with contextlib.suppress(OSError):
            caller.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError:
                return  # closed
            caller.settimeout(None)
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("=qq", 0, _SEND_US))
            with self._changed:
                self._callers[caller] = 0
                self._send(caller, proxy_feed.down(self._ground))
                if self._mesh is not None:
                    self._send(caller, proxy_feed.down(self._mesh))
                self._send(caller, proxy_feed.down(self._now))
            threading.Thread(target=self._listen, args=(caller,), name="proxy", daemon=True).start()

    def _listen(self, caller: socket.socket) -> None:
        frames = proxy_feed.Frames(proxy_feed.MOST_UP)
        with caller:
            try:
                while data := caller.recv(1 << 18):
                    for body in frames.feed(data):
                        self._take(caller, *json.loads(body))
            except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
                LOG.warning("the node proxy is not understood any more: %s", error)
            finally:
                self._drop(caller)

    def _take(self, caller: socket.socket, kind: str, content: Any) -> None:
        if kind == "turn":
            with self._changed:
                if caller in self._callers:
                    self._callers[caller] = int(content)
                self._changed.notify_all()
        elif kind == "workers":
            with self._changed:
                is_new = caller in self._callers and not self._workers.get(caller) and int(content) > 0
                if caller in self._callers:
                    self._workers[caller] = int(content)
            if is_new:
                LOG.info("a node proxy serves here, with %s", counted(int(content), "worker"))
            self.handshakes.keep(caller, int(content))
        elif kind == "handshakes":
            self._take_handshakes(caller, content)
        elif kind == "requests":
            self._take_batch(content)
        elif kind == "learned":
            worker, number, learned = content
            self._learned.append(Learned(caller, proxy_feed.InForce(int(worker), int(number)), list(learned)))
            self.wake()
        elif kind == "lookups":
            for each in content:
                if len(self._lookups) >= _MOST_RECORDS:
                    self.lost += 1
                else:
                    self._lookups.append(each)

    def _take_handshakes(self, caller: socket.socket, content: Any) -> None:
        try:
            self.handshakes.take(caller, content)
        except (TypeError, ValueError, KeyError, OverflowError) as error:
            LOG.warning("what the node proxy counts of handshakes cannot be read: %r", error)

    def _take_batch(self, content: Any) -> None:
        """What one worker cannot have meant is left out, said and counted: the others' is as good as before."""
        try:
            batch = told.read(content)
        except (TypeError, ValueError) as error:
            LOG.warning("records of the node proxy cannot be read: %s", error)
            with self._changed:
                self.lost += told.size(content)
            return
        with self._changed:
            self.lost += batch.lost
            if self._waiting >= _MOST_RECORDS:
                self.lost += len(batch.kind)
                return
            self._waiting += len(batch.kind)
        self._batches.append(batch)

    def close(self) -> None:
        """Let go of the proxies: they go on with what they know."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for caller in list(self._callers):
            self._drop(caller)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


def _taken(records: deque[T]) -> list[T]:
    out = []
    with contextlib.suppress(IndexError):
        while True:
            out.append(records.popleft())
    return out
