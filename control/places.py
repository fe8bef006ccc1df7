"""Addresses outside pods that have an identity of their own: ranges that rules name, nodes, the API server, and what
was learned of DNS names. Pure.

An address has the identity of the longest prefix that it is in, so a place knows in which of the ranges that rules name
it lies: a rule for a range means every place inside it.
"""

import bisect
import dataclasses
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping

from control import model
from control.policy import dnsnames, peers

ANY_IPV4 = model.Prefix(4, 0, 0)
ANY_IPV6 = model.Prefix(6, 0, 0)
API_SERVICE = ("default", "kubernetes")  # its endpoints are where the Kubernetes API is served
REMOTE_NODE, API_SERVER = "reserved:remote-node", "reserved:kube-apiserver"
WORLD, UNMANAGED = "reserved:world", "reserved:unmanaged"


@dataclasses.dataclass(frozen=True)
class Place:
    """`labels`, sorted, are its identity, and `name` is what its number is kept under. `within`: the narrowest range
    around it that a rule for ranges can mean, None for what no such rule means (nodes).
    """

    labels: tuple[str, ...]
    within: model.Prefix | None
    name: str


def places(snapshot: model.Snapshot, cluster: Collection[model.Prefix] = ()) -> dict[model.Prefix, Place]:
    """Return every place by its prefix. The snapshot's policies are without references (refer.written_out).

    `cluster`: the ranges in which an address without a workload is an unmanaged pod. One that a rule for ranges can
    mean is a place: what the rule says of it must not hang on what other rules name.
    """
    ranges, wanted = _named(snapshot.policies)
    inside = [prefix for prefix in cluster if any(p.contains(prefix) for p in ranges)]
    ranges = {*ranges, *inside} - {ANY_IPV4, ANY_IPV6}
    around, pods = _Around(ranges), _Around(cluster)
    out = {}
    for prefix in ranges:
        out[prefix] = Place(_of_range(prefix, pods(prefix) in cluster), prefix, peers.show_prefix(prefix))
    for prefix, meant in _met(wanted, snapshot.learned).items():
        within = around(prefix)
        names = {f"fqdn:{dnsnames.show(peer)}" for peer in meant}
        out[prefix] = _place(names | {*_of_range(within, pods(prefix) in cluster)}, within)
    serving = set(map(host, api_server_of(snapshot.services)))
    for prefix in serving:
        within = around(prefix)
        known = out[prefix].labels if prefix in out else _of_range(within, pods(prefix) in cluster)
        out[prefix] = _place({API_SERVER, *known}, within)
    for node in snapshot.nodes:
        labels = {REMOTE_NODE, *(f"k8s:{key}={value}" for key, value in node.labels.items())}
        for prefix in map(host, node.ips):
            out[prefix] = _place(labels | ({API_SERVER} if prefix in serving else set()), None)
    return out


def _place(labels: set[str], within: model.Prefix | None) -> Place:
    found = tuple(sorted(labels))
    return Place(found, within, ",".join(found))


def api_server_of(services: Iterable[model.Service]) -> tuple[str, ...]:
    """Return the addresses at which the Kubernetes API is served, as its own service has them."""
    return next((s.endpoints for s in services if (s.namespace, s.name) == API_SERVICE), ())


def host(ip: str) -> model.Prefix:
    """Return the range of one address."""
    address = ipaddress.ip_address(ip)
    return model.Prefix(address.version, int(address), address.max_prefixlen)


def _of_range(prefix: model.Prefix, is_cluster: bool) -> tuple[str, ...]:
    kind = (UNMANAGED,) if is_cluster else (WORLD, f"{WORLD}-ipv{prefix.version}")
    return kind if prefix in (ANY_IPV4, ANY_IPV6) else (f"cidr:{peers.show_prefix(prefix)}", *kind)


def _named(policies: Iterable[model.Policy]) -> tuple[set[model.Prefix], set[model.NamePeer]]:
    """Return the ranges and the DNS names that any rule names as a peer."""
    ranges: set[model.Prefix] = set()
    names: set[model.NamePeer] = set()
    for peer in peers_in(policies):
        if isinstance(peer, model.CidrPeer):
            ranges.update((peer.prefix, *peer.excepts))
        elif isinstance(peer, model.NamePeer):
            names.add(peer)
    return ranges, names


def peers_in(policies: Iterable[model.Policy]) -> Iterator[model.Peer]:
    """Yield every peer of every rule."""
    return (
        peer
        for policy in policies
        for section in policy.sections
        for rule in section.rules
        for peer in rule.peers or ()
    )


def _met(
    wanted: set[model.NamePeer], learned: Mapping[str, tuple[str, ...]]
) -> dict[model.Prefix, set[model.NamePeer]]:
    """Return, for each learned address, the names of rules that it was learned under."""
    out: dict[model.Prefix, set[model.NamePeer]] = {}
    for name, addresses in learned.items():
        meant = {peer for peer in wanted if dnsnames.matches(peer, name)}
        for ip in addresses if meant else ():
            out.setdefault(host(ip), set()).update(meant)
    return out


class _Around:
    """Finds the narrowest of some ranges around another one."""

    def __init__(self, ranges: Iterable[model.Prefix]) -> None:
        self._known = set(ranges)
        self._lengths = {
            version: sorted({p.length for p in self._known if p.version == version}, reverse=True) for version in (4, 6)
        }

    def __call__(self, prefix: model.Prefix) -> model.Prefix:
        bits = 32 if prefix.version == 4 else 128
        for length in self._lengths[prefix.version]:
            if length <= prefix.length:
                found = model.Prefix(prefix.version, prefix.address >> (bits - length) << (bits - length), length)
                if found in self._known:
                    return found
        return ANY_IPV4 if prefix.version == 4 else ANY_IPV6


class Inside:
    """Finds the numbers of all places inside a range."""

    def __init__(self, numbered: Iterable[tuple[model.Prefix, int]]) -> None:
        self._sorted = sorted(set(numbered))

    def __call__(self, prefix: model.Prefix) -> list[int]:
        start = bisect.bisect_left(self._sorted, (prefix, 0))
        end = bisect.bisect_right(self._sorted, (model.Prefix(prefix.version, prefix.last, 129), 0))
        return [number for _, number in self._sorted[start:end]]
