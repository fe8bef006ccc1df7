"""Reads the ring buffer of flow events (kernel 5.8; Documentation/bpf/ringbuf.rst)."""

import mmap

from loader import abi

BATCH = 256  # events of one read: few enough for the lines made of them to stay in a core's cache
HEADER = 8  # bytes before an event: its length and two flags in one word, and a word of the kernel's own
SLOT = HEADER + abi.FlowEvent.SIZE
assert SLOT % 8 == 0, "slots are eight bytes apart: FlowEvent must be a multiple of that"

_BUSY, _DISCARD = 1 << 31, 1 << 30
_PAGE = mmap.PAGESIZE
_WORD = 4


class EventReader:
    """One consumer of the `events` map. A second one on the same map would steal events, so only the agent has one."""

    def __init__(self, fd: int, size: int = abi.MAP_BY_NAME["events"].max_entries) -> None:
        self._mask = size - 1
        self._consumer = mmap.mmap(fd, _PAGE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
        self._producer = mmap.mmap(fd, _PAGE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=_PAGE)
        self._data = memoryview(self._producer)[_PAGE:]
        self._words = self._data.cast("I")
        # The kernel looks at the one and writes the other meanwhile, so each is touched as one word: struct.pack_into
        # clears a place before it writes, and a position of 0 looks like a full buffer, which loses an event.
        self._consumed = memoryview(self._consumer)[:8].cast("Q")
        self._produced = memoryview(self._producer)[:8].cast("Q")
        self._position = self._consumed[0]

    def read(self) -> bytes:
        """Return up to BATCH events, oldest first, as slots: HEADER bytes, then what FlowEvent packs.

        They stay in the buffer until `done`: a process that dies in between leaves them to its successor.
        """
        position, end = self._consumed[0], self._produced[0]
        slots = b""
        while position < end and not slots:
            start = position & self._mask
            whole = self._whole(start, min((end - position) // SLOT, BATCH))
            if whole:
                slots = bytes(self._data[start : start + whole * SLOT])
                position += len(slots)
            else:
                header = self._words[start // _WORD]
                if header & _BUSY:
                    break
                position += ((header & ~(_BUSY | _DISCARD)) + HEADER + 7) & ~7  # discarded, or not an event of ours
        self._position = position
        return slots

    def _whole(self, start: int, most: int) -> int:
        """Return how many events follow each other at `start`, written to the end: look before they are copied."""
        headers = self._words[start // _WORD : (start + most * SLOT) // _WORD : SLOT // _WORD].tolist()
        if headers.count(abi.FlowEvent.SIZE) == most:
            return most
        return next(n for n, header in enumerate(headers) if header != abi.FlowEvent.SIZE)

    def done(self) -> None:
        """Give the room of all events that were read back to the kernel."""
        self._consumed[0] = self._position

    def close(self) -> None:
        for view in (self._consumed, self._produced, self._words, self._data):
            view.release()
        self._producer.close()
        self._consumer.close()
