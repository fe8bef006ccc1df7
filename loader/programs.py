"""What is compiled, loaded and attached where: plain data, read by the compiler child and by the attacher."""

import dataclasses
import enum


class ProgType(enum.IntEnum):
    """Program types by the kernel's numbers (enum bpf_prog_type)."""

    SCHED_CLS = 3
    TRACEPOINT = 5
    SOCK_OPS = 13
    SK_MSG = 16
    CGROUP_SOCK_ADDR = 18
    CGROUP_SOCKOPT = 25
    SK_LOOKUP = 30


class AttachType(enum.IntEnum):
    """Attach types by the kernel's numbers (enum bpf_attach_type)."""

    NONE = -1
    CGROUP_SOCK_OPS = 3
    SK_MSG_VERDICT = 7
    CGROUP_INET4_CONNECT = 10
    CGROUP_INET6_CONNECT = 11
    CGROUP_UDP4_SENDMSG = 14
    CGROUP_UDP6_SENDMSG = 15
    CGROUP_UDP4_RECVMSG = 19
    CGROUP_UDP6_RECVMSG = 20
    CGROUP_GETSOCKOPT = 21
    CGROUP_INET4_GETPEERNAME = 29
    CGROUP_INET6_GETPEERNAME = 30
    SK_LOOKUP = 36
    PERF_EVENT = 41


class Target(enum.Enum):
    """Where a program goes."""

    CGROUP = "cgroup"  # each workload's cgroup, through a pinned link
    INGRESS = "ingress"  # each workload's host-side interface
    EGRESS = "egress"
    SOCKHASH = "sockhash"
    TRACEPOINT = "tracepoint"  # machine-wide, through a pinned link
    PROXY = "proxy"  # the node proxy's interface, network namespace and cgroup


@dataclasses.dataclass(frozen=True)
class ProgramSpec:
    """One program: its file, function, type, where it goes, and whether the mesh can do without it."""

    file: str
    function: str
    type: ProgType
    target: Target
    attach: AttachType = AttachType.NONE
    tracepoint: str = ""
    needed_for: str = "policy"  # "acceleration": without it the short cut stays off and everything else works


_CG, _ADDR = Target.CGROUP, ProgType.CGROUP_SOCK_ADDR
_TP = Target.TRACEPOINT


def _trace(name: str) -> ProgramSpec:
    return ProgramSpec(
        "trace.c", f"enter_{name}", ProgType.TRACEPOINT, _TP, AttachType.PERF_EVENT,
        f"syscalls/sys_enter_{name}", "acceleration",
    )  # fmt: skip


# Rare calls, but for recvfrom and recvmsg, where the price is one test of the flags, and for sendfile, where it is one
# look at its source, a file.
_TRACED = (
    "splice", "sendfile64", "recvfrom", "recvmsg", "sendto", "sendmsg", "getsockopt", "setsockopt", "fcntl", "ioctl",
    "sendmmsg", "recvmmsg", "io_uring_setup",
)  # fmt: skip

