"""When to read the configuration again: at once after an edit, seldom while nobody edits what cannot be in force."""

import threading
from collections.abc import Callable

_LOOK_S = 1.0  # how often workloads that are not there are looked for
_RETRY_S, _RETRY_MAX_S = 1.0, 30.0


class Patience:
    """`call` may come from any thread; `is_due` is the loop's."""

    def __init__(self) -> None:
        self._called = threading.Event()
        self._retry_at = self._look_at = 0.0
        self._wait = _RETRY_S

    def call(self) -> None:
        """Ask for it: the directory changed, or somebody wants it."""
        self._called.set()

    def is_due(self, now: float, has_problems: bool, has_come: Callable[[], bool] | None) -> bool:
        """Tell whether to reconcile. `has_come` looks, cheaply, whether what was missing is there; None: nothing is."""
        if self._called.is_set():
            self._called.clear()
            self._wait = _RETRY_S
        elif has_problems and now >= self._retry_at:
            self._wait = min(_RETRY_MAX_S, self._wait * 2)
        elif has_come and now >= self._look_at:
            self._look_at = now + _LOOK_S
            if not has_come():
                return False
            self._wait = _RETRY_S
        else:
            return False
        self._retry_at = now + self._wait
        self._look_at = now + _LOOK_S
        return True
