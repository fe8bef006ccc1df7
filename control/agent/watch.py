"""Tells of edits of the configuration directory, also after the directory itself was replaced by another."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import watchfiles

LOG = logging.getLogger("sockmesh.agent")
_TICK_MS = 200  # so often is it asked which directory the path leads to
_AGAIN_S = 1.0

Place = tuple[int, int] | None


def follow(path: Path, stop: threading.Event, call: Callable[[], None]) -> None:
    """Call `call` after each edit, until `stop`.

    The kernel watches the directory that it was shown, so a symlink that is switched, and a directory that is moved or
    removed and made again, would be heard of never more: then the one that is there now is watched, and is read.
    """
    told = ""
    while not stop.is_set():
        place = _place(path)
        try:
            if place:
                _follow(path, place, stop, call)
                told = ""
            else:
                stop.wait(_TICK_MS / 1000)
        except Exception as error:  # its Rust half raises what it likes: for a file name that is no text, say
            if _place(path) != place:
                continue  # it was taken away just now
            if str(error) != told:
                LOG.warning("%s: cannot be watched (%s); it is read again each second", path, error)
                told = str(error)
            call()
            stop.wait(_AGAIN_S)


def _follow(path: Path, place: Place, stop: threading.Event, call: Callable[[], None]) -> None:
    """Call after each edit for as long as the path leads to `place`, and once when it no longer does."""
    first = True
    for changes in watchfiles.watch(
        path, stop_event=stop, debounce=100, step=20, rust_timeout=_TICK_MS, yield_on_timeout=True
    ):
        # Once more when the watch is surely on: what was edited since the reading before would go unseen.
        if changes or first:
            call()
        first = False
        # A directory that is made again may have the number of the one before.
        gone = any(kind == watchfiles.Change.deleted and Path(which) == path for kind, which in changes)
        if gone or _place(path) != place:
            call()
            return


def _place(path: Path) -> Place:
    """Return which directory the path leads to, None while there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