PROGRAMS: tuple[ProgramSpec, ...] = (
    ProgramSpec("tc.c", "from_pod", ProgType.SCHED_CLS, Target.INGRESS),
    ProgramSpec("tc.c", "to_pod", ProgType.SCHED_CLS, Target.EGRESS),
    ProgramSpec("sockaddr.c", "connect4", _ADDR, _CG, AttachType.CGROUP_INET4_CONNECT),
    ProgramSpec("sockaddr.c", "connect6", _ADDR, _CG, AttachType.CGROUP_INET6_CONNECT),
    ProgramSpec("sockaddr.c", "sendmsg4", _ADDR, _CG, AttachType.CGROUP_UDP4_SENDMSG),
    ProgramSpec("sockaddr.c", "sendmsg6", _ADDR, _CG, AttachType.CGROUP_UDP6_SENDMSG),
    ProgramSpec("sockaddr.c", "recvmsg4", _ADDR, _CG, AttachType.CGROUP_UDP4_RECVMSG),
    ProgramSpec("sockaddr.c", "recvmsg6", _ADDR, _CG, AttachType.CGROUP_UDP6_RECVMSG),
    ProgramSpec("sockaddr.c", "getpeername4", _ADDR, _CG, AttachType.CGROUP_INET4_GETPEERNAME),
    ProgramSpec("sockaddr.c", "getpeername6", _ADDR, _CG, AttachType.CGROUP_INET6_GETPEERNAME),
    ProgramSpec("sockops.c", "sockops", ProgType.SOCK_OPS, _CG, AttachType.CGROUP_SOCK_OPS),
    ProgramSpec("skmsg.c", "skmsg", ProgType.SK_MSG, Target.SOCKHASH, AttachType.SK_MSG_VERDICT, "", "acceleration"),
    ProgramSpec("proxy.c", "from_proxy", ProgType.SCHED_CLS, Target.PROXY),
    ProgramSpec("proxy.c", "toward_proxy", ProgType.SCHED_CLS, Target.PROXY, needed_for="acceleration"),
    ProgramSpec("proxy.c", "to_door", ProgType.SK_LOOKUP, Target.PROXY, AttachType.SK_LOOKUP),
    ProgramSpec("proxy.c", "who_asks", ProgType.CGROUP_SOCKOPT, Target.PROXY, AttachType.CGROUP_GETSOCKOPT),
    *(_trace(name) for name in _TRACED),
    ProgramSpec(
        "trace.c", "exec", ProgType.TRACEPOINT, _TP, AttachType.PERF_EVENT, "sched/sched_process_exec", "acceleration"
    ),
)

FILTERS: dict[Target, str] = {
    spec.target: spec.function for spec in PROGRAMS if spec.target in (Target.INGRESS, Target.EGRESS)
}
PROGRAM_BY_NAME = {spec.function: spec for spec in PROGRAMS}

