"""What answers teach, told to the agent before the client hears of it: it may connect as soon as it does.

The agent says when it is in force. It is not waited for longer than a second: a client would ask again, and others in
its place. What it has said of a name a moment ago it need not say again.
"""

import asyncio
import collections
import itertools
import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

from control import model
from control.policy import dnsnames
from l7proxy.dns.learned import Learned

LOG = logging.getLogger("sockmesh.proxy")
_WAIT_S = 1.0
_FRESH_S = 5.0  # well below the time for which an address outlives its TTL
_MOST = 4096  # answers that wait, and names that are known to be in force
_WARN_S = 10.0
_MOST_ADDRESSES = 1000
_BATCH = 256  # answers of a frame: of the longest names and addresses, half of what a frame may be

Then = Callable[[], None]


class Teacher:
    """`write`: takes [worker, number, what is learned] to the agent."""

    def __init__(self, write: Callable[[list[Any]], Any]) -> None:
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._wanted = dnsnames.Wanted(())
        self._serial = itertools.count(1)
        self._next: list[tuple[Learned, Then]] = []  # what the next frame takes
        self._waiting = collections.OrderedDict[int, list[tuple[Learned, Then]]]()  # by frame
        self._count = 0
        self._in_force = collections.OrderedDict[str, tuple[float, frozenset[str]]]()
        self._warned = -_WARN_S

    def want(self, peers: Iterable[model.NamePeer]) -> None:
        """Take what rules mean in place of all before."""
        self._wanted = dnsnames.Wanted(peers)
        self._in_force.clear()

    def learn(self, learned: Learned, then: Then) -> None:
        """Call `then` when what is learned is in force, or after a second."""
        if learned.name not in self._wanted or self._is_in_force(learned):
            then()
        elif self._count >= _MOST:
            self._warn("too many answers wait for the agent")
            then()
        else:
            if not self._next:
                self._loop.call_soon(self._flush)  # with what else has come meanwhile
            self._next.append((learned, then))
            self._count += 1

    def _is_in_force(self, learned: Learned) -> bool:
        since, addresses = self._in_force.get(learned.name, (0.0, frozenset()))
        return since > self._loop.time() - _FRESH_S and addresses.issuperset(learned.addresses)

    def _flush(self) -> None:
        taken, self._next = self._next, []
        for start in range(0, len(taken), _BATCH):
            self._send(taken[start : start + _BATCH])

    def _send(self, taken: list[tuple[Learned, Then]]) -> None:
        number = next(self._serial)
        self._waiting[number] = taken
        said = [[each.name, each.addresses[:_MOST_ADDRESSES], each.ttl] for each, _ in taken]
        self._write([os.getpid(), number, said])
        self._loop.call_later(_WAIT_S, self._late, number)

    def in_force(self, number: int) -> None:
        """Take the agent's word for a frame."""
        now = self._loop.time()
        for learned, then in self._done(number):
            self._in_force[learned.name] = now, frozenset(learned.addresses)
            self._in_force.move_to_end(learned.name)
            then()
        while len(self._in_force) > _MOST:
            self._in_force.popitem(last=False)

    def _late(self, number: int) -> None:
        if late := self._done(number):
            self._warn(f"the agent has not put in force after {_WAIT_S:g} s what names resolve to")
        for _, then in late:
            then()

    def _done(self, number: int) -> list[tuple[Learned, Then]]:
        taken = self._waiting.pop(number, [])
        self._count -= len(taken)
        return taken

    def _warn(self, why: str) -> None:
        if self._loop.time() - self._warned >= _WARN_S:
            self._warned = self._loop.time()
            LOG.warning("%s: clients get their answers, and toFQDNs may not know of them", why)
