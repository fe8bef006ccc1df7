"""Goes on numbering above what pinned maps hold: a number must never change its meaning while anything holds it.

A predecessor may have died before it wrote down the numbers that it gave out last, or what it wrote is lost. What has
another number by now is unknown to a record then, and never taken for something else.
"""

import dataclasses
import struct
from collections.abc import Iterable, Iterator, Mapping

from control import compile as compiler
from control import identity
from control.agent import plan
from loader import abi, maps
from loader.numbers import is_reserved
from loader.record import Record


def above(
    before: identity.Allocation, have: plan.Content, remembered: Iterable[tuple[int, int]] = ()
) -> identity.Allocation:
    """Return the numbers given out so far, those to come above all that maps hold and connections remember."""
    rules, known, sets, endpoints, services = set[int](), set[int](), set[int](), set[int](), set[int]()
    for key, value in _entries(have):
        match key, value:
            case abi.PolicyKey(), abi.PolicyValue():
                rules.update((value.rule_id, value.audit_rule_id))
                known.add(key.peer_id)
                sets.add(key.set_id)
            case abi.EndpointKey(), abi.Endpoint():
                endpoints.add(key.id)
                known.add(value.identity)
            case _, abi.IpcacheValue():
                known.add(value.identity)
            case _, abi.Service():
                services.add(value.id)
    for rule, number in remembered:
        rules.add(rule)
        known.add(number)
    return dataclasses.replace(
        before,
        identities=_beyond(before.identities, known),
        cidrs=_beyond(before.cidrs, {number for number in known if not is_reserved(number)}),
        endpoints=_beyond(before.endpoints, endpoints),
        rules=_beyond(before.rules, rules),
        sets=_beyond(before.sets, {number for number in sets if not is_reserved(number)}),
        services=_beyond(before.services, services),
    )


def in_place(before: identity.Allocation, have: plan.Content, facts: compiler.Facts) -> identity.Allocation:
    """Return the numbers with those of endpoints by where they are: whoever has an interface now has its number.

    So no change of names, not even an exchange, moves a running pod to another record, another policy set or another
    pod's conntrack. What maps hold counts, not what was written down: it is what is in force.
    """
    held: Mapping[abi.IfaceKey, abi.EndpointRef] = have["endpoint_ifaces"]  # type: ignore[assignment]
    records: Mapping[abi.EndpointKey, abi.Endpoint] = have["endpoints"]  # type: ignore[assignment]
    places = {ref.id: key.ifindex for key, ref in held.items()}
    # One that had yet to let go of an interface when its agent was killed has two, and is where its record says.
    for key, record in records.items():
        if held.get(abi.IfaceKey(record.ifindex)) == abi.EndpointRef(key.id):
            places[key.id] = record.ifindex
    speaker = {ifindex: id for id, ifindex in places.items()}
    staying = {f"{ns}/{name}": speaker[f.ifindex] for (ns, name), f in facts.items() if f.ifindex in speaker}
    taken = set(staying.values())
    used, retired = (
        {name: number for name, number in numbers.items() if name not in staying and number not in taken}
        for numbers in (before.endpoints.used, before.endpoints.retired)
    )
    numbers = dataclasses.replace(before.endpoints, used=used | staying, retired=retired)
    return dataclasses.replace(before, endpoints=numbers)


def _entries(have: plan.Content) -> Iterator[tuple[Record, Record]]:
    for name in ("policy", "endpoints", "ipcache", "services"):
        yield from have[name].items()


def _beyond(numbers: identity.Numbers, held: set[int]) -> identity.Numbers:
    highest = max((number for number in held if numbers.first <= number <= numbers.last), default=-1)
    return dataclasses.replace(numbers, next=max(numbers.next, highest + 1))


_CT = {name: at for name, _, at in abi.CtEntry.FIELDS}


def remembered(opened: maps.Maps) -> Iterator[tuple[int, int]]:
    """Yield the rule and the identities that each connection knows; there may be very many."""
    number = struct.Struct("=I").unpack_from
    for _, raw in opened.ct.raw_items():
        rule = number(raw, _CT["rule_id"])[0]
        yield rule, number(raw, _CT["identity"])[0]
        yield rule, number(raw, _CT["peer_identity"])[0]
    for _, conn in opened.conns.items():
        for end in conn.end:
            yield end.rule, end.identity
