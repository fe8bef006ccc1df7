"""The short way to what a DNS name has just resolved to: one entry for each address, where nothing else changes. Pure.

Whoever has resolved to some address before has an identity that policy sets know, and most new addresses are one more
of the same. All else goes the long way, which works everything out again.
"""

from collections.abc import Collection, Mapping

from control import compile as compiler
from control import identity, model, places
from control.policy import refer
from loader import abi
from loader.record import Record

Learned = Mapping[str, tuple[str, ...]]


def addresses(before: Learned, after: Learned) -> frozenset[str] | None:
    """Return the addresses that are new; None where any is gone, or has one name more than it had."""
    out: set[str] = set()
    for name, now in after.items():
        was = before.get(name, ())
        if was == now:
            continue
        if not set(was).issubset(now):
            return None
        out.update(set(now).difference(was))
    if not before.keys() <= after.keys() or any(out.intersection(was) for was in before.values()):
        return None
    return frozenset(out)


def entries(
    before: Learned, snapshot: model.Snapshot, allocation: identity.Allocation, have: Mapping[Record, Record],
    cluster: Collection[model.Prefix],
) -> dict[Record, Record] | None:  # fmt: skip
    """Return the entries that the ipcache lacks for a snapshot's names, where those before are there; None: it is not
    as simple as that."""
    new = addresses(before, snapshot.learned)
    if new is None:
        return None
    names = {name: tuple(new.intersection(held)) for name, held in snapshot.learned.items()}
    meant = refer.written_out(snapshot)
    found = places.places(model.Snapshot(policies=meant.policies, learned=names), cluster)
    in_force = {value.identity for value in have.values() if isinstance(value, abi.IpcacheValue)}
    out: dict[Record, Record] = {}
    for prefix in map(places.host, new):
        if prefix not in found:
            continue  # no rule means it
        key, number = compiler.ipcache_key(prefix), allocation.cidrs.used.get(found[prefix].name)
        if number not in in_force or key in have:
            return None
        out[key] = abi.IpcacheValue(number)
    return out
