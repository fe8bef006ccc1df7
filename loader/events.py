"""Reads the ring buffer of flow events (kernel 5.8; Documentation/bpf/ringbuf.rst)."""

import mmap
import struct

from loader import abi

_BUSY, _DISCARD = 1 << 31, 1 << 30
_PAGE = mmap.PAGESIZE
# An event with its header, whose first word is the length and the flags.
_SLOT = struct.Struct(f"=I4x{abi.FlowEvent.SIZE}s")
assert _SLOT.size % 8 == 0, "slots are eight bytes apart: FlowEvent must be a multiple of that"


class EventReader:
    """One consumer of the `events` map. A second one on the same map would steal events, so only the agent has one."""

    def __init__(self, fd: int, size: int = abi.MAP_BY_NAME["events"].max_entries) -> None:
        self._mask = size - 1
        self._consumer = mmap.mmap(fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer = mmap.mmap(fd, _PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        self._data = memoryview(self._producer)[_PAGE:]
        self._position: int = struct.unpack_from("=Q", self._consumer, 0)[0]

    def read(self, limit: int = 10_000) -> list[bytes]:
        """Return up to limit events as FlowEvent packs them, oldest first.

        They stay in the buffer until `done`: a process that dies in between leaves them to its successor.
        """
        position = struct.unpack_from("=Q", self._consumer, 0)[0]
        end = struct.unpack_from("=Q", self._producer, 0)[0]
        out: list[bytes] = []
        while position < end and len(out) < limit:
            before = position
            most = min((end - position) // _SLOT.size, limit - len(out))
            start = position & self._mask
            for header, raw in _SLOT.iter_unpack(self._data[start : start + most * _SLOT.size]):
                if header != abi.FlowEvent.SIZE:
                    break
                out.append(raw)
                position += _SLOT.size
            if position == before:
                (header,) = struct.unpack_from("=I", self._data, start)
                if header & _BUSY:
                    break
                position += ((header & ~(_BUSY | _DISCARD)) + 8 + 7) & ~7  # discarded, or not an event of ours
        self._position = position
        return out

    def done(self) -> None:
        """Give the room of all events that were read back to the kernel."""
        struct.pack_into("=Q", self._consumer, 0, self._position)

    def waiting(self) -> int:
        """Return how many bytes wait to be read."""
        consumed: int = struct.unpack_from("=Q", self._consumer, 0)[0]
        produced: int = struct.unpack_from("=Q", self._producer, 0)[0]
        return produced - consumed

    def close(self) -> None:
        self._data.release()
        self._producer.close()
        self._consumer.close()
