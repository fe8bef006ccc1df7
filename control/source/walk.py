"""Which files are meant where people name files and directories, and which are not that they may think of."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator

from control.source import listing

MAX_FILES = 10_000
LINKED = "is a link to a directory, which is not read (give it with a -f of its own)"
HARMLESS = (listing.OTHER_ENDING, LINKED)  # what is only to be known


def files(paths: Iterable[str | os.PathLike[str]]) -> Iterator[tuple[str, str]]:
    """Yield each file once, with what is wrong with it if it is not read at all."""
    seen: set[tuple[int, int] | str] = set()
    for path in (os.fspath(each) for each in paths):
        below = [path]
        if os.path.isdir(path):
            below, unread = _below(path)
            yield from unread
            if not below and not any(said not in HARMLESS for _, said in unread):
                yield path, f"has no file that ends in {', '.join(listing.ENDINGS[:-1])} or {listing.ENDINGS[-1]}"
        for file in below:
            try:
                status = os.stat(file)
                which: tuple[int, int] | str = (status.st_dev, status.st_ino)
            except (OSError, ValueError):
                which = file
            if which in seen:
                continue
            if len(seen) >= MAX_FILES:
                yield path, f"there are more files than can be read (at most {MAX_FILES})"
                return
            seen.add(which)
            yield file, ""


def _below(directory: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return the files of a directory and of those in it, sorted, and what one may think is read and why it is not;
    hidden ones are somebody's own business.
    """
    out: list[str] = []
    unread: list[tuple[str, str]] = []

    def cannot(error: OSError) -> None:
        unread.append((os.fspath(error.filename or directory), _cannot_be_read(error)))

    for here, inner, names in os.walk(directory, onerror=cannot):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        out += [os.path.join(here, n) for n in sorted(names) if listing.is_ours(n)]
        others = [n for n in sorted(names) if not listing.is_ours(n) and not n.startswith(".")]
        unread += [(os.path.join(here, n), listing.OTHER_ENDING) for n in others if listing.is_misspelt(n)]
        for path in (os.path.join(here, name) for name in (*inner, *others)):
            if said := _of_link(path):
                unread.append((path, said))
        if len(out) > MAX_FILES or len(unread) > MAX_FILES:
            break
    return out, unread


def _of_link(path: str) -> str:
    """Return what to say of a link to a directory that has something to read, or may have: nobody can tell. One that
    leads around in a circle, or nowhere, leads to nothing to read.
    """
    try:
        if os.path.islink(path) and stat.S_ISDIR(os.stat(path).st_mode) and any(listing.read(path)):
            return LINKED
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return "" if error.errno == errno.ELOOP else _cannot_be_read(error)
    return ""


def _cannot_be_read(error: OSError) -> str:
    return f"cannot be read: {error.strerror}"
