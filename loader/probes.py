"""The looks behind `loader.features`: each tries one thing with tiny programs, maps and links, lets go of them, and
returns a detail. It raises OSError or MeshError when the thing is not there, CannotLook when it cannot tell."""

import ctypes
import errno
import importlib.util
import os
import platform
import socket
from collections.abc import Callable
from pathlib import Path

from loader import bpf, btf, compiler, filters, headers, mounts, netns, programs, sockdiag
from loader.bpf import MapType, call_helper, exit_with
from loader.errors import PrivilegeMissing

CAPABILITIES = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class CannotLook(Exception):
    """A probe could not be made; says nothing about the feature."""


# --- privileges and file systems --------------------------------------------------------------------------------------


def missing_capabilities() -> list[str]:
    status = Path("/proc/self/status").read_text()
    held = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    known = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return [name for bit, name in CAPABILITIES.items() if bit <= known and not held >> bit & 1]


def privileges() -> str:
    missing = missing_capabilities()
    if missing:
        raise PrivilegeMissing("without " + ", ".join(missing))
    return "root" if os.geteuid() == 0 else "capabilities held"


def _known_file_system(kind: str) -> bool:
    return any(line.split()[-1] == kind for line in Path("/proc/filesystems").read_text().splitlines())


def bpf_file_system() -> str:
    if mounts.kind_at(mounts.BPF) == "bpf":
        return f"mounted at {mounts.BPF}"
    if not _known_file_system("bpf"):
        raise OSError(errno.ENODEV, "this kernel has no BPF file system")
    return f"not mounted at {mounts.BPF} yet; the agent does so"


def cgroup2() -> str:
    where = mounts.cgroup2()
    if where is None:
        raise OSError(errno.ENODEV, "cgroup v2 is not mounted")
    return f"mounted at {where}"


def type_information() -> str:
    with btf.VMLINUX.open("rb") as file:
        magic = file.read(2)
    if magic != b"\x9f\xeb":
        raise OSError(errno.EINVAL, f"{btf.VMLINUX} is not little-endian BTF")
    return str(btf.VMLINUX)


# --- maps and programs ------------------------------------------------------------------------------------------------


def _create(kind: MapType, key: int, value: int, entries: int, flags: int = 0) -> int:
    return bpf.create_map(kind, key, value, entries, flags, "sm_probe")


def makes(kind: MapType, key: int, value: int, entries: int, flags: int = 0) -> Callable[[], str]:
    def look() -> str:
        os.close(_create(kind, key, value, entries, flags))
        return "made"

    return look


def plain_maps() -> str:
    for kind in (MapType.hash, MapType.array, MapType.lru_hash, MapType.percpu_array, MapType.percpu_hash):
        os.close(_create(kind, 4, 8, 8))
    return "made"


def _load(kind: programs.ProgType, where: programs.AttachType, body: bytes) -> int:
    return bpf.load_program(int(kind), body, max(int(where), 0), "sm_probe")


def loads(kind: programs.ProgType, *where: programs.AttachType, helper: int = 0, result: int = 1) -> Callable[[], str]:
    def look() -> str:
        for each in where or (programs.AttachType.NONE,):
            body = call_helper(helper) if helper else b""
            os.close(_load(kind, each, body + exit_with(result)))
        return "loads"

    return look


def cgroup_link() -> str:
    root = mounts.cgroup2()
    if root is None:
        raise CannotLook("cgroup v2 is not mounted")
    directory = root / f"sockmesh-probe-{os.getpid()}"
    try:
        directory.mkdir()
    except OSError as error:
        raise CannotLook(f"cannot make {directory}: {error.strerror}") from error
    try:
        where = programs.AttachType.CGROUP_SOCK_OPS
        program = _load(programs.ProgType.SOCK_OPS, where, exit_with(1))
        target = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.close(bpf.link_create(program, target, int(where)))
        finally:
            os.close(target)
            os.close(program)
    finally:
        directory.rmdir()
    return "attached and let go"


