"""What is on this host under a name, asked as cheaply as can be: it is done each second. 0, or no name: nothing is."""

import contextlib
import os
import socket

# ValueError: a name with a zero byte, which nothing has.


def inode(path: os.PathLike[str] | str) -> int:
    """Return the inode that a path leads to."""
    with contextlib.suppress(OSError, ValueError):
        return os.stat(path).st_ino
    return 0


def file(path: os.PathLike[str] | str) -> tuple[int, int]:
    """Return the inode that a path leads to, and when that was last changed: the number can be given out again."""
    with contextlib.suppress(OSError, ValueError):
        found = os.stat(path)
        return found.st_ino, found.st_ctime_ns
    return 0, 0


def index(interface: str) -> int:
    """Return the index of an interface in the agent's network namespace."""
    with contextlib.suppress(OSError, ValueError):
        return socket.if_nametoindex(interface)
    return 0


def name(ifindex: int) -> str:
    """Return the name that an interface has there."""
    with contextlib.suppress(OSError):
        return socket.if_indextoname(ifindex)
    return ""
