"""The way from what the maps hold to what is wanted, step by step, so that no moment is more open than both. Pure.

Identities, and which policy set an endpoint has, are written in two editions: the next one beside the one in force,
where it does not count yet. Then one word switches over: first to both, so that a connection must be allowed by the old
edition and by the next one, at each of its ends; then to the next one alone. At every moment what two ends say together
is the old state's answer, the new one's, or what both allow. What nobody refers to any more goes last.

An endpoint is a place, whatever its workload is called (numbering.py). Addresses, namespaces and interfaces pass from
one to another while both editions count.
"""

import dataclasses
import functools
import operator
from collections.abc import Iterator, Mapping

from control import compile as compiler
from control import editions
from control.agent import ranges
from loader import abi
from loader.record import Record

Content = Mapping[str, Mapping[Record, Record]]  # of each map
_REFERENCES = ("endpoint_ips", "endpoint_netns", "endpoint_ifaces")  # the last one opens the packet hook


@dataclasses.dataclass(frozen=True)
class Step:
    """What is done to one map next: the puts, in order, then the deletes."""

    map: str
    puts: Mapping[Record, Record] = dataclasses.field(default_factory=dict)
    deletes: tuple[Record, ...] = ()


@dataclasses.dataclass(frozen=True)
class Turn:
    """Which edition counts from now on."""

    state: abi.EditionState


class Hang:
    """The hooks of whoever comes are attached now: nobody is taken for what only its own policy keeps at bay."""


Steps = Iterator[Step | Turn | Hang]


def plan(have: Content, want: compiler.Desired) -> list[Step | Turn | Hang]:
    """Return all steps in order. Both are states in which the edition in force is the only one. Pure."""
    change = _Change(have, want)
    steps = list(change.steps())
    return list(change.crowded_steps()) if change.overflows(steps) else steps


