"""The far end of a connection, written segment by segment into the node proxy's interface."""

import socket
import struct
import time
from types import TracebackType
from typing import Self

from loader.interception import inner

_ETH_P_ALL = 3
_OUTGOING = 4  # PACKET_OUTGOING
_SYN, _ACK = 0x02, 0x10
ADDRESSES = {4: ("198.51.100.7", "203.0.113.9"), 6: ("2001:db8:1::7", "2001:db8:2::9")}


class Far:
    """A client at an address that nobody has, made in the namespace of the interface; close it."""

    def __init__(self, interface: str, family: int, server_port: int) -> None:
        self.client, self.server = ADDRESSES[family]
        self.port, self.server_port = 45000, server_port
        self._family = socket.AF_INET if family == 4 else socket.AF_INET6
        self._ethertype = 0x0800 if family == 4 else 0x86DD
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        self._socket.bind((interface, _ETH_P_ALL))
        self._socket.settimeout(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def connect(self) -> None:
        """Shake hands with whoever listens; raises TimeoutError when nobody answers."""
        sequence = 1000
        self._send(sequence, 0, _SYN)
        _, _, theirs, acknowledged, _ = self._receive(_SYN | _ACK)
        assert acknowledged == sequence + 1
        self._send(sequence + 1, theirs + 1, _ACK)

    def await_syn(self) -> tuple[int, int]:
        """Return the source port and the flags of a connection that is begun with this end."""
        source, _, _, _, flags = self._receive(_SYN)
        return source, flags

    def _receive(self, wanted: int, timeout: float = 5.0) -> tuple[int, int, int, int, int]:
        deadline = time.monotonic() + timeout
        head = 14 + (20 if self._family == socket.AF_INET else 40)
        while time.monotonic() < deadline:
            try:
                frame, (_, _, kind, _, _) = self._socket.recvfrom(2048)
            except TimeoutError:
                continue
            ethertype, protocol = struct.unpack_from("!H", frame, 12)[0], frame[23 if head == 34 else 20]
            if kind == _OUTGOING or ethertype != self._ethertype or protocol != socket.IPPROTO_TCP:
                continue
            source, target, theirs, acknowledged, bits = struct.unpack_from("!HHIIH", frame, head)
            if target == self.port and bits & 0x3F == wanted:
                return source, target, theirs, acknowledged, bits & 0x3F
        raise TimeoutError(f"no segment with the flags {wanted:#x} came")

    def _send(self, sequence: int, acknowledged: int, flags: int) -> None:
        source, target = (socket.inet_pton(self._family, ip) for ip in (self.client, self.server))
        ports = self.port, self.server_port
        segment = struct.pack("!HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, flags, 65000, 0, 0)
        pseudo = source + target + struct.pack("!II", len(segment), socket.IPPROTO_TCP)
        segment = segment[:16] + struct.pack("!H", checksum(pseudo + segment)) + segment[18:]
        if self._family == socket.AF_INET:
            head = struct.pack("!BBHHHBBH", 0x45, 0, 40, 1, 0, 64, socket.IPPROTO_TCP, 0) + source + target
            head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        else:
            head = struct.pack("!IHBB", 6 << 28, len(segment), socket.IPPROTO_TCP, 64) + source + target
        link = bytes.fromhex(inner.MAC.replace(":", "")) + bytes(6) + struct.pack("!H", self._ethertype)
        self._socket.send(link + head + segment)


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
