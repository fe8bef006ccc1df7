"""What the agent's loop sleeps on: the kernel rings for urgent events, threads and signal handlers for the rest."""

import os
import select

_ONE = (1).to_bytes(8, "little")  # eventfd(2) takes a number


class Bell:
    """`wait` returns at once after `ring`, or when the kernel rings because of an event that it submitted as urgent."""

    def __init__(self, events_fd: int) -> None:
        # A file object: a thread that rings after the end rings nothing, and not whatever has that descriptor then.
        self._rung = os.fdopen(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), "r+b", buffering=0)
        self._poll = select.epoll()
        self._poll.register(self._rung, select.EPOLLIN)
        # By edge: by level, each event that waits would end the sleep, also those that nobody is woken for.
        self._poll.register(events_fd, select.EPOLLIN | select.EPOLLET)

    def ring(self) -> None:
        """Wake the loop. From any thread, or a signal's handler: it takes no lock."""
        self._rung.write(_ONE)

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody rings, for `seconds` at most; tell whether somebody did."""
        rung = bool(self._poll.poll(seconds))
        if rung:
            self._rung.read(8)  # nothing there if only the kernel rang
        return rung
