"""Events to the flow log: what the kernel reports, what the agent itself does to connections, and what ages."""

import logging
import mmap
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from control import names
from control.agent import ageing, enforce, gone, resets, tracked, trial
from control.flow import log as flow_log
from control.flow import lookups, record, recorder, request_counts, summary, told
from control.tracing import sender
from loader import abi, events, maps

_ONE_LOOK = 10_000  # events, before the agent sees to its other work
REQUESTS_AT_ONCE = 2_500  # 50,000 a second; clients can have each made in full, which takes longer than an event's
_ABOVE = 1 << 32  # it may be below 0 for a while, which a word of the page may not
_EXPIRY_SHARE = 100  # a walk over all of conntrack may take a hundredth of a core's time

LOG = logging.getLogger("sockmesh.agent")
_TYPE, _HOOK = (
    events.HEADER + next(at for name, _, at in abi.FlowEvent.FIELDS if name == wanted) for wanted in ("type", "hook")
)
_MISSED = "a program of %s would wait for what it does not see, or nobody sends (%s); its connection is reset"
_PACKET_HOOKS = (abi.Hook.TC_FROM_POD, abi.Hook.TC_TO_POD)


def _readers(slots: bytes, known: names.Names) -> dict[tuple[str, str], None]:
    """Return the pods that connections of a batch are reset for, and the AccelReasons in words; each once."""
    out: dict[tuple[str, str], None] = {}
    for at in range(0, len(slots), events.SLOT):
        if slots[at + _TYPE] == abi.EventType.STUCK:
            event = abi.FlowEvent.unpack(slots[at + events.HEADER : at + events.SLOT])
            id = event.src_endpoint if summary.reader(event) == "source" else event.dst_endpoint
            out[str(known.endpoint(id) or f"endpoint {id}"), summary.accel_word(event.reason)] = None
    return out


