"""The demo's pods come from the test library of a checkout; this finds it."""

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from loader.errors import PackageMissing, PrivilegeMissing

if TYPE_CHECKING:
    from tests.hosts import Mesh, Node

ROOT = Path(__file__).resolve().parents[2]
# Program -> the Debian package that has it.
PROGRAMS = {
    "nginx": "nginx-light", "curl": "curl", "wrk": "wrk", "redis-server": "redis-server",
    "redis-cli": "redis-tools", "redis-benchmark": "redis-tools", "nsenter": "util-linux", "bash": "bash",
}  # fmt: skip


def require() -> None:
    """Raise PrivilegeMissing or PackageMissing, in one sentence, unless the demo can run here."""
    if not (ROOT / "tests" / "hosts" / "__init__.py").is_file():
        raise PackageMissing(
            "the demo makes its pods with the test library, which only a source checkout has: clone the repository and "
            "run `make demo` there"
        )
    if os.geteuid() != 0:
        raise PrivilegeMissing("the demo makes network namespaces and loads BPF programs: run it as root")
    missing = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if missing:
        raise PackageMissing(f"the demo shows real programs: apt-get install {' '.join(missing)}")


def library() -> "tuple[type[Node], type[Mesh]]":
    """Return the test library's Node and Mesh; call `require` first."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from tests.hosts import Mesh, Node

    return Node, Mesh
