"""What one file of the configuration holds, within bounds, whatever it turns out to be."""

import os
import stat
from pathlib import Path

MAX_FILE = 4 << 20


class Unreadable(Exception):
    """A file cannot be read: why, and the line."""

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.line = line


class NoFile(Unreadable):
    """It has a file's name, and nothing that could be read."""


class TooLarge(Unreadable):
    """It has more bytes than are read."""


def bytes_of(path: Path, most: int = MAX_FILE) -> bytes:
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


def text_of(raw: bytes) -> str:
    """Return the text that a file holds; raises Unreadable."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"not UTF-8 at byte {error.start}", line) from None


def printable(file: str) -> str:
    """Return a file name fit for a message, whatever bytes it is made of."""
    return "".join(c if c.isprintable() else "?" for c in file.encode(errors="replace").decode())
