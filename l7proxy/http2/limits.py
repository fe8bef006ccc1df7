"""How much of everything one connection may have, and when a side that makes work for nothing has made enough of it."""

import time

from l7proxy.http2.frames import Broken, Code

MAX_STREAMS = 1000  # let through and open at once
MAX_DEAF = 1000  # streams whose client has yet to learn that nobody listens
MAX_CONTINUATIONS = 16  # frames of one block; 64 KiB need four
MAX_SETTINGS = 64  # in one frame
MAX_EARLY = 1000  # answers of ours before the server has said its first word

MAX_RESETS = 1000  # streams given up in a period, less those that were answered
MAX_IDLE = 3000  # frames in a period that ask for no answer's byte, less what came of them
PERIOD_NS = 30 * 10**9


class Budget:
    """Bounds what may be spent in a period; what is earned is set against it. The clock is looked at once a period."""

    __slots__ = ("_began", "_most", "_what", "spent")

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self._began = time.monotonic_ns()
        self.spent = 0

    def spend(self) -> None:
        """Raises Broken when it is too much."""
        self.spent += 1
        if self.spent > self._most:
            now = time.monotonic_ns()
            if now - self._began < PERIOD_NS:
                raise Broken(Code.ENHANCE_YOUR_CALM, f"more than {self._most} {self._what} in too short a time")
            self._began, self.spent = now, 1

    def earn(self, count: int) -> None:
        self.spent = max(0, self.spent - count)
