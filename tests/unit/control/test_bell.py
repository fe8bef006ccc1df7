"""The loop's sleep: who ends it, and how often."""

import os
import threading
from collections.abc import Iterator

import pytest

from control.agent.bell import Bell


@pytest.fixture
def events() -> Iterator[tuple[int, int]]:
    """A pipe's ends, in the place of the ring buffer: it rings with each write."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_ring_before_the_sleep_is_not_lost_and_counts_once(events: tuple[int, int]) -> None:
    bell = Bell(events[0])
    bell.ring()
    bell.ring()
    assert bell.wait(5)
    assert not bell.wait(0)


def test_another_thread_ends_a_sleep(events: tuple[int, int]) -> None:
    bell = Bell(events[0])
    thread = threading.Timer(0.05, bell.ring)
    thread.start()
    assert bell.wait(30)
    thread.join()


def test_events_that_wait_do_not_keep_it_awake(events: tuple[int, int]) -> None:
    bell = Bell(events[0])
    os.write(events[1], b"event")
    assert bell.wait(5)
    assert not bell.wait(0), "the event still waits, but nobody rang again"
    os.write(events[1], b"event")
    assert bell.wait(5)
