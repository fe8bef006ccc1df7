"""Ports, port ranges and ICMP types: what may be written, and how a range becomes prefixes."""

import dataclasses
import re
from collections.abc import Iterator

from control import model
from control.policy import field
from loader import abi

MAX_PORTS = 40  # of one rule, as in the CRDs
TRANSPORTS = (abi.Proto.TCP, abi.Proto.UDP, abi.Proto.SCTP)
PORTLESS = (
    abi.Proto.VRRP, abi.Proto.IGMP, abi.Proto.GRE, abi.Proto.IPIP, abi.Proto.IPV6, abi.Proto.ESP, abi.Proto.AH,
)  # fmt: skip
PROTOCOLS = {"ANY": TRANSPORTS, **{proto.name: (proto,) for proto in (*TRANSPORTS, *PORTLESS)}}
KUBERNETES_PROTOCOLS = {name: PROTOCOLS[name][0] for name in ("TCP", "UDP", "SCTP")}

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
    if isinstance(place.node.value, field.Doubtful):
        place.problem(
            f"invalid {field.quote(text)} (others take it for a number: write it in decimal, or a name in quotes)"
        )
        return None
    return text.lower()


def number_or_name(place: field.Field) -> int | str | None:
    """Read a port number (also as a string of digits) or a port name."""
    value = place.node.value
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        return port_name(place)
    if isinstance(value, str):
        # A leading zero makes it an octal number for some readers.
        if len(value) > 5 or int(value) > 65535 or (value[0] == "0" and value != "0"):
            place.problem(f"invalid {field.quote(value)} (a number from 0 to 65535)")
            return None
        return int(value)
    return place.integer(0, 65535)


@dataclasses.dataclass(frozen=True)
class Port:
    """One item of `ports`, with what was written where it matters what may go with it. `end` 0: no range."""

    place: field.Field
    protocols: tuple[abi.Proto, ...]
    port: int | str
    end: int = 0

    @property
    def specs(self) -> tuple[model.PortSpec, ...]:
        if isinstance(self.port, str):
            return tuple(model.PortSpec(proto, name=self.port) for proto in self.protocols)
        if self.port == 0:
            return tuple(model.PortSpec(proto) for proto in self.protocols)
        return tuple(model.PortSpec(proto, self.port, self.end or self.port) for proto in self.protocols)


def read_ports(item: field.Field, entries: dict[str, field.Field]) -> list[Port]:
    """Read `ports` of one item of `toPorts`."""
    given = entries["ports"].items(MAX_PORTS) if "ports" in entries else []
    if "ports" not in entries and isinstance(item.node.value, dict):
        item.problem('ports is missing (port "0" means all ports of a protocol)')
    elif "ports" in entries and entries["ports"].node.value == ():
        entries["ports"].problem('must name a port (port "0" means all ports of a protocol)')
    return [port for port in map(_read_port, given) if port is not None]


def _read_port(place: field.Field) -> Port | None:
    parts = place.fields(("port", "endPort", "protocol"))
    protocols: tuple[abi.Proto, ...] | None = TRANSPORTS
    if "protocol" in parts and parts["protocol"].node.value in ("ICMP", "ICMPv6", "ICMPV6"):
        parts["protocol"].problem(f"{parts['protocol'].node.value} has no ports (use icmps)")
        protocols = None
    elif "protocol" in parts:
        protocols = parts["protocol"].choice(PROTOCOLS)
    port: int | str | None = 0
    given = parts["port"].node.value if "port" in parts else None
    if isinstance(given, int) and not isinstance(given, bool):
        # The API server takes a string only; a file that is refused there must not pass here.
        remedy = f'write it in quotes: "{given}"' if 0 <= given <= 65535 else "from 0 to 65535, in quotes"
        parts["port"].problem(f"must be a string, is a number ({remedy})")
        port = None
    elif "port" in parts:
        port = number_or_name(parts["port"])
    elif isinstance(place.node.value, dict) and (protocols is None or protocols[0] not in PORTLESS):
        place.problem("port is missing")
        port = None
    end = parts["endPort"].integer(0, 65535) if "endPort" in parts else 0
    if port is None or protocols is None or end is None:
        return None
    if protocols[0] in PORTLESS and (port != 0 or end):
        parts["port" if port != 0 else "endPort"].problem(f'{protocols[0].name} has no ports (port "0", or none)')
        return None
    if isinstance(port, str):
        if end:
            parts["endPort"].advise(f"has no effect behind the name {field.quote(port)}")
        return Port(place, protocols, port)
    if end and (port == 0 or end < port):
        parts["endPort"].problem(f"{end} is no end for port {port} (a range begins at 1 or more and ends after it)")
        return None
    return Port(place, protocols, port, end)


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


def icmp_type(proto: abi.Proto, text: str) -> int | None:
    """Return the ICMP type that a number from 0 to 255 or a name stands for; None: none."""
    if text.isascii() and text.isdigit():
        return int(text) if len(text) <= 3 and int(text) <= 255 else None
    return (_ICMP4 if proto == abi.Proto.ICMP else _ICMP6).get(text)


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
