"""What this kernel and this system can do of what the mesh needs, found by trying: tiny programs, maps and links that
are gone when `probe` returns. Versions appear only in the words that tell what to do.

    for feature in probe():
        print(feature.name, feature.ok, feature.detail or feature.remedy)
"""

import dataclasses
import errno
from collections.abc import Callable
from typing import Literal

from loader import headers, probes, programs
from loader.bpf import MapType
from loader.errors import MeshError
from loader.probes import CannotLook

Need = Literal["policy", "short cut", "records"]

_GET_CURRENT_TASK, _SOCKET_COOKIE, _NETNS_COOKIE = 35, 46, 122


@dataclasses.dataclass(frozen=True)
class Feature:
    """One thing the mesh needs. ok None: could not be looked at, detail says why. remedy: what to do if it is missing,
    or to be able to look."""

    name: str
    ok: bool | None
    detail: str
    remedy: str
    needed_for: Need


@dataclasses.dataclass(frozen=True)
class Probe:
    """How one feature is tried: `look` returns a detail, or raises OSError, MeshError or CannotLook."""

    name: str
    needed_for: Need
    remedy: str
    look: Callable[[], str]

    def run(self) -> Feature:
        ok = True
        try:
            detail = self.look()
        except CannotLook as error:  # so nobody knows whether it is missing: the remedy for that would mislead
            return self._unseen(str(error), "run it as root" if probes.missing_capabilities() else "")
        except MeshError as error:
            ok, detail = False, str(error)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EACCES) and probes.missing_capabilities():
                return self._unseen("needs root to be tried", "run it as root")
            ok, detail = False, error.strerror or str(error)
        return Feature(self.name, ok, detail, "" if ok else self.remedy, self.needed_for)

    def _unseen(self, why: str, remedy: str) -> Feature:
        return Feature(self.name, None, why, remedy, self.needed_for)


_T, _A = programs.ProgType, programs.AttachType
_UPGRADE = "boot a kernel of at least {}, or one built with {}"

PROBES: tuple[Probe, ...] = (
    Probe("privileges", "policy", "run as root, or with " + ", ".join(probes.CAPABILITIES.values()),
          probes.privileges),
    Probe("bpf system call", "policy", "boot a kernel with CONFIG_BPF_SYSCALL", probes.makes(MapType.array, 4, 8, 1)),
    Probe("bpf file system", "policy", "mount -t bpf bpf /sys/fs/bpf", probes.bpf_file_system),
    Probe("kernel type information (BTF)", "policy", "boot a kernel with CONFIG_DEBUG_INFO_BTF",
          probes.type_information),
    Probe("cgroup v2", "policy", "mount -t cgroup2 none /sys/fs/cgroup/unified", probes.cgroup2),
    Probe("maps: hash, LRU, per CPU", "policy", "boot a kernel of at least 4.10", probes.plain_maps),
    Probe("map: longest prefix", "policy", "boot a kernel of at least 4.11",
          probes.makes(MapType.lpm_trie, 20, 4, 8, 1)),
    Probe("map: ring buffer", "records", "boot a kernel of at least 5.8", probes.makes(MapType.ringbuf, 0, 0, 1 << 16)),
    Probe("map: socket hash", "short cut", _UPGRADE.format("4.18", "CONFIG_NET_SOCK_MSG"),
          probes.makes(MapType.sockhash, 8, 8, 8)),
    Probe("programs: packet filter", "policy", _UPGRADE.format("4.1", "CONFIG_NET_CLS_BPF"),
          probes.loads(_T.SCHED_CLS, helper=_SOCKET_COOKIE)),
    Probe("programs: connect, sendmsg, recvmsg", "policy", _UPGRADE.format("5.7", "CONFIG_CGROUP_BPF"),
          probes.loads(_T.CGROUP_SOCK_ADDR, _A.CGROUP_INET4_CONNECT, _A.CGROUP_INET6_CONNECT, _A.CGROUP_UDP4_SENDMSG,
                   _A.CGROUP_UDP6_SENDMSG, _A.CGROUP_UDP4_RECVMSG, _A.CGROUP_UDP6_RECVMSG, helper=_NETNS_COOKIE)),
    Probe("programs: getpeername", "policy", "boot a kernel of at least 5.8",
          probes.loads(_T.CGROUP_SOCK_ADDR, _A.CGROUP_INET4_GETPEERNAME, _A.CGROUP_INET6_GETPEERNAME)),
    Probe("programs: socket events with namespace", "policy", _UPGRADE.format("5.15", "CONFIG_CGROUP_BPF"),
          probes.loads(_T.SOCK_OPS, _A.CGROUP_SOCK_OPS, helper=_NETNS_COOKIE)),
    Probe("programs: socket messages", "short cut", _UPGRADE.format("4.17", "CONFIG_NET_SOCK_MSG"),
          probes.loads(_T.SK_MSG, _A.SK_MSG_VERDICT)),
    Probe("programs: tracepoints", "short cut", _UPGRADE.format("4.7", "CONFIG_BPF_EVENTS"),
          probes.loads(_T.TRACEPOINT, helper=_GET_CURRENT_TASK)),
    Probe("links: cgroup", "policy", "boot a kernel of at least 5.7", probes.cgroup_link),
    Probe("filters: clsact", "policy", "boot a kernel with CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF, or "
          "modprobe sch_ingress cls_bpf", probes.in_new_netns(probes.clsact)),
    Probe("network namespace cookie", "policy", "boot a kernel of at least 5.14: without SO_NETNS_COOKIE the agent "
          "cannot name a pod's namespace to the programs, and refuses its workload", probes.netns_cookie),
    Probe("reset of open connections", "policy", "boot a kernel with CONFIG_INET_DIAG_DESTROY: without it a "
          "connection that policy turns against stalls and is not reset", probes.in_new_netns(probes.sock_destroy)),
    Probe("tracepoints of system calls", "short cut", "boot a kernel with CONFIG_FTRACE_SYSCALLS, and "
          "mount -t tracefs tracefs /sys/kernel/tracing", probes.tracepoints),
    Probe("links: tracepoint", "short cut", "boot a kernel of at least 5.15", probes.perf_link),
    Probe("bounded receive queue", "short cut", "boot a kernel of at least 6.14", probes.queue_bound),
    Probe("BPF compiler (bcc)", "policy", "apt-get install python3-bpfcc, and use /usr/bin/python3 or a virtual "
          "environment of it made with --system-site-packages", probes.bcc_package),
    Probe("kernel interface headers", "policy", f"apt-get install {headers.PACKAGE}", probes.header_package),
)  # fmt: skip


def probe() -> list[Feature]:
    """Try everything and return what was found, in a fixed order; leaves nothing behind and never raises."""
    return [each.run() for each in PROBES]
