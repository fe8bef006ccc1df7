"""Where flow lines are written: a file that rotates, or an open stream. Whole lines or none, and never an exception.

A node that runs out of disk must keep its policy and its traffic: a line that cannot be written is counted as lost, the
error is kept for `status`, and the next batch tries again. The next line that can be written comes after one that says
how many are missing. Of a file the agent's log tells when that begins and when it ends.
"""

import contextlib
import logging
import os
import select
import stat
import time
from collections.abc import Sequence
from typing import Protocol

from control.flow import record

LOG = logging.getLogger("sockmesh.agent")
_ATOMIC = 4096  # PIPE_BUF: what a pipe that polls as writable takes without blocking
_LONGEST = 1 << 16  # bytes of half a line that we take for one of ours
_BEGINNING = b'{"'


class Sink(Protocol):
    """`write` takes whole lines, and the same in one block if there is one; it never raises, nor blocks for long."""

    name: str
    node: str  # for the lines that say what is missing; the flow log sets it
    written: int
    lost: int
    error: str

    def write(self, lines: Sequence[bytes], block: bytes = b"") -> None: ...

    def close(self) -> None: ...


class _Counting:
    """Counts lines, and puts a lost_events line in the place of those that could not be written."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.node = ""
        self.written = 0
        self.lost = 0
        self.error = ""
        self._untold = 0

    def write(self, lines: Sequence[bytes], block: bytes = b"") -> None:
        if self._untold and lines:
            gap = self._gap()
            done = self._write([gap, *lines], gap + (block or b"".join(lines)))
            if done:
                done -= 1
                self._untold = 0
        else:
            done = self._write(lines, block)
        missed = len(lines) - done
        self.written += done
        self.lost += missed
        self._untold += missed  # what is lost is the end of a batch, so the next one begins where it is missing

    def close(self) -> None:
        if self._untold and self._write([self._gap()], b""):
            self._untold = 0

    def _gap(self) -> bytes:
        return record.line(record.lost(self._untold, record.OBSERVER_QUEUE, self.node, time.time_ns()))

    def _write(self, lines: Sequence[bytes], block: bytes) -> int:
        """Write lines, or as many of the first as can be; return how many, and set `error`."""
        raise NotImplementedError


def _are(count: int) -> str:
    return "1 is" if count == 1 else f"{count:,} are"


class FileSink(_Counting):
    """A file that is rotated by size: path, path.1 (newer) to path.N (oldest)."""

    def __init__(self, path: str, max_bytes: int = 100_000_000, keep: int = 5, mode: int = 0o600) -> None:
        super().__init__(path)
        self._max_bytes = max_bytes
        self._limit = max_bytes
        self._keep = keep
        self._mode = mode
        self._fd = -1
        # Open now, so that a wrong path shows at start and not with the first event.
        try:
            self._open()
        except OSError as error:
            self._failed(error)

    def _write(self, lines: Sequence[bytes], block: bytes) -> int:
        """Append all lines, in as many files as their sizes ask for."""
        done = 0
        try:
            size = self._ready()
            block = block or b"".join(lines)
            if size + len(block) <= self._limit:
                self._append(block, size)
                done = len(lines)
            while done < len(lines):
                room = self._limit - size
                count, length = 1, len(lines[done])  # a line longer than the limit still gets a file of its own
                while done + count < len(lines) and length + len(lines[done + count]) <= room:
                    length += len(lines[done + count])
                    count += 1
                if size and length > room:
                    size = self._rotate()
                    continue
                self._append(b"".join(lines[done : done + count]), size)
                size += length
                done += count
            self._worked()
        except OSError as error:
            self._failed(error)
        return done

    def _append(self, block: bytes, size: int) -> None:
        view = memoryview(block)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            # Half a line in the file would spoil the next one too. None of the block stays, all of it counts as lost.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
            raise

    def _ready(self) -> int:
        """Return the size of the file that has our name now: somebody may have moved ours away."""
        if self._fd >= 0:
            opened = os.fstat(self._fd)
            try:
                named = os.stat(self.name)
            except FileNotFoundError:
                named = None
            if named is not None and (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino):
                return opened.st_size if stat.S_ISREG(opened.st_mode) else 0
            self._shut()
        return self._open()

    def _open(self) -> int:
        parent = os.path.dirname(self.name)
        if parent:
            os.makedirs(parent, mode=0o755, exist_ok=True)
        # Not blocking matters for a named pipe, whose open would wait for a reader; a file does not care.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        self._fd = os.open(self.name, flags, self._mode)
        opened = os.fstat(self._fd)
        if not stat.S_ISREG(opened.st_mode):
            self._limit = 1 << 62  # a device or a pipe has no size and is not ours to rename
            return 0
        self._limit = self._max_bytes
        if opened.st_size == 0:
            os.fchmod(self._fd, self._mode)  # the umask took bits away
        return self._mend(opened.st_size)

    def _mend(self, size: int) -> int:
        """Cut off the half line that a killed predecessor left, whose events wait in the kernel; return the size."""
        # Ours is open for appending only: a named pipe that we could read too would never lack a reader.
        fd = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            end = os.pread(fd, _LONGEST, max(0, size - _LONGEST))
        finally:
            os.close(fd)
        torn = end[end.rfind(b"\n") + 1 :]
        if torn.startswith(_BEGINNING) or torn == _BEGINNING[:1]:
            size -= len(torn)
            os.ftruncate(self._fd, size)
        elif torn:
            self._append(b"\n", size)  # nothing that we wrote, so it is not ours to cut
            size += 1
        return size

    def _rotate(self) -> int:
        """Shift the old files by one and open a new one. If that is refused, lines are lost: the size is a promise."""
        if self._keep:
            for n in range(self._keep - 1, 0, -1):
                with contextlib.suppress(FileNotFoundError):
                    os.replace(f"{self.name}.{n}", f"{self.name}.{n + 1}")
            os.replace(self.name, f"{self.name}.1")
        else:
            os.unlink(self.name)
        self._shut()
        return self._open()

    def _worked(self) -> None:
        if self.error:
            LOG.info("flow log %s: records are written again; %s missing", self.name, _are(self._untold))
        self.error = ""

    def _failed(self, error: OSError) -> None:
        if not self.error:
            LOG.warning("flow log %s: %s: records are lost until it is mended", self.name, error.strerror or error)
        self.error = f"{self.name}: {error.strerror or error}"
        self._shut()  # the next batch opens it again: the disk may be back, or the directory

    def close(self) -> None:
        super().close()
        self._shut()

    def _shut(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)
            self._fd = -1


class StreamSink(_Counting):
    """A descriptor that is open already, such as standard output, and stays so; a slow reader loses lines, not us time.

    `patience` is how long batches may wait for room in a row, in seconds; in the long run, half of the time.
    """

    def __init__(self, fd: int = 1, name: str = "-", patience: float = 0.05) -> None:
        super().__init__(name)
        self._fd = fd
        self._patience = self._left = patience
        self._ended = time.monotonic()
        self._torn = b""  # the rest of a line that is half written: it goes first, or the reader gets two in one
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def _write(self, lines: Sequence[bytes], block: bytes) -> int:
        begun = time.monotonic()
        deadline = begun + min(self._patience, self._left + begun - self._ended)
        done = 0
        try:
            self._torn = self._send(self._torn, deadline)
            while not self._torn and done < len(lines):
                line = lines[done]
                rest = self._send(line, deadline)
                if len(rest) == len(line):
                    break
                self._torn = rest
                done += 1
            self.error = "" if done == len(lines) else f"{self.name}: the reader is too slow"
        except OSError as error:
            self.error = f"{self.name}: {error.strerror or error}"
        self._ended = time.monotonic()
        self._left = max(0.0, deadline - self._ended)
        return done

    def _send(self, data: bytes, deadline: float) -> bytes:
        while data:
            wait = max(0.0, deadline - time.monotonic())
            if not self._poll.poll(wait * 1000):
                break
            # A blocking pipe that polls as writable takes this much at once; more could block the agent for good.
            try:
                data = data[os.write(self._fd, data[:_ATOMIC]) :]
            except BlockingIOError:
                break
        return data


def make(target: str, max_bytes: int = 100_000_000, keep: int = 5, mode: int = 0o600) -> Sink:
    """Return the sink that a setting names: "-" is standard output, anything else a file."""
    return StreamSink() if target == "-" else FileSink(target, max_bytes, keep, mode)
