"""The locks on an agent's directories: who has one owns the directory; it goes with its process, however that ends."""

import fcntl
import os
from pathlib import Path

from loader.errors import AttachFailed


def take(directory: Path, path: Path, flags: int) -> int:
    """Return the fd of a lock; raises AttachFailed while another agent has it, with that one's pid."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if isinstance(error, PermissionError) and os.geteuid() != 0:
            raise  # the remedy is to be root
        raise AttachFailed(f"{directory}: cannot write there: {error.strerror}: give another one") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        pid = holder(path)
        who = f"another agent (pid {pid})" if pid else "another agent"
        raise AttachFailed(f"{directory}: {who} is running with this directory: stop it first") from error
    return fd


def holder(path: Path) -> int | None:
    """Return the pid of who has a lock, 0 where it has none here, None if nobody has it.

    Whoever tried and took it would keep an agent from starting; so the kernel's list is read.
    """
    try:
        found = path.stat()
        table = Path("/proc/locks").read_text()
    except OSError:
        return None
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    for words in map(str.split, table.splitlines()):
        if file in words and "->" not in words:  # "->": waits for it
            return max(0, int(words[words.index(file) - 1]))
    return None
