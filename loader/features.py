"""What this kernel and this system can do of what the mesh needs, found by trying: tiny programs, maps and links that
are gone when `probe` returns. Versions appear only in the words that tell what to do.

    for feature in probe():
        print(feature.name, feature.ok, feature.detail or feature.remedy)
"""

import ctypes
import dataclasses
import errno
import importlib.util
import os
import platform
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pyroute2 import IPRoute

from loader import attach, bpf, btf, compiler, headers, maps, mounts, netns, programs, sockdiag
from loader.bpf import MapType, call_helper, exit_with
from loader.errors import MeshError, PrivilegeMissing

Need = Literal["policy", "acceleration", "records"]

_CAPABILITIES = {12: "CAP_NET_ADMIN", 21: "CAP_SYS_ADMIN", 38: "CAP_PERFMON", 39: "CAP_BPF"}
_CLONE_NEWNET = 0x40000000
_GET_CURRENT_TASK, _SOCKET_COOKIE, _NETNS_COOKIE = 35, 46, 122
_libc = ctypes.CDLL(None, use_errno=True)


@dataclasses.dataclass(frozen=True)
class Feature:
    """One thing the mesh needs. ok None: could not be looked at, detail says why. remedy: what to do when not ok."""

    name: str
    ok: bool | None
    detail: str
    remedy: str
    needed_for: Need


class CannotLook(Exception):
    """A probe could not be made; says nothing about the feature."""


@dataclasses.dataclass(frozen=True)
class Probe:
    """How one feature is tried: `look` returns a detail, or raises OSError, MeshError or CannotLook."""

    name: str
    needed_for: Need
    remedy: str
    look: Callable[[], str]

    def run(self) -> Feature:
        ok: bool | None = True
        try:
            detail = self.look()
        except CannotLook as error:
            ok, detail = None, str(error)
        except MeshError as error:
            ok, detail = False, str(error)
        except OSError as error:
            refused = error.errno in (errno.EPERM, errno.EACCES) and _missing_capabilities()
            ok, detail = (None, "needs root to be tried") if refused else (False, error.strerror or str(error))
        return Feature(self.name, ok, detail, "" if ok else self.remedy, self.needed_for)


# --- privileges and file systems --------------------------------------------------------------------------------------


def _missing_capabilities() -> list[str]:
    status = Path("/proc/self/status").read_text()
    held = int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)
    known = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return [name for bit, name in _CAPABILITIES.items() if bit <= known and not held >> bit & 1]


def _privileges() -> str:
    missing = _missing_capabilities()
    if missing:
        raise PrivilegeMissing("without " + ", ".join(missing))
    return "root" if os.geteuid() == 0 else "capabilities held"


def _known_file_system(kind: str) -> bool:
    return any(line.split()[-1] == kind for line in Path("/proc/filesystems").read_text().splitlines())


def _bpf_file_system() -> str:
    if mounts.kind_at(mounts.BPF) == "bpf":
        return f"mounted at {mounts.BPF}"
    if not _known_file_system("bpf"):
        raise OSError(errno.ENODEV, "this kernel has no BPF file system")
    return f"not mounted at {mounts.BPF} yet; the agent does so"


