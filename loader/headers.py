"""The header tree that bcc compiles against, so that a node needs no kernel headers.

Five small files of ours (`bpf/include`) and links to the UAPI headers of linux-libc-dev, put together in a private
directory when the agent starts. `BCC_KERNEL_SOURCE` then names that directory:

    tree = headers.prepare(Path("/run/sockmesh/headers"))
    os.environ["BCC_KERNEL_SOURCE"] = str(tree)
"""

import contextlib
import platform
import shutil
from pathlib import Path

from loader import errors

SYSTEM_INCLUDE = Path("/usr/include")
PACKAGE = "linux-libc-dev"
TRIPLETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}


def bpf_dir() -> Path:
    """Return the directory with our C programs: `loader/_bpf` in a wheel, `bpf` in a checkout."""
    here = Path(__file__).resolve().parent
    packaged = here / "_bpf"
    return packaged if packaged.is_dir() else here.parent / "bpf"


def prepare(target_dir: Path, system_include: Path = SYSTEM_INCLUDE, machine: str | None = None) -> Path:
    """Build the header tree in `target_dir` and return it, absolute; a second call only mends what is missing.

    bcc wants a kernel's source tree: it puts include/, include/uapi/ and arch/*/include/ of it on the search path and
    reads include/linux/kconfig.h before every program. Our own files are placed first and win over the system's.
    """
    linux, asm, generic = _uapi(system_include, machine or platform.machine())
    target = target_dir.resolve()
    include = target / "include"
    shutil.copytree(bpf_dir() / "include", include, dirs_exist_ok=True)
    _link_entries(linux, include / "uapi" / "linux")
    _link_entries(asm, include / "asm")
    _link(asm, include / "uapi" / "asm")
    _link(generic, include / "asm-generic")
    return target


def _uapi(system_include: Path, machine: str) -> tuple[Path, Path, Path]:
    """Return linux-libc-dev's linux/, asm/ and asm-generic/; Debian keeps asm/ under the machine's triplet."""
    triplet = TRIPLETS.get(machine)
    asm = system_include / "asm" if triplet is None else system_include / triplet / "asm"
    if not asm.is_dir():
        asm = system_include / "asm"
    wanted = (system_include / "linux", asm, system_include / "asm-generic")
    probes = (wanted[0] / "types.h", asm / "types.h", wanted[2] / "types.h")
    for probe in probes:
        if not probe.is_file():
            raise errors.PackageMissing(
                f"{probe} is missing, and the BPF programs are compiled with it: apt-get install {PACKAGE}"
            )
    return wanted


def _link_entries(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for entry in source.iterdir():
        _link(entry, target / entry.name)


def _link(source: Path, target: Path) -> None:
    """Link unless something is there: a file of ours, an earlier call's link, or another agent's that starts now."""
    if target.is_symlink() and not target.exists():
        target.unlink(missing_ok=True)  # the package that it pointed to was removed or moved
    with contextlib.suppress(FileExistsError):
        target.symlink_to(source)
