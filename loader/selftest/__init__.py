"""Tries the short cut on this very kernel, with the very programs and maps that the agent loaded, before anybody may
use it: two pods of its own, real sockets between them, every byte compared.

`run(mesh)` for the agent; `python -m loader.selftest PIN_DIR` for a person. May import loader only.
"""

from loader import abi
from loader.selftest.cases import NAMES
from loader.selftest.reserved import FIRST_ENDPOINT, entries, is_reserved, sweep
from loader.selftest.runner import OK, run

SHORT_CUT: tuple[abi.Metric, ...] = ()  # counters that it moves: none, the programs leave its pods out

__all__ = ["FIRST_ENDPOINT", "NAMES", "OK", "SHORT_CUT", "entries", "is_reserved", "run", "sweep"]
