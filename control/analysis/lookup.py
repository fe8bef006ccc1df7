"""A DNS name that somebody is about to look up: where policy meets it, and whether the proxy sees that. Pure."""

import dataclasses
import ipaddress
import itertools
from collections import Counter
from collections.abc import Callable, Iterable

from control import model, places
from control.analysis import world
from control.policy import covering, refer
from loader import abi

# Where names are looked up at: what nobody uses is the highest.
_LOWEST, _HIGHEST = int(ipaddress.IPv4Address("1.0.0.0")), int(ipaddress.IPv4Address("240.0.0.1"))


def with_name(snapshot: model.Snapshot, name: str) -> model.Snapshot:
    """Return the snapshot as it is once name has been looked up: at an address that no rule names otherwise.

    Where rules name all of them, at one that the fewest ranges are around.
    """
    if name in snapshot.learned:
        return snapshot
    ranges = [prefix for prefix in places.places(refer.written_out(snapshot)) if prefix.version == 4]
    used = [ip for workload in snapshot.workloads for ip in workload.ips]
    used += [ip for node in snapshot.nodes for ip in node.ips]
    used += [ip for service in snapshot.services for ip in (*service.cluster_ips, *service.endpoints)]
    used += [ip for addresses in snapshot.learned.values() for ip in addresses]
    free = _free(ranges, [prefix for prefix in map(places.host, used) if prefix.version == 4])
    return dataclasses.replace(snapshot, learned={**snapshot.learned, name: (str(ipaddress.IPv4Address(free)),)})


def _free(ranges: Iterable[model.Prefix], used: Iterable[model.Prefix]) -> int:
    """Return the highest address that the fewest ranges are around and that nobody has."""
    edges = Counter({_LOWEST: 0, _HIGHEST + 1: 0})
    for prefixes, weight in ((ranges, 1), (used, 1 << 32)):
        for prefix in prefixes:
            edges[prefix.address] += weight
            edges[prefix.last + 1] -= weight
    best, around = (1 << 64, 0), 0
    for first, following in itertools.pairwise(sorted(edges)):
        around += edges[first]
        if _LOWEST <= first <= _HIGHEST:
            best = min(best, (around, -(following - 1)))
    return -best[1]


def is_seen(known: world.World, workload: model.Workload, is_served: Callable[[model.PortSpec], bool]) -> bool:
    """Tell whether the proxy sees what a workload asks DNS for, and so learns addresses of names from it: at some port
    where servers of names listen, as far as no deny is plainly around what the rule says there.
    """
    rules = [rule for rule in known.policy(workload).rules if rule.direction == abi.Direction.EGRESS and not rule.audit]
    denies = [rule for rule in rules if rule.verdict == abi.Verdict.DENY]
    for rule in rules:
        if rule.l7 is None or not rule.l7.dns:
            continue
        around = [
            deny
            for deny in denies
            if all(any(covering.peers(o, e) for o in deny.peers or (None,)) for e in rule.peers or (None,))
        ]
        for spec in rule.ports or ():
            if is_served(spec) and not any(covering.any_of_ports(deny.ports, spec) for deny in around):
                return True
    return False
