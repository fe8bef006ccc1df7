"""What each file of the configuration gave last, kept over a restart: a file that is broken then changes nothing.

The copies lie in the run directory under the files' own names, so that directory is read as a configuration like any
other. They go with the pins: whoever removes what is in force removes them (`sockmesh uninstall`).
"""

import hashlib
import logging
from pathlib import Path

from control import model
from control.agent import state
from control.source import content, directory

LOG = logging.getLogger("sockmesh.agent")
NAME = "last-good"
# What is kept of a file that could not even be read: no document, so it closes as the file did.
_NO_DOCUMENT = b"{"


class LastGood:
    """The copies in one run directory."""

    def __init__(self, run_dir: Path) -> None:
        self._store = run_dir / NAME
        self._kept: dict[str, str] = {}  # the digest of each copy; "": not known

    def recall(self) -> model.Snapshot | None:
        """Return what a predecessor had in force; None: there was none."""
        if not self._store.is_dir():
            return None
        snapshot = directory.load(self._store, None).snapshot
        self._kept = {file: given.digest for file, given in snapshot.files.items()}
        return snapshot

    def keep(self, config_dir: Path, snapshot: model.Snapshot) -> None:
        """Copy the files that are new, and remove those that are gone; what cannot be written is told of."""
        try:
            self._store.mkdir(mode=0o700, parents=True, exist_ok=True)
            for file, given in snapshot.files.items():
                if given.digest or not given.good:
                    self._copy(config_dir, file, given)
            for file in set(self._kept) - set(snapshot.files):
                (self._store / file).unlink(missing_ok=True)
                del self._kept[file]
        except OSError as error:
            LOG.warning("%s: what is in force is not kept for the next start: %s", self._store, error.strerror)

    def _copy(self, config_dir: Path, file: str, given: model.FileState) -> None:
        if given.good and self._kept.get(file) == given.digest:
            return
        try:
            raw = content.bytes_of(config_dir / file)
        except content.Unreadable:
            raw = _NO_DOCUMENT
        digest = hashlib.sha256(raw).hexdigest()
        if given.good and digest != given.digest:
            return  # edited just now: the next look takes it, or keeps what was before
        if self._kept.get(file) != digest:
            state.write(self._store / file, raw)
            self._kept[file] = digest