def cgroup2_mount() -> Path | None:
    """Return where cgroup v2 is mounted, alone or beside v1; None: nowhere that this process sees."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        if kind == "cgroup2":
            return Path(where.encode().decode("unicode_escape"))
    return None


def _cgroup2() -> str:
    where = cgroup2_mount()
    if where is None:
        raise OSError(errno.ENODEV, "cgroup v2 is not mounted")
    return f"mounted at {where}"


def _btf() -> str:
    with btf.VMLINUX.open("rb") as file:
        magic = file.read(2)
    if magic != b"\x9f\xeb":
        raise OSError(errno.EINVAL, f"{btf.VMLINUX} is not little-endian BTF")
    return str(btf.VMLINUX)


# --- maps and programs ------------------------------------------------------------------------------------------------


def _create(kind: MapType, key: int, value: int, entries: int, flags: int = 0) -> int:
    described = None
    if kind is MapType.sk_storage:
        described = (bpf.load_btf(maps.storage_btf(value)), 1, 2)
    try:
        return bpf.create_map(kind, key, value, entries, flags, "sm_probe", described)
    finally:
        if described:
            os.close(described[0])


def _map(kind: MapType, key: int, value: int, entries: int, flags: int = 0) -> Callable[[], str]:
    def look() -> str:
        os.close(_create(kind, key, value, entries, flags))
        return "made"

    return look


def _plain_maps() -> str:
    for kind in (MapType.hash, MapType.array, MapType.lru_hash, MapType.percpu_array, MapType.percpu_hash):
        os.close(_create(kind, 4, 8, 8))
    return "made"


def _load(kind: programs.ProgType, where: programs.AttachType, body: bytes) -> int:
    return bpf.load_program(int(kind), body, max(int(where), 0), "sm_probe")


def _program(
    kind: programs.ProgType, *where: programs.AttachType, helper: int = 0, result: int = 1
) -> Callable[[], str]:
    def look() -> str:
        for each in where or (programs.AttachType.NONE,):
            body = call_helper(helper) if helper else b""
            os.close(_load(kind, each, body + exit_with(result)))
        return "loads"

    return look


def _cgroup_link() -> str:
    root = cgroup2_mount()
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


def _tracepoints() -> str:
    return f"syscalls/sys_enter_splice is number {_tracepoint_id()}"


def _perf_link() -> str:
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


def _in_new_netns(look: Callable[[], str]) -> Callable[[], str]:
    """Run a probe in a thread with a fresh network namespace, which goes with the thread."""

    def run() -> str:
        answer: list[str] = []
        failure: list[BaseException] = []

        def body() -> None:
            try:
                if _libc.unshare(_CLONE_NEWNET) != 0:
                    raise CannotLook(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")
                answer.append(look())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=body, name="probe")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return answer[0]

    return run


def _clsact() -> str:
    program = _load(programs.ProgType.SCHED_CLS, programs.AttachType.NONE, exit_with(-1))
    try:
        # The loopback of a new namespace is always number 1.
        attach.filters("lo", 1, {programs.Target.INGRESS: ("sm_probe", program)})
    finally:
        os.close(program)
    with IPRoute() as ipr:
        found = list(ipr.get_filters(index=1, parent=attach.PARENT[programs.Target.INGRESS]))
    if not found:
        raise OSError(errno.ENOENT, "a filter was put there and is not to be found")
    return "a filter hangs on clsact"


def _sock_destroy() -> str:
    """Ask to destroy a socket that does not exist: the kernel that can do it says so."""
    local = b"\0" * 10 + b"\xff\xff" + socket.inet_aton("127.0.0.1")
    with sockdiag.channel() as channel:
        status = sockdiag.request(channel, (local, 1, local, 1, 0))
    if status not in (errno.ENOENT, errno.ESTALE):
        raise OSError(status, os.strerror(status))
    return "the kernel knows SOCK_DESTROY"


# --- packages ---------------------------------------------------------------------------------------------------------


def _netns_cookie() -> str:
    return f"this namespace is {netns.cookie()}"


def _bcc() -> str:
    spec = importlib.util.find_spec("bcc")
    if spec is None:
        raise OSError(errno.ENOENT, "bcc is not installed")
    for place in spec.submodule_search_locations or []:
        if (Path(place) / "libbcc.py").exists():
            return place
    raise OSError(errno.ENOENT, f"{spec.origin}: another project of that name")


def _headers() -> str:
    asm = headers.SYSTEM_INCLUDE / headers.TRIPLETS.get(platform.machine(), "") / "asm/types.h"
    for path in (headers.SYSTEM_INCLUDE / "linux/bpf.h", headers.SYSTEM_INCLUDE / "asm-generic/types.h", asm):
        if not path.exists():
            raise OSError(errno.ENOENT, f"{path} is missing")
    return str(headers.SYSTEM_INCLUDE)


def _queue_bound() -> str:
    kernel = btf.Btf.of_kernel()
    if compiler.redirect_is_charged(kernel):
        return "sk_rmem_alloc counts redirected bytes"
    for struct_name, path in (("sk_psock", "ingress_msg"), ("sk_msg", "list"), ("sk_msg", "sg.size")):
        try:
            kernel.field(struct_name, path)
        except KeyError as error:
            raise OSError(errno.ENODATA, f"neither counted by the kernel nor to be walked: no {error}") from error
    return "not counted by this kernel: the programs walk the queue"


_T, _A = programs.ProgType, programs.AttachType
_UPGRADE = "boot a kernel of at least {}, or one built with {}"

PROBES: tuple[Probe, ...] = (
    Probe("privileges", "policy", "run as root, or with " + ", ".join(_CAPABILITIES.values()), _privileges),
    Probe("bpf system call", "policy", "boot a kernel with CONFIG_BPF_SYSCALL", _map(MapType.array, 4, 8, 1)),
    Probe("bpf file system", "policy", "mount -t bpf bpf /sys/fs/bpf", _bpf_file_system),
    Probe("kernel type information (BTF)", "policy", "boot a kernel with CONFIG_DEBUG_INFO_BTF", _btf),
    Probe("cgroup v2", "policy", "mount -t cgroup2 none /sys/fs/cgroup/unified", _cgroup2),
    Probe("maps: hash, LRU, per CPU", "policy", "boot a kernel of at least 4.10", _plain_maps),
    Probe("map: longest prefix", "policy", "boot a kernel of at least 4.11", _map(MapType.lpm_trie, 20, 4, 8, 1)),
    Probe("map: ring buffer", "records", "boot a kernel of at least 5.8", _map(MapType.ringbuf, 0, 0, 1 << 16)),
    Probe("map: socket hash", "acceleration", _UPGRADE.format("4.18", "CONFIG_NET_SOCK_MSG"),
          _map(MapType.sockhash, 8, 8, 8)),
    Probe("map: socket storage", "policy", "boot a kernel of at least 5.4", _map(MapType.sk_storage, 4, 8, 0, 0x201)),
    Probe("programs: packet filter", "policy", _UPGRADE.format("4.1", "CONFIG_NET_CLS_BPF"),
          _program(_T.SCHED_CLS, helper=_SOCKET_COOKIE)),
    Probe("programs: connect, sendmsg, recvmsg", "policy", _UPGRADE.format("5.7", "CONFIG_CGROUP_BPF"),
          _program(_T.CGROUP_SOCK_ADDR, _A.CGROUP_INET4_CONNECT, _A.CGROUP_INET6_CONNECT, _A.CGROUP_UDP4_SENDMSG,
                   _A.CGROUP_UDP6_SENDMSG, _A.CGROUP_UDP4_RECVMSG, _A.CGROUP_UDP6_RECVMSG, helper=_NETNS_COOKIE)),
    Probe("programs: getpeername", "policy", "boot a kernel of at least 5.8",
          _program(_T.CGROUP_SOCK_ADDR, _A.CGROUP_INET4_GETPEERNAME, _A.CGROUP_INET6_GETPEERNAME)),
    Probe("programs: socket creation", "policy", _UPGRADE.format("5.8", "CONFIG_CGROUP_BPF"),
          _program(_T.CGROUP_SOCK, _A.CGROUP_INET_SOCK_CREATE, helper=_GET_CURRENT_TASK)),
    Probe("programs: socket events with namespace", "policy", _UPGRADE.format("5.15", "CONFIG_CGROUP_BPF"),
          _program(_T.SOCK_OPS, _A.CGROUP_SOCK_OPS, helper=_NETNS_COOKIE)),
    Probe("programs: socket messages", "acceleration", _UPGRADE.format("4.17", "CONFIG_NET_SOCK_MSG"),
          _program(_T.SK_MSG, _A.SK_MSG_VERDICT)),
    Probe("programs: tracepoints", "acceleration", _UPGRADE.format("4.7", "CONFIG_BPF_EVENTS"),
          _program(_T.TRACEPOINT, helper=_GET_CURRENT_TASK)),
    Probe("links: cgroup", "policy", "boot a kernel of at least 5.7", _cgroup_link),
    Probe("filters: clsact", "policy", "boot a kernel with CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF, or "
          "modprobe sch_ingress cls_bpf", _in_new_netns(_clsact)),
    Probe("network namespace cookie", "policy", "boot a kernel of at least 5.14: without SO_NETNS_COOKIE the agent "
          "cannot name a pod's namespace to the programs, and refuses its workload", _netns_cookie),
    Probe("reset of open connections", "policy", "boot a kernel with CONFIG_INET_DIAG_DESTROY: without it a "
          "connection that policy turns against stalls and is not reset", _in_new_netns(_sock_destroy)),
    Probe("tracepoints of system calls", "acceleration", "boot a kernel with CONFIG_FTRACE_SYSCALLS, and "
          "mount -t tracefs tracefs /sys/kernel/tracing", _tracepoints),
    Probe("links: tracepoint", "acceleration", "boot a kernel of at least 5.15", _perf_link),
    Probe("bounded receive queue", "acceleration", "boot a kernel of at least 6.14", _queue_bound),
    Probe("BPF compiler (bcc)", "policy", "apt-get install python3-bpfcc, and use /usr/bin/python3 or a virtual "
          "environment of it made with --system-site-packages", _bcc),
    Probe("kernel interface headers", "policy", f"apt-get install {headers.PACKAGE}", _headers),
)  # fmt: skip


def probe() -> list[Feature]:
    """Try everything and return what was found, in a fixed order; leaves nothing behind and never raises."""
    return [each.run() for each in PROBES]
