"""What one file of the configuration holds, within bounds, whatever it turns out to be."""

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Collection

from control.source import listing

MAX_FILE = 4 << 20
# A file that changed as lately may change once more and look the same: time stamps are coarse, of some volumes 2 s.
_FRESH_NS = 3_000_000_000


class Unreadable(Exception):
    """A file cannot be read: why, and the line."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class NoFile(Unreadable):
    """It has a file's name, and nothing that could be read."""


class TooLarge(Unreadable):
    """It has more bytes than are read."""


def bytes_of(path: str | os.PathLike[str], most: int = MAX_FILE) -> bytes:
    """Return what a file holds, never waiting for anybody; raises Unreadable, also for more than `most` bytes."""
    try:
        # O_NONBLOCK: a FIFO that somebody named x.yaml must not stop the agent.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NoFile("is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(most + 1) or b""  # None: a file of /proc that has nothing to say
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > most:
        raise TooLarge(f"is larger than {most} bytes")
    return content


class Digests:
    """The hashes of what files hold, as long as stat(2) says that they are those that were read."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}  # path -> what stat said, and the hash

    def read(self, path: str, known: Collection[str] = ()) -> tuple[str, bytes]:
        """Return the hash of what a file holds, and that, which may be left out if the hash is among `known`; raises
        Unreadable.
        """
        now, found = time.time_ns(), None
        with contextlib.suppress(OSError):  # what is wrong the reading will tell
            found = os.stat(path)
        was, digest = self._known.get(path, ((), ""))
        if found and was == listing.identity(found) and digest in known:
            return digest, b""
        self._known.pop(path, None)
        raw = bytes_of(path)
        digest = hashlib.sha256(raw).hexdigest()
        # What it says of before the reading: a file that changes meanwhile will not be taken for this one.
        if found and found.st_ctime_ns < now - _FRESH_NS:
            self._known[path] = listing.identity(found), digest
        return digest, raw

    def forget_all_but(self, paths: Collection[str]) -> None:
        """Remember no more files than there are, and of these all."""
        if len(self._known) > len(paths):
            self._known = {path: self._known[path] for path in paths if path in self._known}


def text_of(raw: bytes) -> str:
    """Return the text that a file holds; raises Unreadable."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"not UTF-8 at byte {error.start}", line) from None


def printable(file: str) -> str:
    """Return a file name fit for a message, whatever bytes it is made of."""
    if file.isprintable():  # as nearly all of them; of ten thousand it takes time to ask for each letter
        return file
    return "".join(c if c.isprintable() else "?" for c in file.encode(errors="replace").decode())
