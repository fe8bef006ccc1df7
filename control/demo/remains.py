"""Proof that the demo leaves nothing: what it made is looked for once it should be gone."""

import contextlib
import errno
import os
import struct
import time
from pathlib import Path

from control.inspect import pins
from loader import bpf, mounts

NETNS_DIR = Path("/run/netns")
_KERNELS_OWN = {"maps.debug", "progs.debug"}  # in every BPF file system, where the kernel preloads iterators
_PATIENCE_S = 10.0  # the kernel frees programs some time after the last user let go


class Made:
    """What one run makes: seen by its run id and, for programs and maps, by their numbers in the kernel."""

    def __init__(self) -> None:
        self.run_id = ""
        self.pin_dir = Path("/nonexistent")
        self.directory = Path("/nonexistent")
        self.cgroups: tuple[Path, ...] = ()
        self.programs: set[int] = set()
        self.maps: set[int] = set()
        self._mounts_before = _mounted()

    def note_pins(self) -> None:
        """Remember the numbers of what is pinned now."""
        for kind, path in pins.pinned(self.pin_dir):
            with contextlib.suppress(OSError):
                info = pins.describe(path)
                self.programs.update(int(info[name]) for name in ("prog_id",) if name in info)
                self.maps.update(int(info[name]) for name in ("map_id",) if name in info and kind == "maps")

    def restore_mounts(self) -> None:
        """Unmount the file systems that the run had to mount, unless somebody else uses them by now."""
        for where in _mounted() - self._mounts_before:
            if where != mounts.BPF or not {path.name for path in where.iterdir()} - _KERNELS_OWN:
                mounts.unmount(where)

    def left(self) -> tuple[str, ...]:
        """Return what is still there, waiting a little for what the kernel frees late."""
        deadline = time.monotonic() + _PATIENCE_S
        while (found := self._left()) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def _left(self) -> tuple[str, ...]:
        found = [f"namespace {path.name}" for path in _listing(NETNS_DIR) if self.run_id and self.run_id in path.name]
        found += [f"directory {path}" for path in (*self.cgroups, self.pin_dir, self.directory) if path.exists()]
        found += [f"program {id}" for id in sorted(self.programs) if _lives(bpf.Cmd.PROG_GET_FD_BY_ID, id)]
        found += [f"map {id}" for id in sorted(self.maps) if _lives(bpf.Cmd.MAP_GET_FD_BY_ID, id)]
        found += [f"mount {path}" for path in sorted(_mounted() - self._mounts_before)]
        return tuple(found)


def _mounted() -> set[Path]:
    """Return which of the file systems that the mesh may mount are mounted."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return {Path(line.split()[1]) for line in lines if line.split()[2] in ("bpf", "tracefs", "cgroup2")}


def _listing(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _lives(command: bpf.Cmd, id: int) -> bool:
    try:
        os.close(bpf.call(command, struct.pack("=III", id, 0, 0)))
    except OSError as error:
        return error.errno != errno.ENOENT
    return True
