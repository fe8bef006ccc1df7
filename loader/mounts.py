"""The two file systems that the mesh needs: bpf for pins, tracefs for tracepoints. Mounted where nobody did so yet."""

import ctypes
import os
from pathlib import Path

from loader.errors import AttachFailed

BPF = Path("/sys/fs/bpf")
TRACEFS = Path("/sys/kernel/tracing")
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_CGROUP2_MAGIC = 0x63677270
_libc = ctypes.CDLL(None, use_errno=True)


def kind_at(path: Path) -> str:
    """Return the type of the file system that holds path, which need not exist yet."""
    while not path.exists():
        path = path.parent
    path = path.resolve()
    best, kind = "", ""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, what, *_ = line.split(" ")
        where = where.encode().decode("unicode_escape")
        if (path == Path(where) or Path(where) in path.parents) and len(where) >= len(best):
            best, kind = where, what
    return kind


def cgroup2() -> Path | None:
    """Return where cgroup v2 is mounted, alone or beside v1; None: nowhere that this process sees."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(where.encode().decode("unicode_escape"))
    return None


def is_cgroup2(path: str) -> bool:
    """Return whether path is a directory of cgroup v2."""
    answer = ctypes.create_string_buffer(256)  # struct statfs, which begins with the type
    if not os.path.isdir(path) or _libc.statfs(os.fsencode(path), answer) != 0:
        return False
    return ctypes.c_long.from_buffer(answer).value == _CGROUP2_MAGIC


def ensure(kind: str, where: Path) -> bool:
    """Mount a file system unless it is there; return whether that was needed. Raises AttachFailed."""
    if kind_at(where) == kind:
        return False
    if _libc.mount(kind.encode(), os.fsencode(where), kind.encode(), _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None) != 0:
        number = ctypes.get_errno()
        raise AttachFailed(f"{where}: cannot mount {kind}: {os.strerror(number)}: mount -t {kind} {kind} {where}")
    return True


def unmount(where: Path) -> None:
    """Take away what `ensure` mounted; what is in use stays."""
    _libc.umount2(os.fsencode(where), 0)
