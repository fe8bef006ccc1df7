"""What names resolved to, for `toFQDNs`: which address is meant under which names until when. Pure; bounded.

An address counts for the name that was asked, as in Cilium, and not for the CNAMEs between: who asks for a name means
whoever its owner points to, but anybody can point a name of his own at somebody else's, and must not teach us that one.

It stays while its TTL runs and for a grace time behind it, because a client may connect as late as its own cache lets
it; after that as long as a connection uses it. Several names may have one address, and each holds it for itself.

`now` is in nanoseconds of any one clock; where a table outlives its process, of one that goes on meanwhile (BOOTTIME).
"""

import collections
import heapq
import itertools
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from control import model
from control.policy import dnsnames

SECOND = 10**9
MAX_TTL = 7 * 24 * 3600  # seconds; a TTL may be 68 years
_MAX_LOOK = 64  # addresses in use that are passed over in search of one to give up


class NotATable(ValueError):
    """What should be a table that was exported is none."""


class Limits(NamedTuple):
    """How long in seconds, and how many addresses: of one name, and (address, name) pairs in all."""

    min_ttl: int = 0
    grace: int = 120
    of_one: int = 1000
    in_all: int = 65536


class Learned(NamedTuple):
    """What an answer teaches: the name that was asked, and the CNAMEs that led to the addresses, for the record."""

    name: str
    addresses: tuple[str, ...]
    ttl: int
    cnames: tuple[str, ...] = ()


class Change(NamedTuple):
    """What is new and what is gone, as (name, address). `given_up`: of what was known or came, for want of room."""

    added: tuple[tuple[str, str], ...] = ()
    removed: tuple[tuple[str, str], ...] = ()
    given_up: int = 0


NOTHING = Change()
LIMITS = Limits()


def nobody(address: str) -> bool:
    return False


