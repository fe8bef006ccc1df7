"""The C program, compiled at first use and kept by the hash of its source, under as many names as are needed."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from loader.errors import PackageMissing

SOURCE = Path(__file__).parent
STORE = SOURCE.parent / ".build"


def stream() -> Path:
    """Return the compiled program."""
    files = sorted((*SOURCE.glob("*.c"), *SOURCE.glob("*.h")))
    digest = hashlib.sha256(b"".join(path.name.encode() + path.read_bytes() for path in files)).hexdigest()[:16]
    built = STORE / f"stream-{digest}"
    if not built.exists():
        if shutil.which("cc") is None:
            raise PackageMissing("cc is not installed: apt-get install gcc")
        STORE.mkdir(exist_ok=True)
        draft = STORE / f"{built.name}.new"
        command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(draft)]
        command += [str(path) for path in files if path.suffix == ".c"] + ["-luring", "-lpthread"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise AssertionError(f"the torture program does not compile (liburing-dev installed?): {done.stderr}")
        draft.rename(built)
    return built


def named(name: str, directory: Path) -> Path:
    """Return a copy under another name: another program, for the mesh. `rings...` and `late...` make other plans."""
    copy = directory / name
    shutil.copy2(stream(), copy)
    return copy


def rings_refused() -> str:
    """Return why this kernel lets nobody have an io_uring; empty: it does."""
    answer = subprocess.run([stream(), "rings"], capture_output=True, text=True, check=True).stdout.strip()
    return "" if answer == "yes" else answer
