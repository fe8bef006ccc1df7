"""Network namespaces by name, and running a function inside one."""

import ctypes
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import netns

NETNS_DIR = Path("/run/netns")
CLONE_NEWNET = 0x40000000
MNT_DETACH = 2

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


def path_of(name: str) -> Path:
    """Return the file that holds the namespace open, as `ip netns` knows it."""
    return NETNS_DIR / name


def create(name: str) -> Path:
    """Make a namespace and return its path; OSError if there is one of that name."""
    netns.create(name)
    return path_of(name)


def remove(name: str) -> None:
    """Remove the name; the namespace goes with its last process. No error if it is gone already."""
    path = path_of(name)
    if _libc.umount2(os.fsencode(path), MNT_DETACH) < 0:
        error = ctypes.get_errno()
        # EINVAL: never mounted, left by a run that died between making the file and binding it.
        if error not in (errno.EINVAL, errno.ENOENT):
            raise OSError(error, os.strerror(error), str(path))
    path.unlink(missing_ok=True)


def inside(path: Path | str, function: Callable[[], T]) -> T:
    """Run function in the namespace and return its answer.

    In a thread of its own: a namespace belongs to the thread, and one that could not be switched back must not live on.
    """
    outcome: list[tuple[bool, Any]] = []

    def body() -> None:
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _libc.setns(fd, CLONE_NEWNET) < 0:
                    error = ctypes.get_errno()
                    raise OSError(error, os.strerror(error), str(path))
            finally:
                os.close(fd)
            outcome.append((True, function()))
        except BaseException as error:
            outcome.append((False, error))

    thread = threading.Thread(target=body, name="inside-netns")
    thread.start()
    thread.join()
    good, value = outcome[0]
    if not good:
        raise value
    return value  # type: ignore[no-any-return]


def set_sysctls(path: Path | str, values: dict[str, str]) -> None:
    """Write `net.*` settings (in path form, such as "ipv4/ip_forward") of one namespace."""

    def write() -> None:
        for name, value in values.items():
            Path("/proc/sys/net", name).write_text(value)

    inside(path, write)


def listening(path: Path | str, port: int, proto: str = "tcp") -> bool:
    """Return whether some program in the namespace listens on (TCP) or is bound to (UDP) the port.

    Read from /proc rather than tried with a connection, which would leave a flow record of its own.
    """
    state = "0A" if proto == "tcp" else "07"

    def look() -> bool:
        for table in (proto, proto + "6"):
            try:
                lines = Path("/proc/thread-self/net", table).read_text().splitlines()[1:]
            except FileNotFoundError:
                continue
            for line in lines:
                fields = line.split()
                if fields[3] == state and int(fields[1].rpartition(":")[2], 16) == port:
                    return True
        return False

    return inside(path, look)