class Table:
    """`in_use`: asked whether a connection uses an address. `given_up`: how many pairs, ever, for want of room."""

    __slots__ = ("_due", "_in_use", "_limits", "_names", "_size", "_until", "given_up")

    def __init__(self, limits: Limits = LIMITS, in_use: Callable[[str], bool] = nobody) -> None:
        if not 0 < limits.of_one <= limits.in_all:
            raise ValueError("one name must have room for an address, and all names for those of one")
        self._limits, self._in_use = limits, in_use
        # Both levels with what was learned longest ago first.
        self._until: collections.OrderedDict[str, dict[str, int]] = collections.OrderedDict()
        self._names: dict[str, dict[str, None]] = {}  # by address
        self._due: list[tuple[int, str, str]] = []  # a heap; a pair whose time was put off is still at its first place
        self._size = self.given_up = 0

    def __len__(self) -> int:
        return self._size

    def learn(self, learned: Learned, now: int) -> Change:
        """Take what an answer says; what is known stays at least as long as it would have."""
        seconds = max(self._limits.min_ttl, min(learned.ttl, MAX_TTL)) + self._limits.grace
        return self._keep(learned.name, dict.fromkeys(learned.addresses, now + seconds * SECOND))

    def expire(self, now: int) -> Change:
        """Forget what is due and not in use."""
        removed = []
        while (due := self.next_expiry()) is not None and due <= now:
            _, name, address = heapq.heappop(self._due)
            if self._in_use(address):
                until = now + max(1, self._limits.grace) * SECOND
                self._until[name][address] = until
                heapq.heappush(self._due, (until, name, address))
            else:
                self._forget(name, address)
                removed.append((name, address))
        return Change((), tuple(removed)) if removed else NOTHING

    def next_expiry(self) -> int | None:
        """Return when the next address is due, None if there is none."""
        while self._due:
            until, name, address = self._due[0]
            real = self._until.get(name, {}).get(address)
            if real == until:
                return until
            if real is None:
                heapq.heappop(self._due)
            else:
                heapq.heapreplace(self._due, (real, name, address))
        return None

    def names_of(self, address: str) -> frozenset[str]:
        """Return the names that the address was learned under."""
        return frozenset(self._names.get(address, ()))

    def addresses_of(self, peer: model.NamePeer) -> frozenset[str]:
        """Return the addresses of all names that a rule means by `peer`."""
        if peer.name:
            return frozenset(self._until.get(dnsnames.canonical(peer.name), ()))
        return frozenset(
            address for name, held in self._until.items() if dnsnames.matches(peer, name) for address in held
        )

    def addresses(self) -> dict[str, tuple[str, ...]]:
        """Return all there is, as a snapshot has it: by name, in one order whatever was learned when."""
        return {name: tuple(sorted(self._until[name])) for name in sorted(self._until)}

    def exported(self) -> dict[str, dict[str, int]]:
        """Return name -> address -> until, for `restore` after a restart."""
        return {name: dict(held) for name, held in self._until.items()}

    def restore(self, exported: object, now: int) -> Change:
        """Take what was exported, but for what has ended meanwhile; raises NotATable, and then takes nothing."""
        most = now + (max(self._limits.min_ttl, MAX_TTL) + max(1, self._limits.grace)) * SECOND
        taken = [(name, held) for name, held in _read(exported) if any(until > now for until in held.values())]
        added: dict[tuple[str, str], None] = {}
        given_up = 0
        for name, held in taken:
            change = self._keep(name, {a: min(until, most) for a, until in held.items() if until > now})
            added.update(dict.fromkeys(change.added))
            for pair in change.removed:
                added.pop(pair, None)
            given_up += change.given_up
        return Change(tuple(added), (), given_up)

    # --- what is held -----------------------------------------------------------------------------------------------

    def _keep(self, name: str, wanted: Mapping[str, int]) -> Change:
        if not wanted:
            return NOTHING
        held = self._until.setdefault(name, {})
        self._until.move_to_end(name)
        added: list[tuple[str, str]] = []
        beyond = max(0, len(wanted) - self._limits.of_one)
        if beyond:  # clients try the first ones first
            wanted = dict(itertools.islice(wanted.items(), self._limits.of_one))
        for address, until in wanted.items():
            before = held.pop(address, None)
            held[address] = until if before is None or until > before else before
            if before is None:
                added.append((name, address))
                self._names.setdefault(address, {})[name] = None
                heapq.heappush(self._due, (until, name, address))
        self._size += len(added)
        removed = self._make_room(name, wanted)
        self.given_up += len(removed) + beyond
        if len(self._due) > 2 * self._size + 64:  # mostly of pairs that are gone
            self._due = [(until, name, a) for name, held in self._until.items() for a, until in held.items()]
            heapq.heapify(self._due)
        if not added and not removed and not beyond:
            return NOTHING
        return Change(tuple(added), tuple(removed), len(removed) + beyond)

    def _make_room(self, name: str, new: Mapping[str, int]) -> list[tuple[str, str]]:
        """Give up what was learned longest ago: what is not in use first, and nothing of what came just now."""
        removed: list[tuple[str, str]] = []
        held = self._until[name]
        if len(held) > self._limits.of_one:
            old = sorted((address for address in held if address not in new), key=self._in_use)
            removed = [(name, address) for address in old[: len(held) - self._limits.of_one]]
            for pair in removed:
                self._forget(*pair)
        while self._size > self._limits.in_all:
            removed.append(self._oldest(name))
            self._forget(*removed[-1])
        return removed

    def _oldest(self, but: str) -> tuple[str, str]:
        """Return the pair to give up. There is one: a single name never fills the table."""
        others = ((name, address) for name, held in self._until.items() if name != but for address in held)
        looked = list(itertools.islice(others, 1))
        if self._in_use(looked[0][1]):
            looked += itertools.islice(others, _MAX_LOOK)
            return next((pair for pair in looked if not self._in_use(pair[1])), looked[0])
        return looked[0]

    def _forget(self, name: str, address: str) -> None:
        held, names = self._until[name], self._names[address]
        del held[address], names[name]
        if not held:
            del self._until[name]
        if not names:
            del self._names[address]
        self._size -= 1


def _read(exported: object) -> list[tuple[str, dict[str, int]]]:
    if not isinstance(exported, dict):
        raise NotATable("it is no mapping of names")
    out = []
    for name, held in exported.items():
        if not isinstance(name, str) or name != dnsnames.canonical(name) or not isinstance(held, dict) or not held:
            raise NotATable("a name is not canonical, or has no addresses")
        for address, until in held.items():
            if not isinstance(address, str) or not is_address(address) or type(until) is not int:
                raise NotATable(f"{name} has what is no address with a time")
        out.append((name, held))
    return out


def is_address(text: str) -> bool:
    """Tell whether it is an address in the spelling that answers are read in."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    try:
        return socket.inet_ntop(family, socket.inet_pton(family, text)) == text
    except (OSError, ValueError):
        return False
