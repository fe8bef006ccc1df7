"""What netlink's datagrams hold (include/uapi/linux/netlink.h), where the lists are too many for a library."""

import struct
from collections.abc import Iterator

HEADER = 16  # bytes of nlmsghdr, before a message's content


def messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the kind of each message, and the whole of it with its header."""
    at = 0
    while at + HEADER <= len(datagram):
        length, kind = struct.unpack_from("=IH", datagram, at)
        if length < HEADER:
            return
        yield kind, datagram[at : at + length]
        at += (length + 3) & ~3


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes of a message, or of one that holds others: type and content."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3
