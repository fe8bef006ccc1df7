"""How the agent's loop stands to the pods' programs: behind them while all it does is write records.

Records are written in many short turns, each of which would push a pod's program off its core and its data out of the
cache, and that costs the pods twice what the turn takes (bench: the row of new connections). The same work done in the
gaps costs them nearly nothing. What must be soon is done at the process's own priority: a change of policy, and records
that pile up because this thread does not get its turn.
"""

import logging
import os
import threading

LOG = logging.getLogger("sockmesh.agent")
_BACK = 19  # nice(2): a fiftieth of the weight


class Priority:
    """The priority of the thread that makes this; both methods may be called from any thread."""

    def __init__(self) -> None:
        self._thread = threading.get_native_id()
        self._lock = threading.Lock()
        self._own = self._now = os.getpriority(os.PRIO_PROCESS, self._thread)
        self._may = self._own < _BACK and self._can_return()

    def _can_return(self) -> bool:
        """Try with one step: without CAP_SYS_NICE a thread that has stood back stays there (setpriority(2))."""
        try:
            os.setpriority(os.PRIO_PROCESS, self._thread, self._own + 1)
            os.setpriority(os.PRIO_PROCESS, self._thread, self._own)
        except OSError as error:
            LOG.info("records are written at the priority of everything else: setpriority: %s", error.strerror)
            return False
        return True

    def stand_back(self) -> None:
        """Let the pods' programs go first."""
        self._set(_BACK)

    def step_up(self) -> None:
        """Take the process's own priority again."""
        self._set(self._own)

    def _set(self, nice: int) -> None:
        with self._lock:
            if self._may and nice != self._now:
                os.setpriority(os.PRIO_PROCESS, self._thread, nice)
                self._now = nice
