"""A ring buffer of events as the kernel lays it out, in ordinary memory: this side writes, an EventReader reads."""

import mmap
import os
import struct

from loader import abi, events

_PAGE = mmap.PAGESIZE
BUSY, DISCARD = 1 << 31, 1 << 30


class Ring:
    """`fd` is what an EventReader is made of. Nobody asks for room: do not write more than `size` bytes ahead."""

    def __init__(self, size: int = abi.MAP_BY_NAME["events"].max_entries) -> None:
        self.size = size
        self.fd = os.memfd_create("events")
        os.ftruncate(self.fd, 2 * _PAGE + 2 * size)
        self.end = 0

    def put(self, record: abi.FlowEvent | bytes, flags: int = 0) -> int:
        """Write one record of any kind; return its position."""
        raw = record if isinstance(record, bytes) else record.pack()
        slot = struct.pack("=II", len(raw) | flags, 0) + raw + bytes(-len(raw) % 8)
        position = self.end
        self._write(position, slot)
        self.end += len(slot)
        os.pwrite(self.fd, struct.pack("=Q", self.end), _PAGE)
        return position

    def submit(self, position: int) -> None:
        """Let go of a record that was written as BUSY."""
        self._write(position, struct.pack("=I", abi.FlowEvent.SIZE))

    def _write(self, position: int, data: bytes) -> None:
        for at, byte in enumerate(data, position):  # in both of the views that the kernel maps one after the other
            for view in (0, self.size):
                os.pwrite(self.fd, bytes([byte]), 2 * _PAGE + view + at % self.size)

    @property
    def consumed(self) -> int:
        """How far the reader has given room back."""
        found: int = struct.unpack("=Q", os.pread(self.fd, 8, 0))[0]
        return found

    def close(self) -> None:
        os.close(self.fd)


def event(number: int, **fields: int) -> abi.FlowEvent:
    """Return an event that tells itself from others by its cookie."""
    return abi.FlowEvent.blank(**{"cookie": number} | fields)


def numbers(slots: bytes) -> list[int]:
    """Return which events a batch holds."""
    step = events.SLOT
    return [abi.FlowEvent.unpack(slots[at + events.HEADER :]).cookie for at in range(0, len(slots), step)]
