"""The way from what the maps hold to what is wanted, step by step, so that no moment is more open than both. Pure.

New policy sets are written first, under numbers nobody refers to yet; then identities change, then each `Endpoint`
record is exchanged whole, which puts its set in force; what nobody refers to any more goes last. A set that does not
say the same to a peer's old and new identity is replaced twice: a bridge (bridge.py) is in force in between. An
endpoint is a place, whatever its workload is called (numbering.py); where one takes from another what it speaks for,
both are closed meanwhile. At every moment each end's answer is the old state's or the new one's, or no.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from control import compile as compiler
from control.agent import bridge, ranges
from loader import abi
from loader.record import Record

Content = Mapping[str, Mapping[Record, Record]]  # of each map
_REFERENCES = ("endpoint_ips", "endpoint_netns", "endpoint_ifaces")  # the last one opens the packet hook
FIRST_BRIDGE = 0xF0000000  # set numbers of bridges: beyond those that control gives out


@dataclasses.dataclass(frozen=True)
class Step:
    """What is done to one map next: the puts, in order, then the deletes."""

    map: str
    puts: Mapping[Record, Record] = dataclasses.field(default_factory=dict)
    deletes: tuple[Record, ...] = ()


def plan(have: Content, want: compiler.Desired) -> list[Step]:
    """Return all steps in order. Pure."""
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
        self.puts["ipcache"] = ranges.straight_puts(self.puts["ipcache"])
        self.deletes["ipcache"] = ranges.straight_deletes(self.deletes["ipcache"])
        self.old: dict[int, abi.Endpoint] = {_id(k): _endpoint(v) for k, v in have.get("endpoints", {}).items()}
        self.new: dict[int, abi.Endpoint] = {_id(k): _endpoint(v) for k, v in want["endpoints"].items()}
        self.shut = self._passing()

    def _passing(self) -> set[int]:
        """Return the endpoints between which an interface or a network namespace passes.

        It is repointed after records are exchanged, so the one that had it would speak for it with a set that never
        was its own.
        """
        out: set[int] = set()
        for name in ("endpoint_ifaces", "endpoint_netns"):
            for key, value in self.puts[name].items():
                if since := _ref(self.have.get(name, {}).get(key)):
                    out.update((since, _ref(value)))
        return out

    def _closed(self) -> dict[int, abi.Endpoint]:
        """Return the records of endpoints that are closed until all else is done (with their old identities)."""
        records = {id: self.old.get(id) or self.new.get(id) for id in self.shut}
        return {id: dataclasses.replace(record, set_id=0) for id, record in records.items() if record}

    # --- which sets need a bridge --------------------------------------------------------------------------------

    def moves(self) -> tuple[set[bridge.Move], set[bridge.Move]]:
        """Return the identities that change while the old sets are in force, and those while the new ones are."""
        old = self.have.get("ipcache", {})
        before, after = ranges.Ranges(old), ranges.Ranges(self.want["ipcache"])
        early, late = ranges.moves(before, after, old, self.puts["ipcache"], self.deletes["ipcache"])
        for id, new in self.new.items():
            past = self.old.get(id)
            if past and past.identity != new.identity:
                early.add((past.identity, new.identity))
        # An address that passes from one endpoint to another, or to none, does so while sets are being exchanged.
        refs = {**self.have.get("endpoint_ips", {}), **self.want["endpoint_ips"]}
        for key in refs:
            assert isinstance(key, abi.AddrKey)
            since, to = _ref(self.have.get("endpoint_ips", {}).get(key)), _ref(self.want["endpoint_ips"].get(key))
            if since == to:
                continue
            owner, heir = self.old.get(since), self.new.get(to)
            move = (
                owner.identity if owner else before.identity(key.addr),
                heir.identity if heir else after.identity(key.addr),
            )
            if move[0] != move[1]:
                early.add(move)
                late.add(move)
        return early, late

    def bridges(self) -> tuple[dict[int, abi.Endpoint], dict[Record, Record]]:
        """Return the records of endpoints that are bridged (with their old identities), and the bridges' entries."""
        changed = {}
        for id, new in self.new.items():
            past = self.old.get(id)
            if past and past.set_id != new.set_id and id not in self.shut:
                changed[id] = (past, new)
        early, late = self.moves() if changed else (set(), set())
        if not early and not late:
            return {}, {}
        policy: Mapping[abi.PolicyKey, abi.PolicyValue] = self.have.get("policy", {})  # type: ignore[assignment]
        wanted: Mapping[abi.PolicyKey, abi.PolicyValue] = self.want["policy"]  # type: ignore[assignment]
        olds = bridge.contents(policy, {past.set_id for past, _ in changed.values()})
        news = bridge.contents(wanted, {new.set_id for _, new in changed.values()})
        made: dict[tuple[int, int], tuple[int, tuple[int, int]] | None] = {}
        entries: dict[Record, Record] = {}
        records: dict[int, abi.Endpoint] = {}
        number = max((key.set_id + 1 for key in policy if FIRST_BRIDGE <= key.set_id < FIRST_BRIDGE + (1 << 24)),
                     default=FIRST_BRIDGE)  # fmt: skip
        for id, (past, new) in changed.items():
            pair = past.set_id, new.set_id
            if pair not in made:
                old_set, new_set = olds[pair[0]], news[pair[1]]
                if bridge.indifferent(old_set, early) and bridge.indifferent(new_set, late):
                    made[pair] = None
                else:
                    content = bridge.between(old_set, new_set, early | late)
                    made[pair] = number, bridge.plens(content)
                    entries.update(_entries(number, content))
                    number += 1
            found = made[pair]
            if found:
                audits = new.flags & past.flags & abi.EndpointFlag.HAS_AUDIT
                records[id] = dataclasses.replace(
                    past, set_id=found[0], ingress_plens=found[1][0], egress_plens=found[1][1],
                    flags=past.flags & ~abi.EndpointFlag.HAS_AUDIT | audits,
                )  # fmt: skip
        return records, entries

    # --- the order -----------------------------------------------------------------------------------------------

    def steps(self) -> Iterator[Step]:
        bridged, entries = self.bridges()
        yield Step("policy", {**self.puts["policy"], **entries})
        meanwhile = {**bridged, **self._closed()}
        yield Step("endpoints", _records(meanwhile))
        yield Step("ipcache", self.puts["ipcache"])
        moved = {
            id: dataclasses.replace(meanwhile.get(id, past), identity=new.identity)
            for id, new in self.new.items()
            if (past := self.old.get(id)) and past.identity != new.identity
        }
        yield Step("endpoints", _records(moved))
        yield Step("backends", self.puts["backends"])
        yield Step("services", self.puts["services"])
        last = _records({id: new for id, new in self.new.items() if id in meanwhile})
        yield Step("endpoints", {key: value for key, value in self.puts["endpoints"].items() if key not in last})
        for name in _REFERENCES:
            yield Step(name, self.puts[name])
        for name in (*reversed(_REFERENCES), "endpoints", "services", "backends", "ipcache"):
            yield Step(name, {}, self.deletes[name])
        yield Step("endpoints", last)
        yield Step("policy", {}, (*self.deletes["policy"], *entries))

    def overflows(self, steps: list[Step]) -> bool:
        """Tell whether old and new do not fit side by side."""
        for name in compiler.MAP_NAMES:
            puts = {key for step in steps if step.map == name for key in step.puts}
            if len(puts | self.have.get(name, {}).keys()) > abi.MAP_BY_NAME[name].max_entries:
                return True
        return False

    def crowded_steps(self) -> Iterator[Step]:
        """As `steps`, without room: endpoints with other sets are closed, then the old goes before the new."""
        dropped = {key.set_id for key in self.deletes["policy"] if isinstance(key, abi.PolicyKey)}
        closed = {}
        for id, record in self.old.items():
            new = self.new.get(id)
            if new is None or new.set_id != record.set_id or record.set_id in dropped or id in self.shut:
                closed[id] = dataclasses.replace(record, set_id=0)
        yield Step("endpoints", _records(closed))
        full = len(self.have["ipcache"]) + len(self.puts["ipcache"]) > abi.MAP_BY_NAME["ipcache"].max_entries
        if full:  # addresses have no identity for a moment
            yield Step("endpoints", _records({id: dataclasses.replace(r, set_id=0) for id, r in self.old.items()}))
            yield Step("ipcache", {}, self.deletes["ipcache"])
        yield Step("policy", {}, self.deletes["policy"])
        yield Step("policy", self.puts["policy"])
        yield Step("ipcache", self.puts["ipcache"])
        yield Step("ipcache", {}, () if full else self.deletes["ipcache"])
        for name in ("services", "backends"):
            yield Step(name, {}, self.deletes[name])
        for name in ("backends", "services"):
            yield Step(name, self.puts[name])
        ready = {id: new for id, new in self.new.items() if not full and id not in closed and id in self.old}
        waiting = {id: new for id, new in self.new.items() if id not in ready}
        yield Step("endpoints", _records(ready))
        yield Step("endpoints", _records({id: dataclasses.replace(r, set_id=0) for id, r in waiting.items()}))
        for name in _REFERENCES:
            yield Step(name, self.puts[name])
        for name in (*reversed(_REFERENCES), "endpoints"):
            yield Step(name, {}, self.deletes[name])
        yield Step("endpoints", _records(waiting))


def _differs(old: Record | None, new: Record) -> bool:
    if isinstance(old, abi.Service) and isinstance(new, abi.Service):
        return dataclasses.replace(old, next=0) != dataclasses.replace(new, next=0)  # `next` is the kernel's to move
    return old != new


def _entries(number: int, content: bridge.Content) -> dict[Record, Record]:
    return {
        abi.PolicyKey(number, peer, port, proto, direction, plen): value
        for peer, entries in content.items()
        for (direction, port, proto, plen), value in entries.items()
    }


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
