"""Attaches programs, so that they stay when the agent dies and are replaced without a gap when it comes back.

cgroup and tracepoint programs hang on pinned links (kernel 5.7 and 5.15) whose program is exchanged in place; packet
filters on a fixed handle of clsact, which the kernel replaces in one step; the sockhash holds its program itself.
"""

import contextlib
import errno
import os
import struct
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from loader import bpf, mounts, programs
from loader.errors import AttachFailed, CgroupFailed, FeatureUnsupported

PARENT = {programs.Target.INGRESS: 0xFFFFFFF2, programs.Target.EGRESS: 0xFFFFFFF3}
_CLSACT = 0xFFFF0000
_HANDLE, _PRIORITY, _ETH_P_ALL = 0x5A, 0x5A, 3


def link_path(pin_dir: Path, owner: str, function: str) -> Path:
    return pin_dir / "links" / f"{owner}-{function}"


def _link_target(fd: int) -> int:
    """Return the cgroup id behind a cgroup link (0 when the cgroup is gone), from bpf_link_info."""
    return int(struct.unpack_from("=Q", bpf.info(fd, 64), 16)[0])


def cgroup(pin_dir: Path, owner: str, path: str, spec: programs.ProgramSpec, prog: int) -> None:
    """Attach to one cgroup, or put prog behind the link that is there; raises CgroupFailed."""
    pinned = link_path(pin_dir, owner, spec.function)
    try:
        target = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise CgroupFailed(f"cgroup {path}: {error.strerror}: is the workload still there?") from error
    try:
        if _replace(pinned, prog, os.stat(path).st_ino):
            return
        link = bpf.link_create(prog, target, int(spec.attach))
        try:
            bpf.pin(link, pinned)
        finally:
            os.close(link)
    except OSError as error:
        raise CgroupFailed(f"cgroup {path}: cannot attach {spec.function}: {error.strerror}") from error
    finally:
        os.close(target)


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


def filters(interface: str, ifindex: int, progs: dict[programs.Target, tuple[str, int]]) -> None:
    """Put our filters on an interface, replacing ours in one step each; raises AttachFailed."""
    try:
        with IPRoute() as ipr:
            try:
                ipr.tc("add", "clsact", ifindex)
            except NetlinkError as error:
                if error.code != errno.EEXIST:
                    raise
            for target, (name, fd) in progs.items():
                ipr.tc(
                    "replace-filter", "bpf", ifindex, handle=_HANDLE, fd=fd, name=name, parent=PARENT[target],
                    direct_action=True, prio=_PRIORITY, protocol=_ETH_P_ALL,
                )  # fmt: skip
    except NetlinkError as error:
        raise AttachFailed(f"interface {interface}: cannot attach filters: {os.strerror(error.code)}") from error


def remove_filters(ifindex: int) -> None:
    """Take our filters off an interface; one that is gone is no error."""
    with IPRoute() as ipr:
        for parent in PARENT.values():
            with contextlib.suppress(NetlinkError):
                ipr.tc("del-filter", "bpf", ifindex, handle=_HANDLE, parent=parent, prio=_PRIORITY, protocol=_ETH_P_ALL)


def remove_links(pin_dir: Path, owner: str) -> None:
    """Detach what hangs on an owner's pinned links."""
    directory = pin_dir / "links"
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.name.startswith(owner + "-"):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def rename_links(pin_dir: Path, old: str, new: str) -> None:
    """Give the links of one owner to another that has none; they stay attached meanwhile."""
    for path in sorted((pin_dir / "links").glob(f"{old}-*")):
        target = path.with_name(new + path.name.removeprefix(old))
        if not target.exists():
            os.rename(path, target)
