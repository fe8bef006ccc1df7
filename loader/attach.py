"""Attaches programs, so that they stay when the agent dies and are replaced without a gap when it comes back.

cgroup, network namespace and tracepoint programs hang on pinned links (kernel 5.7, 5.9 and 5.15) whose program is
exchanged in place; the sockhash holds its program itself; packet filters are loader.filters'.
"""

import contextlib
import errno
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from loader import bpf, mounts, programs
from loader.errors import AttachFailed, CgroupFailed, FeatureUnsupported

_LINK_TYPE_NETNS = 5  # enum bpf_link_type


def link_path(pin_dir: Path, owner: str, function: str) -> Path:
    return pin_dir / "links" / f"{owner}-{function}"


def _link_target(fd: int) -> int:
    """Return the number of the cgroup or network namespace that a link leads to (0 when it is gone), from
    bpf_link_info."""
    raw = bpf.info(fd, 64)
    is_netns = struct.unpack_from("=I", raw)[0] == _LINK_TYPE_NETNS
    return int(struct.unpack_from("=I" if is_netns else "=Q", raw, 16)[0])


def cgroup(pin_dir: Path, owner: str, path: str, spec: programs.ProgramSpec, prog: int) -> None:
    """Attach to one cgroup, or put prog behind the link that is there; raises CgroupFailed."""
    pinned = link_path(pin_dir, owner, spec.function)
    try:
        target = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CgroupFailed(f"cgroup {path}: {error.strerror}: is the workload still there?") from error
    try:
        _link(pinned, prog, target, spec)
    except OSError as error:
        raise CgroupFailed(f"cgroup {path}: cannot attach {spec.function}: {error.strerror}") from error
    finally:
        os.close(target)


def namespace(pin_dir: Path, owner: str, path: str, spec: programs.ProgramSpec, prog: int) -> None:
    """Attach to one network namespace, or put prog behind the link that is there; raises AttachFailed."""
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _link(link_path(pin_dir, owner, spec.function), prog, target, spec)
        finally:
            os.close(target)
    except OSError as error:
        raise AttachFailed(f"network namespace {path}: cannot attach {spec.function}: {error.strerror}") from error


def _link(pinned: Path, prog: int, target: int, spec: programs.ProgramSpec) -> None:
    """Hang prog on a target, an fd, with a pinned link; raises OSError."""
    if _replace(pinned, prog, os.fstat(target).st_ino):
        return
    link = bpf.link_create(prog, target, int(spec.attach))
    try:
        bpf.pin(link, pinned)
    finally:
        os.close(link)


def are_in_place(pin_dir: Path, owner: str, wanted: Mapping[str, int], target: int) -> bool:
    """Tell whether an owner's pinned links hold the programs of these ids on a cgroup, by its id; cheap enough to be
    asked each second, for no event of ours tells that somebody detached or removed one."""
    prefix = str(link_path(pin_dir, owner, ""))  # a Path for each link would cost more than the kernel does
    for function, program in wanted.items():
        try:
            link = bpf.get(prefix + function)
        except FileNotFoundError:
            return False
        except OSError:  # nobody can tell: the agent has no descriptor left, say
            continue
        try:
            if struct.unpack_from("=I4xQ", bpf.info(link, 32), 8) != (program, target):
                return False
        finally:
            os.close(link)
    return True


def refusal(path: str, specs: Iterable[programs.ProgramSpec]) -> str:
    """Return why a cgroup does not take programs of these kinds all at once, "" if it does; tried with some that do
    nothing, and that are gone again."""
    held: list[int] = []
    try:
        held.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        for spec in specs:
            held.append(bpf.load_program(int(spec.type), bpf.exit_with(1), int(spec.attach), "sm_trial"))
            try:
                held.append(bpf.link_create(held[-1], held[0], int(spec.attach)))
            except OSError as error:
                return f"cgroup {path}: cannot attach {spec.function}: {error.strerror}"
    except OSError as error:
        return f"cgroup {path}: {error.strerror}"
    finally:
        for fd in held:
            os.close(fd)
    return ""


def _replace(pinned: Path, prog: int, target: int) -> bool:
    """Exchange the program of a pinned link that still leads to target; a link that leads elsewhere is removed."""
    try:
        link = bpf.get(pinned)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    try:
        if target and _link_target(link) != target:
            pinned.unlink()
            return False
        bpf.link_update(link, prog)
        return True
    finally:
        os.close(link)


def tracepoint(pin_dir: Path, spec: programs.ProgramSpec, prog: int) -> None:
    """Attach to a tracepoint of the whole machine; raises FeatureUnsupported where the link would die with us."""
    pinned = link_path(pin_dir, "tracepoint", spec.function)
    if pinned.exists():
        # A perf link's program cannot be exchanged; a second link first, then the old one away, leaves no gap.
        old = pinned.with_name(pinned.name + "_old")
        with contextlib.suppress(FileNotFoundError):
            old.unlink()
        os.rename(pinned, old)
    else:
        old = None
    ident_file = mounts.TRACEFS / "events" / spec.tracepoint / "id"
    try:
        ident = int(ident_file.read_text())
    except OSError as error:
        raise FeatureUnsupported(
            f"{ident_file}: {error.strerror}: the kernel must be built with CONFIG_FTRACE_SYSCALLS"
        ) from error
    event = bpf.tracepoint_event(ident)
    try:
        link = bpf.link_create(prog, event, int(spec.attach))
        bpf.pin(link, pinned)
        os.close(link)
    except OSError as error:
        raise FeatureUnsupported(
            f"tracepoint {spec.tracepoint}: {error.strerror}: perf links need kernel 5.15"
        ) from error
    finally:
        os.close(event)
    if old:
        old.unlink()


def sockhash(fd: int, prog: int) -> None:
    bpf.attach(fd, prog, int(programs.AttachType.SK_MSG_VERDICT))


def is_on_sockhash(fd: int, program: int) -> bool:
    """Tell whether the program of this id is the sockhash's; before kernel 5.18 nobody can."""
    try:
        return bpf.attached(fd, int(programs.AttachType.SK_MSG_VERDICT)) == [program]
    except OSError:
        return True


def remove_links(pin_dir: Path, owner: str) -> None:
    """Detach what hangs on an owner's pinned links."""
    directory = pin_dir / "links"
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.name.startswith(owner + "-"):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
