"""Everything that the C programs can see: enums, records, map names and sizes, declared once.

`python -m loader.abi > bpf/mesh_abi.h` writes the C side; a unit test regenerates and compares it, the header's
`_Static_assert`s check every size and offset at compile time. Conventions: ports are host order, addresses network
order, times nanoseconds of CLOCK_MONOTONIC, a zeroed value always means "deny" or "off".
"""

import dataclasses
import enum
import hashlib
from typing import Annotated

from loader.record import U8, U16, U32, U64, ZERO_ADDR, Addr, Record, U8x2, c_name, pair_of, record


class Verdict(enum.IntEnum):
    """What policy says; zero denies, so that a zeroed map value never opens a hole."""

    DENY = 0
    ALLOW = 1
    PROXY = 2


class Direction(enum.IntEnum):
    """Seen from the endpoint whose policy is asked."""

    INGRESS = 0
    EGRESS = 1


class Rank(enum.IntEnum):
    """Precedence of a policy entry: the highest rank that matches decides."""

    DEFAULT = 0
    ALLOW = 1
    PROXY = 100
    DENY = 254  # rank + 1 must fit a byte (bpf/verdict.h)


class Proto(enum.IntEnum):
    """IP protocol numbers that policy knows (IANA); ANY matches all of them."""

    ANY = 0
    ICMP = 1
    TCP = 6
    UDP = 17
    ICMPV6 = 58
    SCTP = 132


class ReservedIdentity(enum.IntEnum):
    """Numeric identities with a fixed meaning, numbered as Cilium numbers them."""

    UNKNOWN = 0
    HOST = 1
    WORLD = 2
    UNMANAGED = 3
    HEALTH = 4
    INIT = 5
    REMOTE_NODE = 6
    KUBE_APISERVER = 7
    INGRESS = 8
    WORLD_IPV4 = 9
    WORLD_IPV6 = 10


FIRST_POD_IDENTITY = 256
FIRST_CIDR_IDENTITY = 1 << 24  # identities of address ranges: local to a node, never sent to another


class DropReason(enum.IntEnum):
    """Why a packet or a call was refused; numbers and names of Hubble's drop reasons."""

    NONE = 0
    INVALID_SOURCE_IP = 132
    POLICY_DENIED = 133
    INVALID_PACKET_DROPPED = 134
    UNSUPPORTED_L3_PROTOCOL = 139
    UNKNOWN_L4_PROTOCOL = 142
    CT_MAP_INSERTION_FAILED = 155
    INVALID_IPV6_EXTENSION_HEADER = 156
    SERVICE_BACKEND_NOT_FOUND = 158
    POLICY_DENY = 181
    NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION = 165
    UNSUPPORTED_L2_PROTOCOL = 166
    DROP_EP_NOT_READY = 203
    DROP_FRAG_NOT_FOUND = 207


class EventType(enum.IntEnum):
    """What a FlowEvent tells."""

    NONE = 0
    OPEN = 1
    PERIODIC = 2
    CLOSE = 3
    DROP = 4
    AUDIT = 5
    STUCK = 6  # a reader called splice(2) or the like with redirected bytes waiting: user space must reset it
    POLICY_RESET = 7  # policy turned against an open connection


class Hook(enum.IntEnum):
    """Which hook saw it."""

    NONE = 0
    CONNECT = 1
    SENDMSG = 2
    TC_FROM_POD = 3
    TC_TO_POD = 4
    SOCKOPS = 5
    SKMSG = 6
    TRACEPOINT = 7
    AGENT = 8