def _tracepoint_id() -> int:
    if mounts.kind_at(mounts.TRACEFS) != "tracefs":
        if not _known_file_system("tracefs"):
            raise OSError(errno.ENODEV, "this kernel has no tracefs")
        raise CannotLook(f"tracefs is not mounted at {mounts.TRACEFS} yet; the agent does so")
    return int((mounts.TRACEFS / "events/syscalls/sys_enter_splice/id").read_text())


def tracepoints() -> str:
    return f"syscalls/sys_enter_splice is number {_tracepoint_id()}"


def perf_link() -> str:
    event = bpf.tracepoint_event(_tracepoint_id())
    try:
        program = _load(programs.ProgType.TRACEPOINT, programs.AttachType.NONE, exit_with(0))
        try:
            os.close(bpf.link_create(program, event, int(programs.AttachType.PERF_EVENT)))
        finally:
            os.close(program)
    finally:
        os.close(event)
    return "attached and let go"


# --- what is tried in a network namespace of its own ------------------------------------------------------------------


def in_new_netns(look: Callable[[], str]) -> Callable[[], str]:
    """Run a probe in a thread with a fresh network namespace, which goes with the thread."""

    def body() -> str:
        if _libc.unshare(_CLONE_NEWNET) != 0:
            raise CannotLook(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")
        return look()

    return lambda: netns.in_thread(body)


def clsact() -> str:
    program = _load(programs.ProgType.SCHED_CLS, programs.AttachType.NONE, exit_with(-1))
    try:
        # The loopback of a new namespace is always number 1.
        filters.put("lo", 1, {programs.Target.INGRESS: (Path("sm_probe"), program)})
    finally:
        os.close(program)
    with filters.Channel() as channel:
        found = channel.at(1, programs.Target.INGRESS)
    if not found:
        raise OSError(errno.ENOENT, "a filter was put there and is not to be found")
    return "a filter hangs on clsact"


def sock_destroy() -> str:
    """Ask to destroy a socket that does not exist: the kernel that can do it says so."""
    local = b"\0" * 10 + b"\xff\xff" + socket.inet_aton("127.0.0.1")
    with sockdiag.channel() as channel:
        status = sockdiag.request(channel, (local, 1, local, 1, 0))
    if status not in (errno.ENOENT, errno.ESTALE):
        raise OSError(status, os.strerror(status))
    return "the kernel knows SOCK_DESTROY"


# --- packages ---------------------------------------------------------------------------------------------------------


def netns_cookie() -> str:
    return f"this namespace is {netns.cookie()}"


def bcc_package() -> str:
    spec = importlib.util.find_spec("bcc")
    if spec is None:
        raise OSError(errno.ENOENT, "bcc is not installed")
    for place in spec.submodule_search_locations or []:
        if (Path(place) / "libbcc.py").exists():
            return place
    raise OSError(errno.ENOENT, f"{spec.origin}: another project of that name")


def header_package() -> str:
    asm = headers.SYSTEM_INCLUDE / headers.TRIPLETS.get(platform.machine(), "") / "asm/types.h"
    for path in (headers.SYSTEM_INCLUDE / "linux/bpf.h", headers.SYSTEM_INCLUDE / "asm-generic/types.h", asm):
        if not path.exists():
            raise OSError(errno.ENOENT, f"{path} is missing")
    return str(headers.SYSTEM_INCLUDE)


def queue_bound() -> str:
    kernel = btf.Btf.of_kernel()
    if compiler.redirect_is_charged(kernel):
        return "sk_rmem_alloc counts redirected bytes"
    for struct_name, path in (("sk_psock", "ingress_msg"), ("sk_msg", "list"), ("sk_msg", "sg.size")):
        try:
            kernel.field(struct_name, path)
        except KeyError as error:
            raise OSError(errno.ENODATA, f"neither counted by the kernel nor to be walked: no {error}") from error
    return "not counted by this kernel: the programs walk the queue"
