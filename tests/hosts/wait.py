"""Waiting for a condition instead of sleeping for luck."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
# An emulated machine (tests.kernels) takes ten times as long over everything, and more while others work.
PATIENCE = 10.0 if os.environ.get("SOCKMESH_EMULATED") else 1.0


def wait_until(condition: Callable[[], T], what: str, timeout: float = 10.0, pause: float = 0.005) -> T:
    """Return the first true answer of condition; raises TimeoutError naming what was waited for."""
    timeout *= PATIENCE
    deadline = time.monotonic() + timeout
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not so after {timeout:g} s")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
