"""Tries the short cut on this very kernel, with the very programs and maps that the agent loaded, before anybody may
use it: two pods of its own, real sockets between them, every byte compared.

`run(mesh)` for the agent; `python -m loader.selftest PIN_DIR` for a person. May import loader only.
"""

from loader.numbers import FIRST_ENDPOINT, is_reserved
from loader.selftest.cases import NAMES
from loader.selftest.reserved import entries, sweep, sweep_cgroups
from loader.selftest.runner import OK, run

__all__ = ["FIRST_ENDPOINT", "NAMES", "OK", "entries", "is_reserved", "run", "sweep", "sweep_cgroups"]
