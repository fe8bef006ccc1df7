"""Tells of edits of the configuration directory, also of those that the kernel has nobody hear of.

The kernel watches the directory that it was shown, which is quick and not all: it says nothing of a file that a link in
there leads to, and nothing ever more of a volume that was unmounted. So the directory is looked at besides.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import watchfiles

from control.source import listing

LOG = logging.getLogger("sockmesh.agent")
_TICK_MS = 200  # so often is it asked which directory the path leads to, and what is in it
# What is seen while it is being written is given so long; of what is heard, watchfiles waits for the end.
_QUIET_S = 0.05
_SHARE = 50  # of one core's time, looks take at most this part: with ten thousand files they are seconds apart

Place = tuple[int, int] | None


class Looks:
    """What the directory held when it was looked at last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: int | None = None
        self._next = 0.0

    def differs(self, at_once: bool = False) -> bool:
        """Look, and tell whether the directory holds another thing than the last time; False while it is too early to
        look again, unless it must be `at_once`.
        """
        began = time.monotonic()
        if began < self._next and not at_once:
            return False
        before, self._seen = self._seen, listing.state(self._path)
        ended = time.monotonic()
        self._next = ended + _SHARE * (ended - began)
        return self._seen != before


def follow(path: Path, stop: threading.Event, call: Callable[[], None]) -> None:
    """Call `call` after each edit, until `stop`.

    A symlink that is switched, and a directory that is moved or removed and made again, would be heard of never more:
    then the one that is there now is watched, and is read.
    """
    told = ""
    looks = Looks(path)
    while not stop.is_set():
        place = _place(path)
        try:
            if place:
                _follow(path, place, stop, looks, call)
                told = ""
                continue
        except Exception as error:  # its Rust half raises what it likes: for a file name that is no text, say
            if _place(path) != place:
                continue  # it was taken away just now
            if str(error) != told:
                LOG.warning("%s: cannot be watched (%s); it is only looked at", path, error)
                told = str(error)
        if looks.differs():
            stop.wait(_QUIET_S)
            call()
        stop.wait(_TICK_MS / 1000)


def _follow(path: Path, place: Place, stop: threading.Event, looks: Looks, call: Callable[[], None]) -> None:
    """Call after each edit for as long as the path leads to `place` and the watch hears what there is to hear."""
    is_on = False
    for changes in watchfiles.watch(
        path, watch_filter=None, recursive=False, stop_event=stop,
        debounce=100, step=20, rust_timeout=_TICK_MS, yield_on_timeout=True,
    ):  # fmt: skip
        # A directory that is made again may have the number of the one before.
        gone = any(kind == watchfiles.Change.deleted and Path(which) == path for kind, which in changes)
        moved = gone or _place(path) != place
        heard = any(listing.is_ours(os.path.basename(which)) for _, which in changes)
        # Before the call: an edit after the reading that it asks for must look like one. And once more when the watch
        # is surely on: what was edited since the reading before went unheard.
        differs = looks.differs(at_once=moved or heard or not is_on)
        if moved or heard or differs:
            if not changes:
                stop.wait(_QUIET_S)
            call()
        if moved or (differs and is_on and not changes):  # unheard: the watch may be a dead one
            return
        is_on = True


def _place(path: Path) -> Place:
    """Return which directory the path leads to, None while there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
