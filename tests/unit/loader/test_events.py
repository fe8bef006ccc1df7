"""The reader of the ring gives whole events, in order, and gives room back only when it is told that they are safe."""

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from loader import events
from tests.unit.ring import BUSY, DISCARD, Ring, event, numbers


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring(1 << 16)
    yield made
    made.close()


@pytest.fixture
def reader(ring: Ring) -> Iterator[events.EventReader]:
    made = events.EventReader(ring.fd, ring.size)
    yield made
    made.close()


def take(reader: events.EventReader) -> list[int]:
    slots = reader.read()
    reader.done()
    return numbers(slots)


def test_batches_in_order(ring: Ring, reader: events.EventReader) -> None:
    assert take(reader) == []
    for n in range(events.BATCH + 3):
        ring.put(event(n))
    assert [take(reader), take(reader), take(reader)] == [
        list(range(events.BATCH)), list(range(events.BATCH, events.BATCH + 3)), [],
    ]  # fmt: skip
    assert ring.consumed == ring.end


def test_round_and_round(ring: Ring, reader: events.EventReader) -> None:
    got: list[int] = []
    for n in range(1000):
        ring.put(event(n))
        if n % 7 == 0:
            got += take(reader)
    assert got + take(reader) == list(range(1000))
    assert ring.end > 2 * ring.size


def test_a_reader_that_dies_leaves_the_events_to_its_successor(ring: Ring, reader: events.EventReader) -> None:
    for n in range(3):
        ring.put(event(n))
    assert numbers(reader.read()) == [0, 1, 2]
    assert (ring.consumed, numbers(reader.read())) == (0, [0, 1, 2])
    successor = events.EventReader(ring.fd, ring.size)
    assert take(successor) == [0, 1, 2]
    assert take(successor) == []
    successor.close()


def test_done_gives_back_no_more_than_was_read(ring: Ring, reader: events.EventReader) -> None:
    ring.put(event(0))
    reader.read()
    ring.put(event(1))
    reader.done()
    assert (ring.consumed, take(reader)) == (events.SLOT, [1])


def test_an_event_that_is_being_written_is_waited_for(ring: Ring, reader: events.EventReader) -> None:
    ring.put(event(0))
    position = ring.put(event(1), BUSY)
    ring.put(event(2))
    assert [take(reader), take(reader)] == [[0], []]
    ring.submit(position)
    assert take(reader) == [1, 2]


def test_what_is_no_event_is_stepped_over(ring: Ring, reader: events.EventReader) -> None:
    ring.put(event(0), DISCARD)
    ring.put(b"from another version")
    ring.put(event(1))
    ring.put(event(2), DISCARD)
    ring.put(event(3))
    assert [take(reader), take(reader), take(reader)] == [[1], [3], []]
    ring.put(event(4), DISCARD)
    assert (take(reader), ring.consumed) == ([], ring.end)


_WATCH = """
import mmap, sys
page = memoryview(mmap.mmap(int(sys.argv[1]), mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ))[:8].cast("Q")
print("looking", flush=True)
seen = set()
while 1 not in seen:  # the position that says that it is over
    seen.update([page[0] for _ in range(1000)])
print(*sorted(seen - {1}))
"""


def test_the_kernel_never_sees_half_a_position(ring: Ring, reader: events.EventReader) -> None:
    """A position that is cleared before it is written, or written byte by byte, would show as a third one."""
    low, high = 0x00FFFFFFFFFFFFF8, 0x0100000000000000
    reader._position = low
    reader.done()
    with subprocess.Popen(
        [sys.executable, "-c", _WATCH, str(ring.fd)], pass_fds=[ring.fd], stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdout is not None and watcher.stdout.readline() == "looking\n"
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            for _ in range(1000):
                reader._position = low
                reader.done()
                reader._position = high
                reader.done()
        reader._position = 1
        reader.done()
        seen = {int(word) for word in watcher.stdout.read().split()}
    assert seen and seen <= {low, high}