class AccelReason(enum.IntEnum):
    """Why a socket's received bytes do, or do not, take the short cut."""

    UNKNOWN = 0
    ACTIVE = 1  # enrolled: bytes to this socket are redirected when it is ready for them
    PROBATION = 2  # too few packets yet to know how its program reads
    OFF = 3  # switched off on this node
    SELF_TEST = 4  # the self-test at start found this kernel unsafe
    OPT_OUT = 5  # the endpoint opted out
    PEER_REMOTE = 6  # the peer is not an enrolled endpoint of this node
    BLOCKING = 7  # the program reads with a blocking socket
    SPLICE = 8  # the program reads with splice(2) or another call that cannot see redirected bytes
    LOW_WATER = 9  # SO_RCVLOWAT is set
    URGENT = 10  # urgent data (MSG_OOB) was sent
    MPTCP = 11
    ULP = 12  # kernel TLS or another upper layer protocol
    PROGRAM = 13  # a program of this endpoint was caught mixing plain reads and splice(2) before
    DENIED = 14  # policy denies the pair
    MAP_FULL = 15
    LOOPBACK = 16
    ENROL_FAILED = 17  # the kernel refused to put the socket into the sockhash
    FOREIGN = 18  # another program already owns the socket (psock present)
    PEEK_OFF = 19  # SO_PEEK_OFF is set
    OPTIONS = 21  # a socket option is set that redirected bytes would not honour (zero-copy, time stamps, TCP_INQ)
    COUNTS = 22  # its program asks FIONREAD, which on this kernel does not see redirected bytes
    IO_URING = 20  # a program of this endpoint uses io_uring, whose splices no hook sees
    COMPAT = 23  # a 32-bit program runs in this endpoint's namespace: no hook sees its system calls


class EndpointFlag(enum.IntFlag):
    ENROLLED = 1  # policy is in force; without it every packet is dropped
    ACCELERATE = 2
    HAS_CGROUP = 4  # socket hooks are attached to its cgroup, so TCP opens are reported by sock_ops
    HAS_AUDIT = 8  # its policy set holds entries of audit-only policies
    DIRECT = 32  # packets may be put into its interface past the host's: that one is a veth, and shapes nothing
    SELF_TEST = 16  # one of the self-test's own: the short cut is tried on it before anybody else may use it


class ConnFlag(enum.IntFlag):
    """A connection's facts in a FlowEvent; in Conn itself most are bytes of their own."""

    ENROLLED_0 = 1
    ENROLLED_1 = 2
    CLOSED_0 = 4
    CLOSED_1 = 8
    INITIATOR_1 = 16  # side 1 called connect(); otherwise side 0 did
    CANDIDATE = 32  # both ends are endpoints of this node that may be accelerated
    DENIED = 64  # policy turned against it; the agent resets it
    AUDITED = 128
    USED = 256  # at least one byte took the short cut
    STUCK = 512
    DIRECT = 1024  # its packets go from one pod's interface into the other's


class CtFlag(enum.IntFlag):
    SEEN_REPLY = 1
    CLOSING = 2  # FIN or RST seen
    AUDITED = 4
    REPORTED = 8  # an OPEN event was emitted by tc, so the agent emits the CLOSE
    TRACKED = 16  # sock_ops has a record of the connection, or had one


class Metric(enum.IntEnum):
    """Slots of the per-CPU counter array."""

    EVENTS_LOST = 0
    REDIRECT_MESSAGES = 1
    REDIRECT_BYTES = 2
    TCP_MESSAGES = 3  # sk_msg passes: short cut not ready
    TCP_BYTES = 4
    PASS_NOT_DRAINED = 5  # peer had unread TCP bytes, or bytes were in flight
    PASS_QUEUE_FULL = 6  # peer's receive queue over its bound
    PASS_MARKED = 7
    PASS_DENIED = 8
    CONNECTIONS_OPENED = 9
    CONNECTIONS_CLOSED = 10
    CONNS_MAP_FULL = 11
    CT_CREATED = 12
    CT_INSERT_FAILED = 13
    ENROLLED_SOCKETS = 14
    ENROL_FAILED = 15
    MARKED_READERS = 16
    STUCK_READERS = 17
    LB_TRANSLATED = 18
    LB_NO_BACKEND = 19
    FORWARDED_INGRESS_PACKETS = 20
    FORWARDED_INGRESS_BYTES = 21
    FORWARDED_EGRESS_PACKETS = 22
    FORWARDED_EGRESS_BYTES = 23
    AUDITED = 24
    POLICY_LOOKUPS = 25
    PASS_GONE = 26  # the peer's socket was closed or replaced
    REDIRECT_FAILED = 27
    HELD_PACKETS = 29  # held back because redirected bytes before them are unread; TCP sends them again
    WITHDRAWN_SOCKETS = 30  # taken out of the sockhash again
    DIRECT_PACKETS = 31  # delivered past the host's bridge and routes
    REFUSED_CALLS = 28  # connect and sendmsg calls that got EPERM


