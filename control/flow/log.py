"""The flow log of one node: lines go to its sinks, to a ring of recent ones, and to those who follow.

One writer, any number of readers in other threads. Nothing a reader or a disk does can hold the writer up.
"""

import collections
import dataclasses
import io
import threading
import time
from collections.abc import Callable, Iterable, Sequence

from control.flow import record, sink

_QUEUES = 16 << 20  # bytes of lines in all followers' queues together
_MOUTHFUL = 1 << 18  # bytes that a follower takes at once: what it holds itself is in no queue, so nobody drops it


@dataclasses.dataclass(frozen=True)
class SinkStats:
    name: str
    written: int
    lost: int
    error: str = ""


@dataclasses.dataclass(frozen=True)
class FlowLogStats:
    """`lines` is all there was; each sink wrote or lost that many of them; `observers_lost` is what followers lost."""

    lines: int = 0
    sinks: tuple[SinkStats, ...] = ()
    observers: int = 0
    observers_lost: int = 0


class Subscription:
    """One follower's queue. A full one drops its oldest lines and says so, in their place, with a lost_events line."""

    def __init__(self, log: "FlowLog", limit: int, notify: Callable[[], None] | None) -> None:
        self._log = log
        self._lines: collections.deque[bytes] = collections.deque()
        self._limit = limit
        self._missed = 0
        self.size = 0  # bytes that wait
        self._notify = notify
        self._ready = threading.Condition()
        self._closed = False
        self.lost = 0

    def _put(self, lines: Sequence[bytes], size: int) -> int:
        """Take lines of `size` bytes from the writer; return how many were lost by that."""
        with self._ready:
            if self._closed:
                return 0
            self._lines.extend(lines)
            self.size += size
            missed = self._drop(max(0, len(self._lines) - self._limit))
            self._ready.notify_all()
        if self._notify is not None:
            self._notify()
        return missed

    def _trim(self, size: int) -> int:
        """Drop the oldest lines until no more than `size` bytes wait; return how many those were."""
        with self._ready:
            excess, count = self.size - size, 0
            while excess > 0:
                excess -= len(self._lines[count])
                count += 1
            return self._drop(count)

    def _drop(self, count: int) -> int:
        for _ in range(count):
            self.size -= len(self._lines.popleft())
        self._missed += count
        self.lost += count
        return count

    def take(self, timeout: float | None = 0.0) -> list[bytes]:
        """Return the oldest waiting lines, or all if they are not too many to hold; the next call has the rest.

        Waits `timeout` seconds for the first (None: for ever). Empty: there is none, or no more will come.
        """
        out: list[bytes] = []
        with self._ready:
            self._ready.wait_for(lambda: self._lines or self._missed or self._closed, timeout)
            rest = self.size - _MOUTHFUL
            while self._lines and (not out or self.size - len(self._lines[0]) >= rest):
                out.append(self._lines.popleft())
                self.size -= len(out[-1])
            missed, self._missed = self._missed, 0
        if missed:
            # Old lines went first, so this is where they are missing.
            gap = record.lost(missed, record.OBSERVER_QUEUE, self._log.node, time.time_ns())
            out.insert(0, record.line(gap))
        return out

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Stop following. May be called from any thread, more than once."""
        self._log._forget(self)
        self._end()

    def _end(self) -> None:
        with self._ready:
            self._closed = True
            self._ready.notify_all()
        if self._notify is not None:
            self._notify()

    def __enter__(self) -> "Subscription":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FlowLog:
    """Collects lines with `write`, hands them on with `flush`: call that once for each batch of events."""

    def __init__(
        self, sinks: Sequence[sink.Sink] = (), node: str = "", recent: int = 4096, queues: int = _QUEUES
    ) -> None:
        self.node = node
        self._queues = queues
        self._sinks = tuple(sinks)
        for target in self._sinks:
            target.node = node
        self._batch: list[bytes] = []
        # Blocks, and how many lines each has. Single lines would be freed when thousands more have been made, and the
        # next be made in that memory, which no cache holds any more.
        self._recent: collections.deque[tuple[bytes, int]] = collections.deque()
        self._held, self._limit = 0, recent
        self._subscriptions: list[Subscription] = []
        self._lock = threading.Lock()
        self._lines = 0
        self._observers_lost = 0

    def write(self, lines: bytes | Iterable[bytes]) -> None:
        """Add one line, or several, to the batch. Each ends in a newline. Only the writer's thread calls this."""
        if isinstance(lines, bytes):
            self._batch.append(lines)
        else:
            self._batch.extend(lines)

    def flush(self) -> None:
        """Hand the batch to followers, the ring and every sink. Never raises for a sink's sake."""
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        block = b"".join(batch)
        with self._lock:  # so that `follow` sees each line once: in the ring, or in its queue
            self._lines += len(batch)
            self._remember(batch, block)
            for subscription in self._subscriptions:
                self._observers_lost += subscription._put(batch, len(block))
            self._trim()
        for target in self._sinks:
            target.write(batch, block)

    def _remember(self, lines: list[bytes], block: bytes) -> None:
        if len(lines) > self._limit:
            lines = lines[-self._limit :]
            block = b"".join(lines)
        self._recent.append((block, len(lines)))
        self._held += len(lines)
        while self._held - self._recent[0][1] >= self._limit:
            self._held -= self._recent.popleft()[1]

    def _trim(self) -> None:
        """Hold all queues together to their bytes. The fullest lose first: who keeps up pays for nobody else."""
        sizes = sorted(subscription.size for subscription in self._subscriptions)
        room = self._queues
        for place, size in enumerate(sizes):
            share = room // (len(sizes) - place)
            if size > share:
                for subscription in self._subscriptions:
                    self._observers_lost += subscription._trim(share)
                return
            room -= size

    def recent(self) -> list[bytes]:
        """Return the lines that are still in memory, oldest first."""
        with self._lock:
            found = list(self._recent)
        return self._newest(found)

    def _newest(self, found: list[tuple[bytes, int]]) -> list[bytes]:
        return io.BytesIO(b"".join(block for block, _ in found)).readlines()[-self._limit :]

    def follow(self, limit: int = 8192, notify: Callable[[], None] | None = None) -> tuple[list[bytes], Subscription]:
        """Return the recent lines, and a queue of all that come after them: no gap, none twice.

        `notify` is called, in the writer's thread, whenever `take` has something; it must not block.
        """
        subscription = Subscription(self, limit, notify)
        with self._lock:
            self._subscriptions.append(subscription)
            found = list(self._recent)
        return self._newest(found), subscription

    def _forget(self, subscription: Subscription) -> None:
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)

    def stats(self) -> FlowLogStats:
        sinks = tuple(SinkStats(s.name, s.written, s.lost, s.error) for s in self._sinks)
        with self._lock:
            return FlowLogStats(self._lines, sinks, len(self._subscriptions), self._observers_lost)

    def close(self) -> None:
        """Write what is left, end every follower's stream and close the sinks."""
        self.flush()
        with self._lock:
            subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription._end()
        for target in self._sinks:
            target.close()
