"""The human half of a flow record: what happened in one short phrase, with amounts and times that people can read."""

import errno
import functools

from loader import abi

TCP_FLAGS = (
    ("FIN", 0x01), ("SYN", 0x02), ("RST", 0x04), ("PSH", 0x08),
    ("ACK", 0x10), ("URG", 0x20), ("ECE", 0x40), ("CWR", 0x80),
)  # fmt: skip
LIFECYCLE = frozenset({abi.EventType.OPEN, abi.EventType.PERIODIC, abi.EventType.CLOSE})
_MEASURED = frozenset({abi.EventType.PERIODIC, abi.EventType.CLOSE})
_PROTO_NAMES = {
    int(abi.Proto.TCP): "TCP", int(abi.Proto.UDP): "UDP", int(abi.Proto.SCTP): "SCTP",
    int(abi.Proto.ICMP): "ICMPv4", int(abi.Proto.ICMPV6): "ICMPv6",
}  # fmt: skip
_ICMP_TYPES = {
    ("ICMPv4", 0): "EchoReply", ("ICMPv4", 3): "DestinationUnreachable", ("ICMPv4", 8): "EchoRequest",
    ("ICMPv4", 11): "TimeExceeded", ("ICMPv6", 1): "DestinationUnreachable", ("ICMPv6", 2): "PacketTooBig",
    ("ICMPv6", 3): "TimeExceeded", ("ICMPv6", 128): "EchoRequest", ("ICMPv6", 129): "EchoReply",
    ("ICMPv6", 135): "NeighborSolicitation", ("ICMPv6", 136): "NeighborAdvertisement",
}  # fmt: skip
_ACCEL_WORDS = {int(reason): reason.name.lower().replace("_", "-") for reason in abi.AccelReason}
# These do not explain a connection that stayed on TCP: nothing is known, or nothing stood in the way.
_NO_REASON = frozenset({int(abi.AccelReason.UNKNOWN), int(abi.AccelReason.ACTIVE)})


def proto_name(proto: int) -> str:
    """Return Hubble's name of an IP protocol ("TCP", "ICMPv4"), or "IP protocol 47" for one it has no name for."""
    return _PROTO_NAMES.get(proto) or f"IP protocol {proto}"


def accel_word(reason: int) -> str:
    """Return the name of an AccelReason as the commands print it ("peer-remote"), or the bare number.

    >>> accel_word(6), accel_word(250)
    ('peer-remote', '250')
    """
    return _ACCEL_WORDS.get(reason) or str(reason)


def amount(n: int) -> str:
    """Return a number of bytes with three digits at most before a decimal unit.

    >>> amount(0), amount(999), amount(1000), amount(12_345_678), amount(999_950)
    ('0 B', '999 B', '1.0 kB', '12.3 MB', '1.0 MB')
    """
    if n < 1000:
        return f"{n} B"
    value = float(n)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value / 1000:.1f} EB"


def counted(n: int, noun: str, nouns: str = "") -> str:
    """Return a number of things with their noun, whose plural is `nouns` where an "s" does not make it.

    >>> counted(1, "endpoint"), counted(1200, "endpoint"), counted(0, "policy", "policies")
    ('1 endpoint', '1,200 endpoints', '0 policies')
    """
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def span(ns: int) -> str:
    """Return a duration in its two largest units at most.

    >>> span(830), span(41_000), span(15_200_000), span(3_240_000_000), span(3_720 * 10**9), span(90_061 * 10**9)
    ('830 ns', '41.0 us', '15.2 ms', '3.2 s', '1h2m', '1d1h')
    """
    if ns < 1000:
        return f"{ns} ns"
    if ns < 1_000_000:
        return f"{ns / 1e3:.1f} us"
    if ns < 1_000_000_000:
        return f"{ns / 1e6:.1f} ms"
    seconds = ns // 1_000_000_000
    if seconds < 60:
        return f"{ns / 1e9:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600}h"


def short_cut(event: abi.FlowEvent) -> str:
    """Return "short cut", "no short cut (why)" or "", the last for what never could take it or did not start yet."""
    if event.proto != abi.Proto.TCP or event.type not in LIFECYCLE:
        return ""
    if event.accel:
        return "short cut"
    if event.type not in _MEASURED:
        return ""
    to_source, to_destination = event.accel_reason
    if to_source == to_destination:
        return "no short cut" if to_source in _NO_REASON else f"no short cut ({accel_word(to_source)})"
    sides = [
        f"{side}: {accel_word(reason)}"
        for side, reason in (("source", to_source), ("destination", to_destination))
        if reason not in _NO_REASON
    ]
    return f"no short cut ({', '.join(sides)})" if sides else "no short cut"


def summary(event: abi.FlowEvent) -> str:
    """Return one phrase: protocol, flags or ICMP type, the short cut, and for a measured event bytes and time."""
    name = proto_name(event.proto)
    if event.proto == abi.Proto.TCP and event.tcp_flags and event.type not in LIFECYCLE:
        return "TCP Flags: " + ", ".join(flag for flag, bit in TCP_FLAGS if event.tcp_flags & bit)
    if event.proto in (abi.Proto.ICMP, abi.Proto.ICMPV6):
        kind = _ICMP_TYPES.get((name, event.icmp_type)) or f"type {event.icmp_type}"
        name = f"{name} {kind}" + (f" code {event.icmp_code}" if event.icmp_code else "")
    parts = [name]
    if how := short_cut(event):
        parts.append(how)
    if event.type == abi.EventType.FAILED:
        parts.append(
            f"failed ({call_error(event.reason)})" if event.reason else "failed (no answer; its program gave up)"
        )
    if event.type == abi.EventType.STUCK:
        parts.append(reset_for(reader(event), accel_word(event.reason)))
    if event.type in _MEASURED:
        parts.append(counts(event.tx_bytes, event.rx_bytes, event.duration))
    return "; ".join(parts)


def reader(event: abi.FlowEvent) -> str:
    """Return which end of a stuck connection could not see all bytes: "source" or "destination"."""
    return "source" if event.direction == abi.Direction.EGRESS else "destination"


def reset_for(who: str, reason: str) -> str:
    """Return why a stuck connection is reset: whose program reads how; `who` is an end or what it is called.

    >>> reset_for("destination", "splice"), reset_for("shop/web", "counts")
    ('reset for its reader (destination: splice)', 'reset for its reader (shop/web: counts)')
    """
    return f"reset for its reader ({who}: {reason})"


def call_error(number: int) -> str:
    """Return the name of an errno, or the bare number.

    >>> call_error(111), call_error(250)
    ('ECONNREFUSED', '250')
    """
    return errno.errorcode.get(number) or str(number)


def counts(tx: int, rx: int, duration: int) -> str:
    """Return a measured event's amounts and time."""
    return f"{_amounts(tx, rx)}, {span(duration)}"


@functools.lru_cache(maxsize=4096)
def _amounts(tx: int, rx: int) -> str:
    return f"{amount(tx)} sent, {amount(rx)} received"


def start(event: abi.FlowEvent) -> str:
    """Return what a measured event's phrase begins with; `counts` is the rest."""
    return summary(event).removesuffix(counts(event.tx_bytes, event.rx_bytes, event.duration))
