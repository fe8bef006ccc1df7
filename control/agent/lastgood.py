"""What each file of the configuration gave last, kept over a restart: a file that is broken then changes nothing.

It is written down as it was in force, not as the files' text: who has the older right to a name that two files claim,
and what is closed since the first start, cannot be read from a text. It goes with the pins (`sockmesh uninstall`).
"""

import functools
import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

from control import model, policy, source
from control.agent import state
from control.model import base, objects, rules, snapshot
from control.source import directory
from loader.abi import words

NAME = "last-good"
_OURS = {module.__name__: module for module in (base, objects, rules, snapshot, words, directory)}
# Python 3.11 writes a member of an enum as getattr(class, name), 3.12 as class(value).
_BUILTINS = {"frozenset": frozenset, "getattr": lambda cls, name: cls.__members__[name]}


@functools.cache
def _form() -> bytes:
    """Return a hash of all that gives a file its meaning: another version may read another one from the same text."""
    read = [Path(str(words.__file__))]
    read += sorted(file for package in (model, policy, source) for file in Path(package.__path__[0]).glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in read)).digest()


class LastGood:
    """The record in one run directory, which is root's alone."""

    def __init__(self, run_dir: Path) -> None:
        self._file = run_dir / NAME
        self._kept: model.Snapshot | None = None

    def recall(self) -> model.Snapshot | None:
        """Return what a predecessor had in force; None: there was none, or nobody can tell."""
        try:
            raw = self._file.read_bytes()
            form = _form()
            found = _Reader(io.BytesIO(raw[len(form) :])).load() if raw.startswith(form) else None
        except Exception:  # whatever a damaged file makes of itself
            return None
        self._kept = found if isinstance(found, model.Snapshot) else None
        return self._kept

    def keep(self, now: model.Snapshot) -> None:
        """Write down what is in force now. Raises OSError; there is no record then, rather than one of before."""
        if now == self._kept:
            return
        self._kept = None
        try:
            state.write(self._file, _form() + pickle.dumps(now, protocol=5))
        except OSError:
            self._file.unlink(missing_ok=True)
            raise
        self._kept = now


class _Reader(pickle.Unpickler):
    """Makes objects of the configuration and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "builtins" and name in _BUILTINS:
            return _BUILTINS[name]
        found = vars(_OURS[module]).get(name) if module in _OURS else None
        if not isinstance(found, type) or found.__module__ != module:
            raise pickle.UnpicklingError(f"{module}.{name} is nothing that a configuration holds")
        return found
