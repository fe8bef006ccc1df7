"""A DNS name that somebody is about to look up: where policy meets it. Pure."""

import dataclasses
import ipaddress
import itertools
from collections import Counter
from collections.abc import Iterable

from control import model, places
from control.policy import refer

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
