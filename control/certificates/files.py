"""Files that hold keys: readable by their owner alone, and written whole or not at all.

What is there already is never written over by `create`; `replace` is for what its owner may make again.
"""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from loader.errors import MeshError

MAX = 256 << 10  # bytes


class BadFile(MeshError):
    """The operator must look at a file: its path, and what is wrong with it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path}: {why}")
        self.path = path


def replace(path: Path, content: bytes) -> None:
    """Put the content there in one step; raises BadFile, and what was there stays then."""
    with _written(path, content) as temporary:
        os.replace(temporary, path)


def create(path: Path, content: bytes) -> bool:
    """Put the content there unless there is something; tell whether it was this call's. Raises BadFile."""
    with _written(path, content) as temporary:
        try:
            os.link(temporary, path)  # of two at once one fails here, and nobody sees half a file
        except FileExistsError:
            return False
        return True


def read(path: Path, is_private: bool = True) -> bytes:
    """Return what is in a file. `is_private`: it must be ours, and nobody else's to read. Raises BadFile."""
    try:
        # Not waiting for the other end, should it be a pipe.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise BadFile(path, "it is not a plain file")
            if is_private and status.st_uid != os.geteuid():
                raise BadFile(path, f"it belongs to another user ({status.st_uid})")
            if is_private and status.st_mode & 0o077:
                raise BadFile(path, f"others may read or write it (mode {stat.S_IMODE(status.st_mode):04o}, not 0600)")
            content = file.read(MAX + 1)
    except OSError as error:
        raise BadFile(path, error.strerror or str(error)) from error
    if len(content) > MAX:
        raise BadFile(path, f"it is longer than {MAX} bytes")
    return content


@contextlib.contextmanager
def _written(path: Path, content: bytes) -> Iterator[str]:
    """Give the content as a file of another name beside `path`; it is gone afterwards."""
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # with mode 0600
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(fd)  # else a crash may leave the name without the bytes
            yield temporary
            _sync(path.parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
    except OSError as error:
        raise BadFile(path, error.strerror or str(error)) from error


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