@record
class Config(Record):
    """The one record of the `config` array: node-wide switches. All zero: policy denies, nothing is accelerated."""

    generation: U32  # raised after each policy change: verdicts remembered under another one are asked again
    probation_packets: U32  # packets an end must have sent before it is enrolled
    udp_timeout_s: U32
    tcp_timeout_s: U32
    tcp_close_timeout_s: U32
    icmp_timeout_s: U32
    acceleration: U8  # 1: new connections may take the short cut
    self_test: U8  # 1: the self-test passed on this kernel
    direct_delivery: U8 = 0  # 1: packets of new connections may go straight into the other pod's interface
    pad0: U8 = 0


@record
class EndpointKey(Record):
    id: U32


@record
class Endpoint(Record):
    """An enrolled pod. Replaced in one piece, so that a new policy set takes effect at once and whole."""

    identity: U32
    set_id: U32  # the policy set in force; 0 has no entries, so everything is denied
    flags: U32  # EndpointFlag
    ifindex: U32  # host-side interface
    ingress_plens: U32  # bit n: the set has ingress entries whose port prefix is n bits long
    egress_plens: U32
    netns_cookie: U64
    nsid: U32  # the pod's network namespace as seen from the agent's; 0xffffffff: not known
    pad: U32 = 0
    addr4: Addr = ZERO_ADDR  # its first address of each family; zero: none
    addr6: Addr = ZERO_ADDR


@record
class AddrKey(Record):
    addr: Addr


@record
class EndpointRef(Record):
    id: U32


@record
class NetnsKey(Record):
    cookie: U64


@record
class IfaceKey(Record):
    ifindex: U32


@record
class IpcacheKey(Record):
    """An LPM key: the first `prefixlen` bits of addr, IPv4 counted from bit 96."""

    prefixlen: U32
    addr: Addr


@record
class IpcacheValue(Record):
    identity: U32


@record
class PolicyKey(Record):
    """One entry of a policy set. Exact match; wildcards are peer_id 0, proto 0 and port prefixes shorter than 16."""

    set_id: U32
    peer_id: U32  # 0 matches any identity
    port: U16  # the destination port masked to plen bits; the ICMP type for ICMP
    proto: U8  # Proto
    direction: U8  # Direction
    plen: U8  # 0 to 16
    pad0: U8 = 0
    pad1: U16 = 0


@record
class PolicyValue(Record):
    """The enforced part, and the part that policies in audit mode would enforce."""

    verdict: U8  # Verdict
    rank: U8  # Rank
    audit_verdict: U8
    audit_rank: U8
    rule_id: U32
    audit_rule_id: U32
    present: U8  # 1: the enforced part counts; 0: the entry exists for its audit part only
    audit_present: U8
    pad: U16 = 0


@record
class CtKey(Record):
    """A connection that one endpoint's policy let through, in the direction of its first packet."""

    saddr: Addr
    daddr: Addr
    endpoint: U32
    sport: U16
    dport: U16
    proto: U8
    direction: U8  # Direction
    pad: U16 = 0


@record
class CtEntry(Record):
    created: U64
    last_seen: U64
    tx_packets: U64  # in the direction of the first packet
    tx_bytes: U64
    rx_packets: U64
    rx_bytes: U64
    generation: U32
    peer_identity: U32
    rule_id: U32
    flags: U32  # CtFlag


@record
class ConnKey(Record):
    """A TCP connection whichever end looks: the lower (address, port) is side 0."""

    addr0: Addr
    addr1: Addr
    port0: U16
    port1: U16


@record
class End(Record):
    """One end of a TCP connection."""

    cookie: U64  # socket cookie; 0: this end is not ours
    sock: U64  # kernel address of the tcp_sock, checked by cookie at each use
    redirect_bytes: U64  # sent over the short cut
    redirect_msgs: U64
    tcp_msgs: U64  # sk_msg messages that went over TCP
    pause: U64  # until when this end sends over TCP, because its peer did not keep up
    held: U64  # since when packets to this end are held back, until it has read its redirected bytes; 0: none are
    tcp_sent: U64  # TCP's own counters, known once this end has closed
    tcp_received: U64
    endpoint: U32  # endpoint id; 0: not ours
    identity: U32
    packets: U32  # packets seen from this end by tc
    mean: U32  # running mean of the sizes of its messages
    judged: U32  # generation under which the packet hook of its pod last let the connection pass
    rule: U32  # the rule of its pod's policy that let the connection pass
    # A byte for each fact that changes, so that two CPUs never write one word: BPF has no atomic `or` before v5.12.
    reason: U8  # AccelReason: why bytes *to* this end are, or are not, redirected
    marked: U8  # AccelReason that bars redirecting to it for good; 0: none
    enrolled: U8  # 1: its socket is in the sockhash; 2: it is about to be
    closed: U8  # 1: its socket has closed
    busy: U8  # 1: it has asked for a message's way, and a redirect of its may be under way since
    asks: U8  # 1: its program asks FIONREAD
    overruns: U8  # how often, of late, its peer did not keep up
    stuck: U8  # 1: it waits for redirected bytes that it cannot see; the agent resets the connection


