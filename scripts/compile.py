"""Compiles the part of the proxy that runs for each request (l7proxy/compiled.py), in place; a second run only looks.

Run from the checkout as `.venv/bin/python scripts/compile.py`, or `... clean` to take it away. Needs mypy, setuptools,
a C compiler and Python's headers.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from l7proxy import compiled
from loader.errors import ConfigInvalid

TOGETHER = "tests/.build/mypyc"


def is_there() -> bool:
    try:
        return compiled.is_compiled()
    except ConfigInvalid:
        return False


def build() -> None:
    """Compile; what was there before goes first, so that a failure leaves none."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    compiled.clean()
    source = compiled.digest()
    os.chdir(compiled.ROOT)
    names = [str(path.relative_to(compiled.ROOT)) for path in compiled.sources()]
    modules = mypycify(names, group_name=compiled.GROUP, target_dir=TOGETHER)
    command = build_ext(Distribution({"ext_modules": modules, "packages": []}))
    command.inplace, command.build_temp = True, TOGETHER
    command.ensure_finalized()
    command.run()
    compiled.record(source)


def main(argv: list[str]) -> int:
    if argv[1:] == ["clean"]:
        compiled.clean()
    elif argv[1:] == ["build"]:
        build()
    elif not is_there():
        print("sockmesh setup: compiling what the proxy does for each request (half a minute)", flush=True)
        with tempfile.TemporaryFile() as log:  # warnings of two compilers, which nobody needs while all is well
            child = subprocess.run([sys.executable, __file__, "build"], stdout=log, stderr=log, check=False)
            if child.returncode:
                log.seek(0)
                shutil.copyfileobj(log, sys.stderr.buffer)
                compiled.clean()
                return child.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
