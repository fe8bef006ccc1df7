"""Brings the maps from what they hold to what is wanted, in the order of plan.py.

Nothing is written if it would not all fit.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping

from control import compile as compiler
from control import editions, names
from control.agent import ageing, host, plan
from control.source import remarks
from loader import abi, bpf, maps, selftest
from loader.errors import MapFull
from loader.record import Record


def current(opened: maps.Maps) -> dict[str, dict[Record, Record]]:
    """Return what the maps hold now: after a restart, what the predecessor left in force. Not the self-test's own.

    One that died between two editions leaves the old one, or the next one if that was in force already.
    """
    held = {name: dict(opened[name].items()) for name in compiler.MAP_NAMES}
    state = abi.EditionState(opened.edition.get_at(0).state)
    for name in editions.MAPS:
        settled = {key: editions.settled(state, value) for key, value in held[name].items()}
        opened[name].put_many({key: value for key, value in settled.items() if value != held[name][key]})
        held[name] = settled
    opened.edition.put_at(0, abi.Edition(abi.EditionState.NOW))
    for name, theirs in selftest.entries(opened):
        if name == "conns":
            break  # it and conntrack come last, are long, and not among these
        for key in theirs:
            held.get(name, {}).pop(key, None)
    return held


def check_room(want: compiler.Desired, known: names.Names | None = None) -> None:
    """Raise MapFull when a map cannot take what is wanted; by the names in `known`, tell whose most of it is."""
    for name in compiler.MAP_NAMES:
        limit = abi.MAP_BY_NAME[name].max_entries
        if len(want[name]) > limit:
            most = _most(want["policy"], known) if known and name == "policy" else ""
            raise MapFull(
                f"map {name} takes {limit:,} entries, the configuration needs {len(want[name]):,}{most}: "
                "use fewer or wider rules, or fewer workloads on this node"
            )


def _most(entries: Mapping[Record, Record], known: names.Names) -> str:
    """Return which policy most entries are of, with its file and its share; a policy set has those of several."""
    share: Counter[tuple[str, str]] = Counter()
    for value in entries.values():
        assert isinstance(value, abi.PolicyValue)
        if rule := known.rule(value.rule_id if value.present else value.audit_rule_id):
            share[rule.policy, remarks.file_of(rule.source)] += 1
    if not share:
        return ""
    ((policy, file), count), *_ = share.most_common(1)
    return f", {count * 100 // len(entries)} % of them for {policy}" + (f" ({file})" if file else "")


def apply(
    opened: maps.Maps,
    have: plan.Content,
    want: compiler.Desired,
    forget: Callable[[], object],
    hang: Callable[[], object],
) -> bool:
    """Bring the maps to `want`; return whether anything changed. Raises MapFull before anything was changed.

    `forget`: raises the policy generation. `hang`: attaches the hooks of whoever comes, who is closed until it returns;
    raises nothing.
    """
    check_room(want)
    changed = False
    for step in plan.plan(have, want):
        if isinstance(step, plan.Hang):
            hang()
            continue
        if isinstance(step, plan.Turn):
            opened.edition.put_at(0, abi.Edition(step.state))
            if step.state == abi.EditionState.BOTH:
                # What one end has judged by the old edition alone must not meet another that judges by the next one:
                # no verdict that is remembered, no packet that is on its way.
                forget()
            if step.state != abi.EditionState.NEXT:
                bpf.await_programs()  # before others use the elements of a set that is deleted, too
            continue
        changed |= bool(step.puts or step.deletes)
        opened[step.map].put_many(step.puts)
        opened[step.map].delete_many(step.deletes)
    return changed


def forgive(opened: maps.Maps, before: Mapping[Record, Record], want: compiler.Desired) -> dict[int, abi.Endpoint]:
    """Forget what was learnt of a pod that is another now, or none: reads that bar the short cut, and open sockets.
    Return the latter's, as they were.

    Sockets of a pod that lost its interface can end without a word, and a pod made again under its name has its id, so
    nobody else would ever take them for closed. To be called before the new pod's programs are attached: until then
    every end on record is the old pod's.
    """
    spaces = {value.netns_cookie for value in want["endpoints"].values() if isinstance(value, abi.Endpoint)}
    gone: dict[int, abi.Endpoint] = {}
    for key, value in before.items():
        assert isinstance(key, abi.EndpointKey) and isinstance(value, abi.Endpoint)
        new = want["endpoints"].get(key)
        if not isinstance(new, abi.Endpoint) or (new.netns_cookie, new.ifindex) != (value.netns_cookie, value.ifindex):
            opened.caught.delete(key)
        if value.netns_cookie not in spaces:  # a pod that only has another interface keeps its sockets
            gone[key.id] = value
    if gone:
        cut = {id for id, value in gone.items() if not host.name(value.ifindex)}
        ageing.close_ends(opened, gone.keys(), cut)
    return gone


def bump(opened: maps.Maps) -> int:
    """Raise the policy generation, so that verdicts remembered for open connections are asked again; return it."""
    config = opened.config.get_at(0)
    generation = config.generation % 0xFFFFFFFF + 1
    opened.config.put_at(0, dataclasses.replace(config, generation=generation))
    return generation
