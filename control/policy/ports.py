"""Ports, port ranges and ICMP types: what may be written, and how a range becomes prefixes."""

import re
from collections.abc import Iterator

from control import model
from control.policy import field
from loader import abi

MAX_PORTS = 40  # of one rule, as in the CRDs
TRANSPORTS = (abi.Proto.TCP, abi.Proto.UDP, abi.Proto.SCTP)
PROTOCOLS = {"TCP": TRANSPORTS[:1], "UDP": TRANSPORTS[1:2], "SCTP": TRANSPORTS[2:], "ANY": TRANSPORTS}
LATER_PROTOCOLS = ("VRRP", "IGMP", "GRE", "IPIP", "IPV6", "ESP", "AH", "ICMP", "ICMPV6")
KUBERNETES_PROTOCOLS = {name: PROTOCOLS[name][0] for name in ("TCP", "UDP", "SCTP")}
LATER_PORT_RULE = ("terminatingTLS", "originatingTLS", "serverNames", "listener", "rules")

_PORT_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
PORT_NAME_RULE = "a port number, or a port name of at most 15 letters, digits and single dashes"

_ICMP4 = {
    "EchoReply": 0, "DestinationUnreachable": 3, "Redirect": 5, "Echo": 8, "EchoRequest": 8, "RouterAdvertisement": 9,
    "RouterSelection": 10, "TimeExceeded": 11, "ParameterProblem": 12, "Timestamp": 13, "TimestampReply": 14,
    "Photuris": 40, "ExtendedEchoRequest": 42, "ExtendedEchoReply": 43,
}  # fmt: skip
_ICMP6 = {
    "DestinationUnreachable": 1, "PacketTooBig": 2, "TimeExceeded": 3, "ParameterProblem": 4, "EchoRequest": 128,
    "EchoReply": 129, "MulticastListenerQuery": 130, "MulticastListenerReport": 131, "MulticastListenerDone": 132,
    "RouterSolicitation": 133, "RouterAdvertisement": 134, "NeighborSolicitation": 135, "NeighborAdvertisement": 136,
    "RedirectMessage": 137, "RouterRenumbering": 138, "ICMPNodeInformationQuery": 139,
    "ICMPNodeInformationResponse": 140, "InverseNeighborDiscoverySolicitation": 141,
    "InverseNeighborDiscoveryAdvertisement": 142, "HomeAgentAddressDiscoveryRequest": 144,
    "HomeAgentAddressDiscoveryReply": 145, "MobilePrefixSolicitation": 146, "MobilePrefixAdvertisement": 147,
    "DuplicateAddressRequestCodeSuffix": 157, "DuplicateAddressConfirmationCodeSuffix": 158,
    "ExtendedEchoRequest": 160, "ExtendedEchoReply": 161,
}  # fmt: skip
_FAMILIES = {"IPv4": (abi.Proto.ICMP, _ICMP4), "IPv6": (abi.Proto.ICMPV6, _ICMP6)}


def port_name(place: field.Field) -> str | None:
    """Read a port name; names differ by more than case, so they are kept in lower case."""
    text = place.text(most=63)
    if text is None:
        return None
    if not _PORT_NAME.fullmatch(text.lower()):
        place.problem(f"invalid {field.quote(text)} ({PORT_NAME_RULE})")
        return None
    return text.lower()


def number_or_name(place: field.Field) -> int | str | None:
    """Read a port number (also as a string of digits) or a port name."""
    value = place.node.value
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        return port_name(place)
    if isinstance(value, str):
        if len(value) > 5 or int(value) > 65535:
            place.problem(f"invalid {field.quote(value)} (a number from 0 to 65535)")
            return None
        return int(value)
    return place.integer(0, 65535)


def read_port_rules(place: field.Field) -> tuple[model.PortSpec, ...]:
    """Read `toPorts`: the ports of all its items."""
    out: list[model.PortSpec] = []
    for item in place.items():
        entries = item.fields(("ports",), later=LATER_PORT_RULE)
        ports = entries["ports"].items(MAX_PORTS) if "ports" in entries else []
        if not ports and "ports" not in entries:
            item.problem('ports is missing (port "0" means all ports of a protocol)')
        elif not ports:
            entries["ports"].problem('must name a port (port "0" means all ports of a protocol)')
        for port in ports:
            out += _read_port(port)
    return tuple(dict.fromkeys(out))


def _read_port(place: field.Field) -> list[model.PortSpec]:
    parts = place.fields(("port", "endPort", "protocol"), required=("port",))
    port = number_or_name(parts["port"]) if "port" in parts else None
    end = parts["endPort"].integer(0, 65535) if "endPort" in parts else 0
    protocols: tuple[abi.Proto, ...] | None = TRANSPORTS
    if "protocol" in parts:
        if parts["protocol"].node.value in LATER_PROTOCOLS:
            parts["protocol"].problem(f"{parts['protocol'].node.value} is not supported yet {field.one_of(PROTOCOLS)}")
            return []
        protocols = parts["protocol"].choice(PROTOCOLS)
    if port is None or protocols is None or end is None:
        return []
    if isinstance(port, str):  # a range cannot begin at a name: endPort has no effect there
        return [model.PortSpec(proto, name=port) for proto in protocols]
    if end and (port == 0 or end < port):
        parts["endPort"].problem(f"{end} is no end for port {port} (a range begins at 1 or more and ends after it)")
        return []
    if port == 0:
        return [model.PortSpec(proto) for proto in protocols]
    return [model.PortSpec(proto, port, end or port) for proto in protocols]


def read_icmps(place: field.Field) -> tuple[model.PortSpec, ...]:
    """Read `icmps`: ICMP types by number or name."""
    out: list[model.PortSpec] = []
    for item in place.items():
        entries = item.fields(("fields",), required=("fields",))
        for entry in entries["fields"].items(MAX_PORTS) if "fields" in entries else ():
            parts = entry.fields(("family", "type"), required=("type",))
            family = parts["family"].choice(_FAMILIES) if "family" in parts else _FAMILIES["IPv4"]
            if family is None or "type" not in parts:
                continue
            value = parts["type"].node.value
            if isinstance(value, str) and not (value.isascii() and value.isdigit()):
                number = parts["type"].choice(family[1])
            elif isinstance(value, str):
                number = int(value) if len(value) <= 3 and int(value) <= 255 else None
                if number is None:
                    parts["type"].problem(f"invalid {field.quote(value)} (a number from 0 to 255)")
            else:
                number = parts["type"].integer(0, 255)
            if number is not None:
                out.append(model.PortSpec(family[0], number, number))
    return tuple(dict.fromkeys(out))


def split(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield the fewest (port, prefix length) pairs that together are the ports first to last.

    >>> list(split(80, 80)), list(split(0, 65535)), list(split(6, 9))
    ([(80, 16)], [(0, 0)], [(6, 15), (8, 15)])
    """
    while first <= last:
        # The largest block that begins here is bounded by the alignment of its start and by the end of the range.
        size = (first & -first) or 65536
        while first + size - 1 > last:
            size //= 2
        yield first, 17 - size.bit_length()
        first += size
