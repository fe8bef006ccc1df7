"""What one file of the configuration holds, within bounds, whatever it turns out to be."""

import os
import stat
from pathlib import Path

MAX_FILE = 4 << 20


class Unreadable(Exception):
    """A file cannot be read: why."""


class NoFile(Unreadable):
    """It has a file's name, and nothing that could be read."""


def bytes_of(path: Path) -> bytes:
    """Return what a file holds, never waiting for anybody; raises Unreadable."""
    try:
        # O_NONBLOCK: a FIFO that somebody named x.yaml must not stop the agent.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NoFile("is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_FILE + 1) or b""  # None: a file of /proc that has nothing to say
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(content) > MAX_FILE:
        raise Unreadable(f"is larger than {MAX_FILE} bytes")
    return content
