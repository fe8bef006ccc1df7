"""What DNS names resolved to, for toFQDNs: kept over a restart, for clients go on with addresses they have looked up.

The file is one line with what was known, and a line for each answer since, so that an answer costs a line and not a
file. It is written before the client hears of the answer. Times are CLOCK_BOOTTIME's.
"""

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from control.agent import state
from control.policy import dnsnames
from l7proxy.dns import learned
from loader import abi
from loader.maps import Maps
from loader.record import unpack_addr

LOG = logging.getLogger("sockmesh.agent")
NAME = "learned-names"
_SPARE = 4096  # lines, before they are made one
_LONGEST = 1000  # addresses of one answer
_LOOK_S = 10.0  # a walk over all of conntrack is not done more often
_DADDR, _DIRECTION = (
    next(at for name, _, at in abi.CtKey.FIELDS if name == wanted) for wanted in ("daddr", "direction")
)
_FLAGS = next(at for name, _, at in abi.CtEntry.FIELDS if name == "flags")


def now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def read(told: Iterable[Any]) -> learned.Learned:
    """Return what a proxy says that an answer teaches; raises ValueError, TypeError for what no answer says."""
    name, addresses, ttl = told
    if type(name) is not str or len(name) > dnsnames.MAX_NAME or name != dnsnames.canonical(name):
        raise ValueError("a name is not one as answers are read")
    if type(ttl) is not int or ttl < 0 or type(addresses) is not list or not 0 < len(addresses) <= _LONGEST:
        raise ValueError(f"{name}: no addresses with a time")
    if not all(type(address) is str and learned.is_address(address) for address in addresses):
        raise ValueError(f"{name}: an address is none")
    return learned.Learned(name, tuple(addresses), ttl)


class NameBook:
    """`version` changes with the addresses. One thread's."""

    def __init__(self, run_dir: Path, in_use: Callable[[str], bool] = learned.nobody) -> None:
        self._file = run_dir / NAME
        self._table = learned.Table(in_use=in_use)
        self._lines = 0
        self.version = 0
        self._shown: tuple[int, Mapping[str, tuple[str, ...]]] = -1, {}
        self._recall()

    def addresses(self) -> Mapping[str, tuple[str, ...]]:
        """Return all there is, as a snapshot has it."""
        if self._shown[0] != self.version:
            self._shown = self.version, self._table.addresses()
        return self._shown[1]

    def learn(self, told: Iterable[learned.Learned]) -> None:
        """Take what answers say, and write it down; where that cannot be, it counts all the same."""
        at = now()
        lines = []
        for each in told:
            self._took(self._table.learn(each, at))
            lines.append(json.dumps([at, each.name, each.addresses, each.ttl]))
        if not lines:
            return
        self._lines += len(lines)
        try:
            if self._lines > _SPARE + 2 * len(self._table):
                self._write()
                return
            with open(os.open(self._file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "a") as file:
                file.write("\n".join(lines) + "\n")
        except OSError as error:
            LOG.warning("%s: what DNS names resolve to is not there after a restart: %s", self._file, error)

    def expire(self) -> None:
        """Forget what is due and not in use."""
        self._took(self._table.expire(now()))

    def _took(self, change: learned.Change) -> None:
        if change.given_up:
            LOG.warning("no room for all that DNS names resolve to: %d addresses were given up", change.given_up)
        self.version += bool(change.added or change.removed)

    def _recall(self) -> None:
        try:
            lines = self._file.read_text().splitlines()
        except (OSError, ValueError):  # there is none, or it is no text
            lines = []
        at = now()
        try:
            self._table.restore(json.loads(lines[0]) if lines else {}, at)
            for line in lines[1:]:
                then, *told = json.loads(line)
                if type(then) is int and then <= at:
                    self._table.learn(read(told), then)
        except (
            ValueError,
            TypeError,
            RecursionError,
        ) as error:  # the last line may be half a line: what is before it counts
            LOG.warning("%s: cannot be read to its end: %s", self._file, error)
        self.version += 1
        self.expire()
        with contextlib.suppress(OSError):  # what cannot be written now is told of when there is more
            self._write()

    def _write(self) -> None:
        state.write(self._file, json.dumps(self._table.exported()).encode() + b"\n")
        self._lines = 0


class InUse:
    """Tells whether a pod has an open connection to an address, as conntrack has it."""

    def __init__(self, opened: Maps) -> None:
        self._maps = opened
        self._found: set[str] = set()
        self._next = 0.0

    def __call__(self, address: str) -> bool:
        if time.monotonic() >= self._next:
            self._found = set(self._look())
            self._next = time.monotonic() + _LOOK_S
        return address in self._found

    def _look(self) -> Iterable[str]:
        egress, closing = int(abi.Direction.EGRESS), int(abi.CtFlag.CLOSING)
        raw = {
            key[_DADDR : _DADDR + 16]
            for key, value in self._maps.ct.raw_items()
            if key[_DIRECTION] == egress and not value[_FLAGS] & closing
        }
        return map(unpack_addr, raw)