Ends = Annotated[tuple[End, End], pair_of(End)]


@record
class Conn(Record):
    """A TCP connection with at least one end in an enrolled endpoint."""

    end: Ends  # ConnKey's side 0 and side 1
    opened: U64
    generation: U32  # under which `denied` was last asked for a message
    flags: U16  # ConnFlag.INITIATOR_1, CANDIDATE, DIRECT and AUDITED: written once, when the record is made
    denied: U8  # 1: policy turned against the connection; the agent resets it
    pad: U8 = 0

    @property
    def open_ends(self) -> tuple[End, ...]:
        """The ends of this node whose sockets have not closed."""
        return tuple(end for end in self.end if end.cookie and not end.closed)

    @property
    def short_cut(self) -> bool:
        """Whether both ends are on the short cut now."""
        return all(end.enrolled == 1 for end in self.end)


@record
class CookieKey(Record):
    cookie: U64


@record
class ServiceKey(Record):
    addr: Addr
    port: U16
    proto: U8
    pad: U8 = 0


@record
class Service(Record):
    id: U32
    backends: U32  # ready backends; 0: refuse the call
    next: U32  # round robin position
    pad: U32 = 0


@record
class BackendKey(Record):
    service: U32
    index: U32  # 0 to backends - 1


@record
class Backend(Record):
    addr: Addr
    port: U16
    pad0: U16 = 0
    pad1: U32 = 0


@record
class ReverseKey(Record):
    """Which service address a socket asked for, by the backend it got."""

    cookie: U64
    addr: Addr
    port: U16
    proto: U8
    pad0: U8 = 0
    pad1: U32 = 0


@record
class ReverseValue(Record):
    addr: Addr
    port: U16
    pad0: U16 = 0
    pad1: U32 = 0


@record
class FragKey(Record):
    saddr: Addr
    daddr: Addr
    id: U32
    proto: U32


@record
class FragValue(Record):
    sport: U16
    dport: U16


@record
class Caught(Record):
    """An endpoint whose program reads in a way that no hook can see coming: kept off the short cut."""

    reason: U32  # AccelReason
    count: U32


@record
class Counter(Record):
    value: U64


@record
class TrafficKey(Record):
    """One row of the drop counters."""

    reason: U16  # DropReason
    direction: U8
    pad: U8 = 0


@record
class TrafficValue(Record):
    packets: U64
    bytes: U64


@record
class FlowEvent(Record):
    """One event of the ring buffer. Source and destination are those of the connection's first packet."""

    time: U64
    cookie: U64
    saddr: Addr
    daddr: Addr
    sport: U16
    dport: U16
    proto: U8
    type: U8  # EventType
    hook: U8  # Hook
    direction: U8  # Direction, of the policy that decided
    src_identity: U32
    dst_identity: U32
    src_endpoint: U32
    dst_endpoint: U32
    egress_rule: U32
    ingress_rule: U32
    verdict: U8  # Verdict
    reason: U8  # DropReason
    tcp_flags: U8
    accel: U8  # 1: bytes took the short cut
    accel_reason: U8x2  # AccelReason of source and destination
    icmp_type: U8
    icmp_code: U8
    tx_bytes: U64  # source to destination, short cut included
    rx_bytes: U64
    tx_redirected: U64
    rx_redirected: U64
    duration: U64
    flags: U32  # ConnFlag of the connection, where there is one
    pad: U32 = 0


RecordType = type[Record]


@dataclasses.dataclass(frozen=True)
class MapSpec:
    """A map as C and Python agree on it. `type` is bcc's table name; a key or value of None has no layout of ours."""

    name: str
    type: str
    key: RecordType | None
    value: RecordType | None
    max_entries: int
    flags: int = 0


