"""Compiles and loads the BPF programs, in a process of its own: `python -m loader.compiler PIN_DIR HEADERS CACHE`.

bcc brings LLVM, more than 100 MB that would never be given back; so the agent starts this child, which pins what it
loaded under `<pin dir>/staging/` and ends. What is in the cache already is not compiled again. The child writes JSON
lines to standard output: what each step means if it fails, then the programs or the error; compiler and verifier write
to standard error. The only module that imports bcc.
"""

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loader import abi, bpf, btf, headers, loads, programs
from loader.cache import Cache
from loader.errors import ConfigInvalid, FeatureUnsupported, MeshError, PackageMissing, ProgramRejected, StartEnded
from loader.instructions import Body, Compiled, Shape

_INCLUDE = re.compile(r'^#include "([a-z0-9_]+\.h)"\s*$', re.MULTILINE)

_TIMEOUT_S, _LOOK_S = 600.0, 0.1
_LOG = 16 << 20  # bytes of the verifier's words, of which the last say what is wrong


def source(directory: Path, name: str) -> str:
    """Return a program's text with our own headers put in once each: bcc rewrites table access only in one file."""
    seen: set[str] = set()

    def expand(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        text = (directory / file).read_text()
        return _INCLUDE.sub(lambda match: expand(match.group(1)), text.replace("#pragma once", ""))

    return expand(name)


def flags(kernel: btf.Btf) -> list[str]:
    """Return the macros the programs need beside PIN_DIR; raises FeatureUnsupported when the kernel lacks a field."""
    found, missing = btf.offsets(kernel, programs.OFFSETS)
    lacking = [name for name in missing if name not in programs.OPTIONAL_OFFSETS]
    if lacking:
        raise FeatureUnsupported(
            f"this kernel's BTF has no field for {', '.join(lacking)}: kernel 5.15 or later is needed"
        )
    out = ["-Wno-unused-function", "-Wno-unused-variable"]
    out += [f"-D{name}={field.offset}" for name, field in found.items()]
    out += [f"-D{name.replace('OFF', 'BIT', 1)}={found[name].bit}" for name in programs.BIT_FIELDS if name in found]
    try:
        out += [f"-D{macro}={kernel.enumerator(*where)}" for macro, where in programs.ENUMERATORS.items()]
    except KeyError as error:
        raise FeatureUnsupported(f"this kernel's BTF has no {error.args[0]}") from error
    if not redirect_is_charged(kernel):
        out.append("-DPSOCK_NOT_IN_RMEM")
    if not fionread_counts(kernel):
        out.append("-DPSOCK_NOT_IN_FIONREAD")
    if loads.supported(kernel):
        out += ["-DDIRECT_LOADS", f"-DRDONLY_CAST_CALL={loads.CALL}"]
    return out


def redirect_is_charged(kernel: btf.Btf) -> bool:
    """Return whether sk_rmem_alloc counts redirected bytes, as it does from 6.14 on.

    BTF does not show it, so the release decides; elsewhere the psock's queue is walked, which is right on all kernels,
    also on older stable ones that count (Debian 12's 6.1 does).
    """
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return bool(match) and (int(match[1]), int(match[2])) >= (6, 14)  # type: ignore[index]


def fionread_counts(kernel: btf.Btf) -> bool:
    """Return whether FIONREAD on a socket in a sockhash tells of redirected bytes: it reads this field, made for it."""
    try:
        kernel.field("sk_psock", "msg_tot_len")
    except KeyError:
        return False
    return True


def _import_bcc() -> Any:
    try:
        import bcc
    except ImportError as error:
        raise PackageMissing(
            "bcc is missing: apt-get install python3-bpfcc, and run sockmesh with /usr/bin/python3 (or a virtual "
            "environment of it made with --system-site-packages); PyPI's `bcc` is another project"
        ) from error
    if not hasattr(bcc, "BPF"):
        raise PackageMissing(
            "the module `bcc` found is not the BPF compiler: pip uninstall bcc; apt-get install python3-bpfcc"
        )
    return bcc


def compile_all(pin_dir: Path, header_tree: Path, cache: Cache | None = None) -> dict[str, str]:
    """Compile, load and pin every program under `<pin dir>/staging`; return name -> tag. All or nothing."""
    os.environ["BCC_KERNEL_SOURCE"] = str(header_tree)
    kernel = btf.Btf.of_kernel()
    cflags = flags(kernel)
    staging = pin_dir / "staging"
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(mode=0o700, parents=True)
    fds = {spec.name: bpf.get(pin_dir / "maps" / spec.name) for spec in abi.MAPS}
    tags: dict[str, str] = {}
    try:
        for file in dict.fromkeys(spec.file for spec in programs.PROGRAMS):
            specs = [spec for spec in programs.PROGRAMS if spec.file == file]
            _say(f"bpf/{file} does not compile")
            functions = [spec.function for spec in specs]
            compiled = _compiled(source(headers.bpf_dir(), file), functions, cflags, pin_dir, cache)
            own = {name: bpf.create_map(*shape, name) for name, shape in compiled.own.items()}
            for spec in specs:
                _say(f"the kernel refused bpf/{file}:{spec.function}")
                fd = _load(spec, compiled.bodies[spec.function].bound(fds | own), kernel)
                bpf.pin(fd, staging / spec.function)
                tags[spec.function] = bpf.prog_info(fd)[2]
                os.close(fd)
            for fd in own.values():  # the programs keep them
                os.close(fd)
    finally:
        for fd in fds.values():
            os.close(fd)
    return tags


def _compiled(text: str, functions: list[str], cflags: list[str], pin_dir: Path, cache: Cache | None) -> Compiled:
    """Return what a source file is compiled to, or was before."""
    key = _key(text, cflags + functions)
    if cache and (found := cache.get(key)):
        return found
    bcc = _import_bcc()
    module = bcc.BPF(text=text, cflags=[f'-DPIN_DIR="{pin_dir}"', *cflags])
    names = _tables(bcc.lib, module.module)
    shared = {spec.name for spec in abi.MAPS}
    own = {name: _shape(fd) for fd, name in names.items() if name not in shared}
    compiled = Compiled({name: Body.of(module.dump_func(name), names) for name in functions}, own)
    module.cleanup()
    if cache:
        cache.put(key, compiled)
    return compiled


def _tables(lib: Any, module: Any) -> dict[int, str]:
    """Return the names of a module's maps by their fds."""
    lib.bpf_num_tables.restype, lib.bpf_num_tables.argtypes = ctypes.c_size_t, [ctypes.c_void_p]
    lib.bpf_table_name.restype, lib.bpf_table_name.argtypes = ctypes.c_char_p, [ctypes.c_void_p, ctypes.c_size_t]
    names = [lib.bpf_table_name(module, number) for number in range(lib.bpf_num_tables(module))]
    return {lib.bpf_table_fd(module, name): name.decode() for name in names}


def _shape(fd: int) -> Shape:
    kind, _, *sizes_and_flags = bpf.map_info(fd)
    return Shape(kind, *sizes_and_flags)


def _key(text: str, wanted: list[str]) -> str:
    """Return a name for what is compiled from these on this kernel."""
    digest = hashlib.sha256("\0".join((*os.uname(), text, *wanted)).encode())
    for path in sorted((headers.bpf_dir() / "include").rglob("*.h")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _load(spec: programs.ProgramSpec, instructions: bytes, kernel: btf.Btf) -> int:
    """Return the fd of a program, after the calls that C could not write are put in; the verifier's words to stderr."""
    if loads.is_marked(instructions):
        instructions = loads.mend(instructions, kernel.function(loads.FUNCTION))
    load = (int(spec.type), instructions, max(0, int(spec.attach)), spec.function)
    try:
        return bpf.load_program(*load)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOMEM):
            raise
        why = os.strerror(error.errno or 0)  # with a log that is too long, kernels before 6.4 say something else
    try:
        return bpf.load_program(*load, log_size=_LOG)
    except OSError as error:
        sys.stderr.write(str(error.strerror))
        raise ProgramRejected(why, "") from None


def _say(failure: str) -> None:
    """Tell the parent what it means if this process fails, or is ended by LLVM, in the step that follows."""
    sys.stdout.write(json.dumps({"step": failure}) + "\n")
    sys.stdout.flush()


def run(
    pin_dir: Path, header_tree: Path, cache: Path | None = None, is_ended: Callable[[], bool] = lambda: False
) -> dict[str, str]:
    """Compile in a child and return name -> tag; raises ProgramRejected with the compiler's or verifier's words, and
    StartEnded soon after `is_ended` says so."""
    child = subprocess.Popen(
        [sys.executable, "-m", "loader.compiler", str(pin_dir), str(header_tree), *([str(cache)] if cache else [])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )  # fmt: skip
    out, err = _told(child, is_ended)
    step = "the compiler process did not start"
    result: dict[str, Any] = {}
    for line in out.splitlines():
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            step = message.get("step", step)
            result = message if "step" not in message else result
    if "programs" in result:
        return dict(result["programs"])
    kinds = (ConfigInvalid, FeatureUnsupported, PackageMissing)
    kind = {kind.__name__: kind for kind in kinds}.get(result.get("error", ""))
    if kind:
        raise kind(result["message"])
    detail = result.get("message") or _last_line(err) or f"exit status {child.returncode}"
    raise ProgramRejected(f"{step}: {detail}", err)


def _told(child: "subprocess.Popen[str]", is_ended: Callable[[], bool]) -> tuple[str, str]:
    """Return what a child wrote until its end; when this raises, the child is no more."""
    late = time.monotonic() + _TIMEOUT_S
    with child:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    told = child.communicate(timeout=_LOOK_S)
                    if not is_ended():  # else it may have been told to end, too
                        return told
                if is_ended():
                    raise StartEnded("stopped while its programs were compiled: nothing was put in force")
                if time.monotonic() > late:
                    late_words = f"the programs were not compiled after {_TIMEOUT_S:g} s: is the machine too busy?"
                    raise ProgramRejected(late_words, "")
        finally:
            child.kill()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("processed ")]
    errors = [line for line in lines if "error:" in line or "LLVM ERROR" in line]
    return (errors or lines[-1:] or [""])[0][:300]


def main(argv: list[str]) -> int:
    try:
        cache = Cache(Path(argv[2])) if len(argv) > 2 else None
        result: dict[str, Any] = {"programs": compile_all(Path(argv[0]), Path(argv[1]), cache)}
    except MeshError as error:
        result = {"error": type(error).__name__, "message": str(error)}
    except Exception as error:  # bcc raises bare Exception; the words that matter are on standard error
        result = {"error": "ProgramRejected", "message": "" if type(error) is Exception else str(error)}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0 if "programs" in result else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
