"""The locks on an agent's directories: one owner, and who it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loader import locking
from loader.errors import AttachFailed

HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_a_lock_that_is_held_names_its_holder(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "lock" if kind == "file" else tmp_path
    flags = os.O_RDWR | os.O_CREAT if kind == "file" else os.O_RDONLY | os.O_DIRECTORY
    if kind == "file":
        path.touch()
    assert locking.holder(path) is None
    with subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"held\n"
        assert locking.holder(path) == other.pid
        with pytest.raises(AttachFailed) as refused:
            locking.take(tmp_path, path, flags)
        told = f"{tmp_path}: another agent (pid {other.pid}) is running with this directory: stop it first"
        assert str(refused.value) == told
        other.kill()
    lock = locking.take(tmp_path, path, flags)
    assert locking.holder(path) == os.getpid()
    os.close(lock)
    assert locking.holder(path) is None


def test_a_lock_that_is_not_there_is_held_by_nobody(tmp_path: Path) -> None:
    assert locking.holder(tmp_path / "none") is None
    with pytest.raises(AttachFailed, match="cannot write there: No such file or directory: give another one"):
        locking.take(tmp_path, tmp_path / "none" / "lock", os.O_RDWR | os.O_CREAT)