BPF_F_NO_PREALLOC = 1

MAPS: tuple[MapSpec, ...] = (
    MapSpec("config", "array", None, Config, 1),
    MapSpec("endpoints", "hash", EndpointKey, Endpoint, 4096),
    MapSpec("endpoint_ips", "hash", AddrKey, EndpointRef, 16384),
    MapSpec("endpoint_netns", "hash", NetnsKey, EndpointRef, 4096),
    MapSpec("endpoint_ifaces", "hash", IfaceKey, EndpointRef, 4096),
    MapSpec("ipcache", "lpm_trie", IpcacheKey, IpcacheValue, 262144, BPF_F_NO_PREALLOC),
    MapSpec("policy", "hash", PolicyKey, PolicyValue, 65536),
    MapSpec("ct", "lru_hash", CtKey, CtEntry, 131072),
    MapSpec("conns", "hash", ConnKey, Conn, 65536),
    MapSpec("socks", "sockhash", CookieKey, CookieKey, 131072),
    MapSpec("services", "hash", ServiceKey, Service, 16384),
    MapSpec("backends", "hash", BackendKey, Backend, 65536),
    MapSpec("reverse", "lru_hash", ReverseKey, ReverseValue, 65536),
    MapSpec("frags", "lru_hash", FragKey, FragValue, 8192),
    MapSpec("caught", "lru_hash", EndpointKey, Caught, 4096),
    MapSpec("counters", "percpu_array", None, Counter, 64),
    MapSpec("traffic", "percpu_hash", TrafficKey, TrafficValue, 1024),
    MapSpec("events", "ringbuf", None, FlowEvent, 4 << 20),  # bytes
)

MAP_BY_NAME = {spec.name: spec for spec in MAPS}

ENUMS: tuple[type[enum.IntEnum] | type[enum.IntFlag], ...] = (
    Verdict, Direction, Rank, Proto, ReservedIdentity, DropReason, EventType, Hook, AccelReason, EndpointFlag, ConnFlag,
    CtFlag, Metric,
)  # fmt: skip

RECORDS: tuple[type[Record], ...] = tuple(
    dict.fromkeys(
        [End]
        + [r for spec in MAPS for r in (spec.key, spec.value) if r is not None]
        + [EndpointRef, CookieKey, FlowEvent]
    )
)


def header() -> str:
    """Return the text of bpf/mesh_abi.h."""
    lines = [
        "/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */",
        "/* Written by `python -m loader.abi`; edit loader/abi.py instead. */",
        "#pragma once",
        "#include <linux/types.h>",
        "",
    ]
    for enumeration in ENUMS:
        prefix = c_name(enumeration).upper()
        lines.append(f"enum {c_name(enumeration)} {{")
        lines += [f"  {prefix}_{member.name} = {int(member)}," for member in enumeration]
        lines += ["};", ""]
    for cls in RECORDS:
        tag = f"struct {c_name(cls)}"
        lines.append(f"{tag} {{")
        for name, field, _ in cls.FIELDS:
            lines.append(f"  {field.c_type} {name}{f'[{field.count}]' if field.count else ''};")
        lines.append("};")
        lines.append(f'_Static_assert(sizeof({tag}) == {cls.SIZE}, "{tag}");')
        for name, _, offset in cls.FIELDS:
            lines.append(f'_Static_assert(__builtin_offsetof({tag}, {name}) == {offset}, "{tag}.{name}");')
        lines.append("")
    for spec in MAPS:
        lines.append(f"#define MAX_{spec.name.upper()} {spec.max_entries}")
    lines.append(f"#define FIRST_CIDR_IDENTITY {FIRST_CIDR_IDENTITY}")
    return "\n".join(lines) + "\n"


def fingerprint() -> str:
    """Return a short hash of the maps and their records' fields: pinned maps of another layout are never adopted."""
    layout = [(s.name, s.type, s.max_entries, *(_layout(r) for r in (s.key, s.value) if r)) for s in MAPS]
    return hashlib.sha256(repr(layout).encode()).hexdigest()[:12]


def _layout(cls: type[Record]) -> tuple[object, ...]:
    fields = [(name, f.code, at, _layout(f.of) if f.of else None) for name, f, at in cls.FIELDS]
    return cls.__name__, fields


if __name__ == "__main__":
    print(header(), end="")