class _Change:
    """One change, looked at from all sides."""

    def __init__(self, have: Content, want: compiler.Desired) -> None:
        self.have, self.want = have, want
        self.puts: dict[str, dict[Record, Record]] = {}
        self.deletes: dict[str, tuple[Record, ...]] = {}
        for name in compiler.MAP_NAMES:
            old, new = have.get(name, {}), want[name]
            self.puts[name] = {key: value for key, value in new.items() if _differs(old.get(key), value)}
            self.deletes[name] = tuple(key for key in old if key not in new)
        self.old: dict[int, abi.Endpoint] = {_id(k): _endpoint(v) for k, v in have.get("endpoints", {}).items()}
        self.new: dict[int, abi.Endpoint] = {_id(k): _endpoint(v) for k, v in want["endpoints"].items()}

    def _both_endpoints(self) -> dict[int, abi.Endpoint]:
        """Return the records that change, in both editions. One that comes is closed in the old one, one that goes in
        the next: a moment, because nothing leads to it any more when that one is in force."""
        passing = self._passing()
        next_ones = {id: new for id, new in self.new.items() if id in passing or self.old.get(id) != new}
        next_ones |= {id: dataclasses.replace(past, set_id=0) for id, past in self.old.items() if id not in self.new}
        out: dict[int, abi.Endpoint] = {}
        for id, new in next_ones.items():
            past = self.old.get(id) or dataclasses.replace(new, set_id=0)
            marks = past.flags & abi.EndpointFlag.HAS_AUDIT
            if new.flags & abi.EndpointFlag.HAS_AUDIT:
                marks |= abi.EndpointFlag.NEXT_HAS_AUDIT
            if id in passing:
                marks |= abi.EndpointFlag.PASSING
            out[id] = dataclasses.replace(
                new,
                identity=past.identity,
                set_id=past.set_id,
                ingress_plens=past.ingress_plens,
                egress_plens=past.egress_plens,
                flags=new.flags & ~editions.AUDITS | marks,
                next_identity=new.identity,
                next_set_id=new.set_id or editions.NO_SET,
                next_ingress_plens=new.ingress_plens,
                next_egress_plens=new.egress_plens,
            )
        return out

    def _both_identities(self) -> dict[Record, Record]:
        """Return the ranges that change, in both editions: where one is not in a state, the one around it counts."""
        out: dict[Record, Record] = {}
        changed = (*self.puts["ipcache"], *self.deletes["ipcache"])
        if not changed:
            return out  # without looking at all addresses
        before, after = ranges.Ranges(self.have.get("ipcache", {})), ranges.Ranges(self.want["ipcache"])
        for key in changed:
            assert isinstance(key, abi.IpcacheKey)
            old, new = (state.identity(key.addr, key.prefixlen) for state in (before, after))
            out[key] = abi.IpcacheValue(old, new, self._flags(key))
        return out

    def _flags(self, key: Record) -> int:
        """Return what either edition marks an address with: a mark makes for more care, never for less."""
        values = (state.get(key) for state in (self.have.get("ipcache", {}), self.want["ipcache"]))
        return functools.reduce(operator.or_, (v.flags for v in values if isinstance(v, abi.IpcacheValue)), 0)

    def steps(self) -> Steps:
        yield Step("policy", self.puts["policy"])
        both = self._both_endpoints()
        turns = any(self.puts[name] or self.deletes[name] for name in (*editions.MAPS, *_REFERENCES))
        if turns:
            yield Step("endpoints", _records(both))
            yield Step("ipcache", self._both_identities())
            yield Turn(abi.EditionState.BOTH)
        for name in ("backends", "services", *_REFERENCES):
            yield Step(name, self.puts[name])
        for name in (*reversed(_REFERENCES), "services", "backends"):
            yield Step(name, {}, self.deletes[name])
        if turns:
            yield Hang()
            yield Turn(abi.EditionState.NEXT)
        last = {id: new for id, new in self.new.items() if id in both}
        yield Step("endpoints", _records(last), self.deletes["endpoints"])
        yield Step("ipcache", self.puts["ipcache"], self.deletes["ipcache"])
        if turns:
            yield Turn(abi.EditionState.NOW)
        yield Step("policy", {}, self.deletes["policy"])

    def overflows(self, steps: list[Step | Turn | Hang]) -> bool:
        """Tell whether old and new do not fit side by side."""
        for name in compiler.MAP_NAMES:
            puts = {key for step in steps if isinstance(step, Step) and step.map == name for key in step.puts}
            if len(puts | self.have.get(name, {}).keys()) > abi.MAP_BY_NAME[name].max_entries:
                return True
        return False

    def crowded_steps(self) -> Steps:
        """As `steps`, without room: endpoints that get other sets, or are taken for somebody else, are closed, then the
        old goes before the new."""
        dropped = {key.set_id for key in self.deletes["policy"] if isinstance(key, abi.PolicyKey)}
        passing = self._passing()
        closed = {}
        for id, record in self.old.items():
            new = self.new.get(id)
            stays = new is not None and (new.set_id, new.identity) == (record.set_id, record.identity)
            if not stays or record.set_id in dropped or id in passing:
                closed[id] = dataclasses.replace(record, set_id=0)
        yield Step("endpoints", _records(closed))
        yield Turn(abi.EditionState.BOTH)  # no next one is written: what was judged before is forgotten
        full = len(self.have["ipcache"]) + len(self.puts["ipcache"]) > abi.MAP_BY_NAME["ipcache"].max_entries
        if full:  # addresses have no identity for a moment
            yield Step("endpoints", _records({id: dataclasses.replace(r, set_id=0) for id, r in self.old.items()}))
            yield Step("ipcache", {}, self.deletes["ipcache"])
        yield Step("policy", {}, self.deletes["policy"])
        yield Step("policy", self.puts["policy"])
        for name in ("services", "backends"):
            yield Step(name, {}, self.deletes[name])
        for name in ("backends", "services"):
            yield Step(name, self.puts[name])
        ready = {id: new for id, new in self.new.items() if not full and id not in closed and id in self.old}
        waiting = {id: new for id, new in self.new.items() if id not in ready}
        yield Step("endpoints", _records({id: dataclasses.replace(r, set_id=0) for id, r in waiting.items()}))
        for name in _REFERENCES:
            yield Step(name, self.puts[name])
        for name in (*reversed(_REFERENCES), "endpoints"):
            yield Step(name, {}, self.deletes[name])
        yield Hang()
        yield Step("ipcache", ranges.straight_puts(self.puts["ipcache"]))
        yield Step("ipcache", {}, () if full else ranges.straight_deletes(self.deletes["ipcache"]))
        yield Step("endpoints", _records(ready))
        yield Turn(abi.EditionState.BOTH)  # what others said of those that are closed, when they were others
        yield Step("endpoints", _records(waiting))
        yield Turn(abi.EditionState.NOW)

    def _passing(self) -> set[int]:
        """Return the endpoints that get or lose an address, an interface or a network namespace."""
        out: set[int] = set()
        for name in _REFERENCES:
            have, want = self.have.get(name, {}), self.want[name]
            for key in have.keys() | want.keys():
                if (since := _ref(have.get(key))) != (to := _ref(want.get(key))):
                    out |= {since, to}
        return out


def _differs(old: Record | None, new: Record) -> bool:
    if isinstance(old, abi.Service) and isinstance(new, abi.Service):
        return dataclasses.replace(old, next=0) != dataclasses.replace(new, next=0)  # `next` is the kernel's to move
    return old != new


def _records(endpoints: Mapping[int, abi.Endpoint]) -> dict[Record, Record]:
    return {abi.EndpointKey(id): value for id, value in endpoints.items()}


def _id(key: Record) -> int:
    assert isinstance(key, abi.EndpointKey)
    return key.id


def _endpoint(value: Record) -> abi.Endpoint:
    assert isinstance(value, abi.Endpoint)
    return value


def _ref(value: Record | None) -> int:
    return value.id if isinstance(value, abi.EndpointRef) else 0
