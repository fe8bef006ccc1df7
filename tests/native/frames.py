"""Ethernet frames for the parser, built by hand: only what the tests look at is filled in."""

import ipaddress
import struct

MACS = bytes(12)


def ipv4(
    payload: bytes, proto: int, src: str = "10.0.0.1", dst: str = "10.0.0.2",
    fragment: int = 0, ident: int = 7, options: bytes = b"",
) -> bytes:  # fmt: skip
    """Return an IPv4 packet; `fragment` is the whole word of flags and offset."""
    words = 5 + len(options) // 4
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x40 | words, 0, words * 4 + len(payload), ident, fragment, 64, proto, 0,
        ipaddress.IPv4Address(src).packed, ipaddress.IPv4Address(dst).packed,
    )  # fmt: skip
    return head + options + payload


def ipv6(payload: bytes, proto: int, src: str = "fd00::1", dst: str = "fd00::2", hops: int = 64) -> bytes:
    head = struct.pack("!IHBB", 0x60000000, len(payload), proto, hops)
    return head + ipaddress.IPv6Address(src).packed + ipaddress.IPv6Address(dst).packed + payload


def v6_fragment(proto: int, offset: int, more: bool, ident: int) -> bytes:
    """Return a fragment header; `offset` in bytes."""
    return struct.pack("!BBHI", proto, 0, offset | more, ident)


def v6_options(proto: int, words: int = 0) -> bytes:
    """Return a hop-by-hop or destination options header of (words + 1) * 8 bytes, all padding."""
    return bytes([proto, words, 1, 4 + 8 * words, *bytes(4 + 8 * words)])


def ethernet(packet: bytes) -> bytes:
    return MACS + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def ports(sport: int, dport: int, rest: bytes = bytes(4)) -> bytes:
    return struct.pack("!HH", sport, dport) + rest


def tcp(sport: int, dport: int, flags: int = 2) -> bytes:
    return struct.pack("!HHIIBBHHH", sport, dport, 0, 0, 0x50, flags, 0, 0, 0)


def icmp(kind: int, code: int = 0, ident: int = 0, rest: bytes = b"") -> bytes:
    return struct.pack("!BBHHH", kind, code, 0, ident, 0) + rest