# Macro -> where the field is; several spellings where kernels differ, the first that exists counts.
OFFSETS: dict[str, tuple[tuple[str, str], ...]] = {
    "OFF_SKC_FAMILY": (("sock_common", "skc_family"),),
    "OFF_SKC_DADDR": (("sock_common", "skc_daddr"),),
    "OFF_SKC_RCV_SADDR": (("sock_common", "skc_rcv_saddr"),),
    "OFF_SKC_DPORT": (("sock_common", "skc_dport"),),
    "OFF_SKC_NUM": (("sock_common", "skc_num"),),
    "OFF_SKC_V6_DADDR": (("sock_common", "skc_v6_daddr"),),
    "OFF_SKC_V6_RCV_SADDR": (("sock_common", "skc_v6_rcv_saddr"),),
    "OFF_SKC_COOKIE": (("sock_common", "skc_cookie"),),
    "OFF_SKC_STATE": (("sock_common", "skc_state"),),
    "OFF_SK_RMEM": (("sock", "sk_backlog.rmem_alloc"),),
    "OFF_SK_RCVBUF": (("sock", "sk_rcvbuf"),),
    "OFF_SK_RCVLOWAT": (("sock", "sk_rcvlowat"),),
    "OFF_SK_FLAGS": (("sock_common", "skc_flags"),),
    "OFF_SK_ERR": (("sock", "sk_err"),),
    "OFF_SK_ERR_SOFT": (("sock", "sk_err_soft"),),
    "OFF_SK_OWNED": (("sock", "sk_lock.owned"),),
    "OFF_SK_TSFLAGS": (("sock", "sk_tsflags"),),
    "OFF_SK_USERLOCKS": (("sock", "sk_userlocks"),),
    "OFF_SK_FILTER": (("sock", "sk_filter"),),
    "OFF_SK_DISCONNECTS": (("sock", "sk_disconnects"),),
    "OFF_SK_MAX_PACING_RATE": (("sock", "sk_max_pacing_rate"),),
    "OFF_TP_RECEIVED": (("tcp_sock", "bytes_received"),),
    "OFF_TP_INQ": (("tcp_sock", "recvmsg_inq"),),
    "OFF_SK_PEEK": (("sock", "sk_peek_off"),),
    "OFF_SK_SOCKET": (("sock", "sk_socket"),),
    "OFF_SK_USER_DATA": (("sock", "sk_user_data"),),
    "OFF_ICSK_ULP": (("inet_connection_sock", "icsk_ulp_ops"),),
    "OFF_ICSK_USER_TIMEOUT": (("inet_connection_sock", "icsk_user_timeout"),),
    "OFF_TP_COPIED": (("tcp_sock", "copied_seq"),),
    "OFF_TP_RCVNXT": (("tcp_sock", "rcv_nxt"),),
    "OFF_TP_WSEQ": (("tcp_sock", "write_seq"),),
    "OFF_TP_BYTES_SENT": (("tcp_sock", "bytes_sent"),),
    "OFF_TP_BYTES_RETRANS": (("tcp_sock", "bytes_retrans"),),
    "OFF_TP_IS_MPTCP": (("tcp_sock", "is_mptcp"),),
    "OFF_PSOCK_INGRESS": (("sk_psock", "ingress_msg"),),
    "OFF_PSOCK_REFS": (("sk_psock", "refcnt.refs.counter"),),
    "OFF_PSOCK_LINK": (("sk_psock", "link"),),
    "OFF_MSG_LIST": (("sk_msg", "list"),),
    "OFF_MSG_SIZE": (("sk_msg", "sg.size"),),
    "OFF_SOCKET_FILE": (("socket", "file"),),
    "OFF_SOCKET_SK": (("socket", "sk"),),
    "OFF_FILE_FLAGS": (("file", "f_flags"),),
    "OFF_FILE_PRIVATE": (("file", "private_data"),),
    "OFF_TASK_FILES": (("task_struct", "files"),),
    "OFF_TASK_MM": (("task_struct", "mm"),),
    "OFF_MM_TASK_SIZE": (("mm_struct", "task_size"),),
    "OFF_TASK_NSPROXY": (("task_struct", "nsproxy"),),
    "OFF_NSPROXY_NET": (("nsproxy", "net_ns"),),
    "OFF_NET_COOKIE": (("net", "net_cookie"),),
    "OFF_NET_TCP_RETRIES2": (("net", "ipv4.sysctl_tcp_retries2"),),
    "OFF_NET_TCP_ORPHAN_RETRIES": (("net", "ipv4.sysctl_tcp_orphan_retries"),),
    "OFF_SKC_NET": (("sock_common", "skc_net"),),
    "OFF_FILES_FDT": (("files_struct", "fdt"),),
    "OFF_FDT_FD": (("fdtable", "fd"),),
    "OFF_FDT_MAX": (("fdtable", "max_fds"),),
}
# Bit fields: the macro BIT_... gives the bit within the byte at OFF_...
BIT_FIELDS = ("OFF_TP_IS_MPTCP", "OFF_TP_INQ", "OFF_SK_USERLOCKS")
# Absent where the kernel has no MPTCP, and before 6.6 and the stable ones of that time.
OPTIONAL_OFFSETS = frozenset({"OFF_TP_IS_MPTCP", "OFF_SK_DISCONNECTS"})
# Macro -> enumerator: bits of sk_flags.
ENUMERATORS = {
    "SOCK_DEAD_BIT": ("sock_flags", "SOCK_DEAD"),
    "SOCK_DONE_BIT": ("sock_flags", "SOCK_DONE"),
    "SOCK_RCVTSTAMP_BIT": ("sock_flags", "SOCK_RCVTSTAMP"),
    "SOCK_ZEROCOPY_BIT": ("sock_flags", "SOCK_ZEROCOPY"),
}
