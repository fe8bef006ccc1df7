"""The words that C and Python share: what a number in a record or an event means."""

import enum


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
    IGMP = 2
    IPIP = 4
    TCP = 6
    UDP = 17
    IPV6 = 41
    GRE = 47
    ESP = 50
    AH = 51
    ICMPV6 = 58
    VRRP = 112
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
    PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL = 180
    POLICY_DENY = 181
    NO_CONFIGURATION_AVAILABLE_TO_PERFORM_POLICY_DECISION = 165
    UNSUPPORTED_L2_PROTOCOL = 166
    AUTH_REQUIRED = 189  # mTLS is demanded of other nodes, and this is plaintext
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
    FAILED = 8  # policy let a pod's TCP call through, and nobody took it


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
    OPTIONS = 21  # a socket option is set that redirected bytes would not honour (time stamps, a filter, a pacing rate)
    COUNTS = 22  # its program asks FIONREAD, which on this kernel does not see redirected bytes
    IO_URING = 20  # a program of this endpoint uses io_uring, whose splices no hook sees
    COMPAT = 23  # a 32-bit program runs in this endpoint's namespace: no hook sees its system calls
    ABANDONED = 26  # its peer went away while the end of its stream was held back: nobody would tell this end
    USED_AGAIN = 25  # the socket had another connection before (connect(2), AF_UNSPEC)
    QUEUE = 24  # an endpoint's host-side interface has a queue that shapes what passes


class EndpointFlag(enum.IntFlag):
    ENROLLED = 1  # policy is in force; without it every packet is dropped
    ACCELERATE = 2
    HAS_CGROUP = 4  # socket hooks are attached to its cgroup, so TCP opens are reported by sock_ops
    HAS_AUDIT = 8  # its policy set holds entries of audit-only policies
    DIRECT = 32  # packets may be put into its interface past the host's: that one is a veth, and shapes nothing
    SELF_TEST = 16  # one of the self-test's own: the short cut is tried on it before anybody else may use it
    NEXT_HAS_AUDIT = 64  # HAS_AUDIT of the edition to come
    PROXIED = 256  # there is a node proxy that looks into what policy wants to be looked into
    PASSING = 128  # what speaks for it passes to or from another: an agent that finds it so closes it
    UNSHAPED = 512  # its host-side interface has no queue that bytes on the short cut would pass by


class Mtls(enum.IntEnum):
    """Whether connections between enrolled pods of two nodes go through both nodes' proxies, in TLS."""

    OFF = 0
    PERMISSIVE = 1  # those that begin here do; plaintext of another node is let in
    STRICT = 2  # plaintext is refused, both ways


class IpcacheFlag(enum.IntFlag):
    MESH = 1  # an enrolled pod of another node


class ProxyFactsFlag(enum.IntFlag):
    MESH = 1  # mTLS is on, and the server is an enrolled pod of another node: never to be called in plaintext


class EditionState(enum.IntEnum):
    """Which edition of identities and policy sets counts. All that an edit changes is switched by this one word."""

    NOW = 0
    BOTH = 1  # a connection must be allowed by both: no packet is judged by the old one here and the new one there
    NEXT = 2


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
    TO_PROXY = 2048  # the node proxy is the server in truth
    FROM_PROXY = 4096  # the node proxy is the client in truth


class Closed(enum.IntEnum):
    """Why an end of a connection is taken for closed; 0: it is open."""

    SOCKET = 1  # its socket has closed
    POD = 2  # its pod is gone, or is none of ours any more: its socket may live
    CUT = 3  # as POD, and its pod's interface is gone: nothing comes from its socket


class CtFlag(enum.IntFlag):
    SEEN_REPLY = 1
    CLOSING = 2  # RST seen, or FIN both ways
    AUDITED = 4
    REPORTED = 8  # an OPEN event was emitted by tc, so the agent emits the CLOSE
    TRACKED = 16  # sock_ops has a record of the connection, or had one
    TO_PROXY = 32  # the pod's peer in it is the node proxy in truth: what goes there is led to the proxy
    FROM_PROXY = (
        64  # the node proxy began it in the name of the one at its address: what goes there is led to the proxy
    )
    FIN_SENT = 128  # by the end that began it
    FIN_ANSWERED = 256  # by the other end


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
    FAILED_CALLS = 32  # TCP calls that policy let through and nobody took
    PASS_SWITCHING = 33  # policy changes over from one edition to the next
    PROXY_PACKETS = 34  # led to the node proxy
    PROXY_LOST = 35  # packets of the node proxy for which there is no way
