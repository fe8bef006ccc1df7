"""What a worker counts of handshakes between nodes, for the agent's metrics."""

import os
from collections import Counter
from typing import Any


class Tally:
    """Counts since the worker began."""

    def __init__(self) -> None:
        self.ok, self.seconds = 0, 0.0
        self.refused = Counter[str]()

    def good(self, seconds: float) -> None:
        self.ok += 1
        self.seconds += seconds

    def content(self, pool_open: int, pool_idle: int) -> dict[str, Any]:
        """Return it as the agent is told."""
        return {
            "worker": os.getpid(), "ok": self.ok, "refused": dict(self.refused), "pool_open": pool_open,
            "pool_idle": pool_idle, "seconds_sum": round(self.seconds, 6),
        }  # fmt: skip
