"""Brings the maps from what they hold to what is wanted, in an order in which no moment is more open than either.

New policy sets are written first, under numbers nobody refers to yet; then each `Endpoint` record is exchanged whole,
which puts its set in force; what nobody refers to any more goes last. Nothing is written if it would not all fit.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from control import compile as compiler
from loader import abi, maps
from loader.errors import MapFull
from loader.record import Record

# Written before the endpoints that need them, and deleted after them.
_BEFORE = ("policy", "ipcache", "backends", "services")
_ENDPOINTS = ("endpoints", "endpoint_ips", "endpoint_netns")
# The interface's entry last: until then the packet hook drops everything.
_LAST = ("endpoint_ifaces",)


@dataclasses.dataclass(frozen=True)
class Change:
    """What one map needs: puts and deletes. Empty for both: it is as wanted."""

    puts: Mapping[Record, Record]
    deletes: tuple[Record, ...]


def current(opened: maps.Maps) -> dict[str, dict[Record, Record]]:
    """Return what the maps hold now: after a restart, what the predecessor left in force."""
    return {name: dict(opened[name].items()) for name in compiler.MAP_NAMES}


def plan(have: Mapping[str, Mapping[Record, Record]], want: compiler.Desired) -> dict[str, Change]:
    """Return the change of each map. Pure."""
    out: dict[str, Change] = {}
    for name in compiler.MAP_NAMES:
        old, new = have.get(name, {}), want[name]
        puts = {key: value for key, value in new.items() if _differs(old.get(key), value)}
        out[name] = Change(puts, tuple(key for key in old if key not in new))
    return out


def _differs(old: Record | None, new: Record) -> bool:
    if isinstance(old, abi.Service) and isinstance(new, abi.Service):
        return dataclasses.replace(old, next=0) != dataclasses.replace(new, next=0)  # `next` is the kernel's to move
    return old != new


def check_room(have: Mapping[str, Mapping[Record, Record]], want: compiler.Desired) -> None:
    """Raise MapFull when a map cannot take what is wanted beside what it must still hold meanwhile."""
    for name in compiler.MAP_NAMES:
        limit = abi.MAP_BY_NAME[name].max_entries
        if len(want[name]) > limit:
            raise MapFull(
                f"map {name} takes {limit:,} entries, the configuration needs {len(want[name]):,}: "
                "use fewer or wider rules, or fewer workloads on this node; what was in force stays in force"
            )


def apply(opened: maps.Maps, have: Mapping[str, Mapping[Record, Record]], want: compiler.Desired) -> bool:
    """Bring the maps to `want`; return whether anything changed. Raises MapFull before anything was changed."""
    check_room(have, want)
    changes = plan(have, want)
    if not any(change.puts or change.deletes for change in changes.values()):
        return False
    if _crowded(have, changes):
        _apply_crowded(opened, have, want, changes)
    else:
        for name in (*_BEFORE, *_ENDPOINTS, *_LAST):
            opened[name].put_many(changes[name].puts)
    for name in (*_LAST, *reversed(_ENDPOINTS), *reversed(_BEFORE)):
        opened[name].delete_many(changes[name].deletes)
    return True


def bump(opened: maps.Maps) -> int:
    """Raise the policy generation, so that verdicts remembered for open connections are asked again; return it."""
    config = opened.config.get_at(0)
    generation = config.generation % 0xFFFFFFFF + 1
    opened.config.put_at(0, dataclasses.replace(config, generation=generation))
    return generation


def _crowded(have: Mapping[str, Mapping[Record, Record]], changes: Mapping[str, Change]) -> bool:
    return any(
        len(have.get(name, {})) + len(change.puts) > abi.MAP_BY_NAME[name].max_entries
        for name, change in changes.items()
    )


def _apply_crowded(
    opened: maps.Maps,
    have: Mapping[str, Mapping[Record, Record]],
    want: compiler.Desired,
    changes: Mapping[str, Change],
) -> None:
    """Old and new do not fit side by side: close the endpoints whose sets change, then exchange their entries."""
    dropped = {key.set_id for key in changes["policy"].deletes if isinstance(key, abi.PolicyKey)}
    closed = [
        key for key, value in have["endpoints"].items() if isinstance(value, abi.Endpoint) and value.set_id in dropped
    ]
    for key in closed:
        value = have["endpoints"][key]
        assert isinstance(value, abi.Endpoint)
        opened["endpoints"].put(key, dataclasses.replace(value, set_id=0))  # fail closed meanwhile
    for name in _BEFORE:
        opened[name].delete_many(changes[name].deletes)
        opened[name].put_many(changes[name].puts)
    _restore(opened, closed, want)
    for name in (*_ENDPOINTS, *_LAST):
        opened[name].delete_many(changes[name].deletes)
        opened[name].put_many(changes[name].puts)


def _restore(opened: maps.Maps, closed: Iterable[Record], want: compiler.Desired) -> None:
    for key in closed:
        value = want["endpoints"].get(key)
        if value is not None:
            opened["endpoints"].put(key, value)