class Ledger:
    """The only reader of the events and the only writer of the log; `resets` counts connections that were reset."""

    def __init__(self, opened: maps.Maps, known: names.Names, flows: flow_log.FlowLog, interval_s: float) -> None:
        self.flows = flows
        self.ends_lost = 0  # of connections that conntrack has forgotten
        self.requests_lost = 0  # of the node proxy
        self.spans: sender.Sender | None = None  # who takes them
        self.drained = time.monotonic()  # when the loop last came by: each of its turns begins here
        self._maps, self._names = opened, known
        self._events = events.EventReader(opened.events_fd)
        self._recorder = recorder.Recorder(known)
        self._long_lived = ageing.LongLived(interval_s)
        self._walker = tracked.Walker(interval_s)
        self._resets = resets.Resets()
        self._gone = gone.Gone(opened)
        self._next_expiry = 0
        self._kept = _Kept(opened.events_fd, opened.counter(abi.Metric.EVENTS_LOST))
        self._balance = tracked.Balance(self._kept.open)

    @property
    def resets(self) -> int:
        return self._resets.count

    def went(self, these: Mapping[int, abi.Endpoint]) -> None:
        """Take note of pods that are not in force any more, or have lost their interfaces. To be called while they have
        their names."""
        self._gone.went(these, self._names)

    def rename(self, known: names.Names) -> None:
        """Use other names from now on."""
        if known.revision != self._names.revision:
            self._resets.forget()  # whom the policy in force denies is asked anew; who is stuck tells it once
        self._names = known
        self._recorder.update(known)

    def _write(self, found: Iterable[abi.FlowEvent]) -> int:
        """Write what is not the self-test's; return how many events that were."""
        count = 0
        for event in found:
            if not trial.is_ours(event):
                self.flows.write(self._recorder.line(event))
                count += 1
        return count

    def requests(self, batches: Iterable[told.Batch], lost: int) -> None:
        """Write what the node proxy tells of requests, and when of some it could not; `lost`: how many in all."""
        for batch in batches:
            self.flows.write(self._recorder.requests(batch))
            self.flows.flush()
            os.sched_yield()  # records can wait, and what wants this core may be the next request
            if batch.spans and self.spans:
                self.spans.put(self._recorder.spans(batch))
        if lost > self.requests_lost:
            missing, self.requests_lost = lost - self.requests_lost, lost
            self.flows.write(self._recorder.lost(missing, time.monotonic_ns(), record.UNKNOWN))
        self.flows.flush()

    @property
    def request_counts(self) -> request_counts.RequestCounts:
        return self._recorder.counts.snapshot()

    def lookups(self, seen: Iterable[list[Any]]) -> None:
        """Write what the node proxy tells of DNS queries, as `requests` does."""
        for each in seen:
            try:
                self.flows.write([self._recorder.lookup(lookups.Seen.read(each))])
            except (TypeError, ValueError, OSError) as error:
                LOG.warning("a record of the node proxy cannot be read: %s", error)
        self.flows.flush()

    def drain(self) -> int:
        """Move waiting events to the flow log; return how many. A kill in between repeats records, and loses none."""
        self.drained = time.monotonic()
        moved, count = 0, events.BATCH
        while count == events.BATCH and moved < _ONE_LOOK:
            read = self._events.read()
            count = len(read) // events.SLOT
            moved += count
            slots = trial.without_ours(read)
            self.flows.write(self._recorder.lines(slots))
            if abi.EventType.STUCK in slots[_TYPE :: events.SLOT]:
                for who, reason in _readers(slots, self._names):
                    LOG.warning(_MISSED, who, reason)
                self.reset_stuck()
            self.flows.flush()
            self._events.done()  # Not before the lines are written.
            self._count(slots)
        lost, told = self._maps.counter(abi.Metric.EVENTS_LOST), self._kept.told
        if lost > told:
            self.flows.write(self._recorder.lost(lost - told, time.monotonic_ns()))
            self.flows.flush()
        if lost != told:  # less: the self-test puts back what it has counted itself
            self._kept.told = lost
        if count < events.BATCH and (missing := self._balance.missing()):
            self.ends_lost += missing
            self.flows.write(self._recorder.lost(missing, time.monotonic_ns(), record.CONNTRACK))
            self.flows.flush()
        self._kept.open = self._balance.open
        return moved

    def _count(self, slots: bytes) -> None:
        """Count the connections that the packet hooks tell of."""
        kinds = Counter(zip(slots[_TYPE :: events.SLOT], slots[_HOOK :: events.SLOT], strict=True))
        begun, ended = (
            sum(kinds[int(kind), int(hook)] for hook in _PACKET_HOOKS)
            for kind in (abi.EventType.OPEN, abi.EventType.CLOSE)
        )
        if begun or ended:
            self._balance.heard(begun, ended)
            self._kept.open = self._balance.open

    def reset_stuck(self) -> None:
        """Reset connections whose reader waits for bytes that it cannot see."""
        self._resets.reset(enforce.stuck(self._maps), self._names)

    def reset_cut_off(self) -> None:
        """Reset connections whose reader waits for an end that cannot come, if pods went lately. To be called often."""
        if self._gone.is_due():
            self._look_after_gone()

    def _look_after_gone(self) -> None:
        if self._write(self._gone.look(self._names)):
            self.reset_stuck()
            self.flows.flush()

    def reset(self, condemned: list[enforce.Doomed]) -> None:
        """Reset connections that policy has turned against, each with a record."""
        try:
            self._resets.reset(condemned, self._names)
        finally:
            self._write(enforce.reset_events(condemned))

    def reset_again(self) -> None:
        """Try those again that could not be reached, if it is time."""
        self._resets.again(self._names)

    def age(self) -> None:
        """Expire what is dead, record what lives long."""
        now = time.monotonic_ns()
        if now >= self._next_expiry:
            found = self._walker.walk(self._maps, self._maps.config.get_at(0), now)
            # Of what is done with what it found, which can take long and is done once, the next need not wait.
            self._next_expiry = now + _EXPIRY_SHARE * (time.monotonic_ns() - now)
            ended = self._write(tracked.expire(self._maps, found.dead))
            self._balance.heard(0, ended)
            self._balance.walked(found.reported - ended)
            self._write(tracked.periodic(self._maps, found.ripe, now))
        self._look_after_gone()
        self._write(ageing.abandoned(self._maps, self._gone.living))
        self._write(self._long_lived.records(self._maps, self._names, now))
        self._recorder.set_clock(record.ClockOffset.measure())
        self.flows.flush()

    def close(self) -> None:
        self.drain()
        self.flows.close()
        self._kept.close()
        self._events.close()


class _Kept:
    """What the next agent must know of the events: how many lost ones the log has told of, and how many connections of
    the packet hooks are open. Kept beside the ring buffer's read position, in a page that
    the kernel leaves to the reader: it lives as long as the pinned maps it is compared with, and outlives the agent.
    """

    def __init__(self, fd: int, now: int) -> None:
        """Go on where a predecessor was; without one, all losses up to `now` count as told."""
        self._page = mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._words = memoryview(self._page).cast("Q")
        if not self._words[1]:
            self.told = now

    @property
    def told(self) -> int:
        return self._words[1] - 1  # one more is kept, because 0 is what nobody wrote

    @told.setter
    def told(self, count: int) -> None:
        self._words[1] = count + 1

    @property
    def open(self) -> int:
        return self._words[2] - _ABOVE if self._words[2] else 0

    @open.setter
    def open(self, count: int) -> None:
        self._words[2] = count + _ABOVE

    def close(self) -> None:
        self._words.release()
        self._page.close()
