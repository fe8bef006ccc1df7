"""When to read the configuration again: at once after an edit, seldom while nobody edits what cannot be in force."""

import threading
from collections.abc import Callable

_LOOK_S = 1.0  # how often workloads are looked for: whether they are there, and the same
_RETRY_S, _RETRY_MAX_S = 1.0, 30.0


class Patience:
    """`call` may come from any thread; `is_due` is the loop's."""

    def __init__(self, wake: Callable[[], None] = lambda: None) -> None:
        """`wake`: has the loop ask `is_due` soon."""
        self._called = threading.Event()
        self._wake = wake
        self._retry_at = self._look_at = 0.0
        self._wait = _RETRY_S

    def call(self) -> None:
        """Ask for it: the directory changed, or somebody wants it."""
        self._called.set()
        self._wake()

    def is_due(self, now: float, has_problems: bool, has_changed: Callable[[], bool]) -> bool:
        """Tell whether to reconcile. `has_changed` looks, cheaply, whether what is on the host is not what it was."""
        is_changed = False
        if now >= self._look_at:  # however often it is called: what a look finds, a reconciliation may not
            self._look_at = now + _LOOK_S
            is_changed = has_changed()
        if self._called.is_set():
            self._called.clear()
            self._wait = _RETRY_S
        elif is_changed:
            self._wait = _RETRY_S
        elif has_problems and now >= self._retry_at:
            self._wait = min(_RETRY_MAX_S, self._wait * 2)
        else:
            return False
        self._retry_at = now + self._wait
        return True
