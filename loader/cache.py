"""Compiled programs on disk, so that a start need not compile what was compiled before: one file for each source.

Whoever may write there decides what judges every packet, so the directory must be root's alone. A file that is not
whole is as good as none.
"""

import base64
import hashlib
import json
import os
import stat
from pathlib import Path

from loader.errors import ConfigInvalid
from loader.instructions import Body, Compiled, Shape

_KEPT = 64  # files; a version has six


class Cache:
    """The programs of a directory, which is made if it is not there; raises ConfigInvalid where others may write."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = directory.lstat()
        except OSError as error:
            raise ConfigInvalid(f"--program-cache {directory}: {error.strerror}") from None
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise ConfigInvalid(f"--program-cache {directory}: must be a directory that only root may write to")

    def get(self, key: str) -> Compiled | None:
        """Return what was put under a key; None if nothing was, or it is not whole."""
        try:
            digest, _, text = (self._directory / key).read_bytes().partition(b"\n")
            if hashlib.sha256(text).hexdigest().encode() != digest:
                return None
            bodies, own = json.loads(text)
            return Compiled(
                {n: Body(base64.b64decode(code), tuple(map(tuple, maps))) for n, (code, maps) in bodies.items()},
                {name: Shape(*shape) for name, shape in own.items()},
            )
        except (OSError, ValueError, TypeError):
            return None

    def put(self, key: str, compiled: Compiled) -> None:
        """Keep programs under a key; where that fails, the next start compiles again."""
        bodies = {n: [base64.b64encode(body.code).decode(), body.maps] for n, body in compiled.bodies.items()}
        text = json.dumps([bodies, compiled.own]).encode()
        draft = self._directory / f".{key}.{os.getpid()}"
        try:
            with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)
            draft.rename(self._directory / key)
            old = sorted(self._directory.iterdir(), key=lambda path: path.stat().st_mtime)
            for path in old[:-_KEPT]:
                path.unlink()
        except OSError:
            draft.unlink(missing_ok=True)
