"""What plainly holds all of another: selectors, peers and ports of which the first means whatever the second does.
Where that is not plain to see, it does not. Pure. Those that have nothing in common: apart.py.
"""

from collections.abc import Iterable

from control import model
from control.policy import dnsnames


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
