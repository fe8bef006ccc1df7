"""What plainly holds all of another: selectors, peers and ports of which the first means whatever the second does.
Where that is not plain to see, it does not. Pure. Those that have nothing in common: apart.py.
"""

from collections.abc import Iterable

from control import model
from control.policy import apart, dnsnames


def selectors(one: model.Selector, other: model.Selector) -> bool:
    """Tell whether the first asks for nothing that the second does not: it selects whomever the second selects."""
    return set(one.requirements) <= set(other.requirements)


def peers(one: model.Peer | None, other: model.Peer | None) -> bool:
    """Tell whether the first means whomever the second means; None is anybody."""
    if one is None or one == other or one is model.Entity.ALL:
        return True
    match one, other:
        case model.Selector(), model.Selector():
            return selectors(one, other)
        case model.CidrPeer(), model.CidrPeer():
            return one.prefix.contains(other.prefix) and set(one.excepts) <= set(other.excepts)
        case model.NamePeer(), model.NamePeer():
            return dnsnames.covers(one, other)
    return False


def ports(one: model.PortSpec, other: model.PortSpec) -> bool:
    """Tell whether the first has all ports that the second means; one by a name is that name's alone."""
    return one == other or (
        one.proto == other.proto
        and not (one.name or other.name)
        and one.first <= other.first
        and other.last <= one.last
    )


def any_of_ports(several: Iterable[model.PortSpec] | None, port: model.PortSpec) -> bool:
    """Tell whether one of several has all that a port means; None: any port."""
    return several is None or any(ports(each, port) for each in several)


def is_none_of_ports(several: Iterable[model.PortSpec] | None, port: model.PortSpec) -> bool:
    """Tell whether none of several can be what a port means."""
    return several is not None and all(apart.ports(each, port) for each in several)


def are_ports_together(several: Iterable[model.PortSpec], port: model.PortSpec) -> bool:
    """Tell whether several have together all ports that a range means."""
    if port.name:
        return any(ports(each, port) for each in several)
    following = port.first
    here = [(each.first, each.last) for each in several if each.proto == port.proto and not each.name]
    for first, last in sorted(here):
        if first <= following:
            following = max(following, last + 1)
    return following > port.last


def size(peer: model.Peer | None) -> int:
    """Return of how many parts a peer is that are compared one by one."""
    if isinstance(peer, model.Selector):
        return sum(1 + len(requirement.values) for requirement in peer.requirements)
    return len(peer.excepts) if isinstance(peer, model.CidrPeer) else 0
