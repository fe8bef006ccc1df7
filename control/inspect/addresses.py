"""The ipcache: which identity an address has, by the longest prefix that covers it."""

import dataclasses
import ipaddress
from collections.abc import Iterable

from control.inspect import words
from control.names import Names
from loader import abi

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclasses.dataclass(frozen=True)
class AddressRow:
    """One prefix and the identity behind it."""

    prefix: str
    identity: int
    identity_word: str
    labels: tuple[str, ...]
    name: str  # the workload with that address, "" for a range or for an address nobody named
    flags: tuple[str, ...] = ()  # "mesh": an enrolled pod of another node, which mTLS is for


def network(key: abi.IpcacheKey) -> Network:
    """Return the prefix of a key; IPv4 is counted from bit 96."""
    if key.addr[:12] == bytes(10) + b"\xff\xff" and key.prefixlen >= 96:
        return ipaddress.IPv4Network((key.addr[12:], key.prefixlen - 96))
    return ipaddress.IPv6Network((key.addr, key.prefixlen))


def rows(entries: Iterable[tuple[abi.IpcacheKey, abi.IpcacheValue]], names: Names) -> tuple[AddressRow, ...]:
    """Return every prefix, IPv4 first, in the order of addresses."""
    by_ip = {ip: str(e) for e in names.endpoints.values() for ip in e.ips} | {
        ip: str(e) for ip, e in names.remote.items()
    }
    found = sorted(
        ((network(key), value) for key, value in entries),
        key=lambda e: (e[0].version, int(e[0].network_address), e[0].prefixlen),
    )
    return tuple(
        AddressRow(
            prefix=str(net),
            identity=value.identity,
            identity_word=words.identity_word(names, value.identity),
            labels=names.labels(value.identity),
            flags=tuple(flag.name.lower() for flag in abi.IpcacheFlag if value.flags & flag and flag.name),
            name=by_ip.get(str(net.network_address), "") if net.prefixlen == net.max_prefixlen else "",
        )
        for net, value in found
    )


def lookup(found: Iterable[AddressRow], ip: str) -> AddressRow | None:
    """Return the row that decides for an address, as the kernel does; raises ValueError for what is no address."""
    address = ipaddress.ip_address(ip)
    covering = [(ipaddress.ip_network(r.prefix), r) for r in found]
    hits = [(net.prefixlen, r) for net, r in covering if net.version == address.version and address in net]
    return max(hits, key=lambda hit: hit[0])[1] if hits else None
