"""What the programs remember, count and tell: connections, and what became of them."""

from typing import Annotated

from loader.record import U8, U16, U32, U64, Addr, Record, U8x2, pair_of, record


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
    rule_id: U32
    flags: U32  # CtFlag
    # Who the two ends were when policy was last asked: an address may be another pod's when the end is put on record.
    identity: U32
    peer_identity: U32
    peer_endpoint: U32  # endpoint id; 0: not ours


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
    left: U32  # while packets are held: a sign of what is unread, which changes when its program reads
    moved: U32  # and when it last did so, in units of 2^20 ns since `held`
    # A byte for each fact that changes, so that two CPUs never write one word: BPF has no atomic `or` before v5.12.
    reason: U8  # AccelReason: why bytes *to* this end are, or are not, redirected
    marked: U8  # AccelReason that bars redirecting to it for good; 0: none
    enrolled: U8  # 1: its socket is in the sockhash; 2: it is about to be
    closed: U8  # Closed
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
    def stuck(self) -> bool:
        """Whether an end waits for redirected bytes that it cannot see."""
        return any(end.stuck for end in self.end)

    @property
    def short_cut(self) -> bool:
        """Whether both ends are on the short cut now."""
        return all(end.enrolled == 1 for end in self.end)


@record
class CookieKey(Record):
    cookie: U64


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
class ProxySide(Record):
    """What one end of a connection wants of the node proxy. All zero: it is no endpoint of this node."""

    verdict: U32  # Verdict; PROXY: the bytes must be looked into
    rule_id: U32
    set_id: U32
    peer: U32  # identity of the other end
    endpoint: U32
    identity: U32


@record
class ProxyFacts(Record):
    """What the kernel tells the node proxy of a connection: by getsockopt(2) of the accepted socket."""

    generation: U32  # of the policy that says so
    source: U32  # identity of the client
    target: U32  # and of the server
    flags: U32  # ProxyFactsFlag
    side: Annotated[tuple[ProxySide, ProxySide], pair_of(ProxySide)]  # by Direction: the client's end, the server's


@record
class RoadKey(Record):
    addr: Addr  # of the far end
    endpoint: U32  # the pod


@record
class Road(Record):
    """The link addresses of a pod and of whoever its packets to an address go to first. A packet that is led to the
    node proxy leaves them here for what the proxy sends in its stead."""

    pod: U64  # the first six bytes
    far: U64


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
    icmp_type: U8
    pad: U8 = 0


@record
class Caught(Record):
    """An endpoint whose program reads in a way that no hook can see coming: kept off the short cut, or, if it asks
    FIONREAD (COUNTS), ready for that from each connection's start."""

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
    direction: U8  # Direction, of the policy that decided; of a STUCK one the reader's: EGRESS is the source
    src_identity: U32
    dst_identity: U32
    src_endpoint: U32
    dst_endpoint: U32
    egress_rule: U32
    ingress_rule: U32
    verdict: U8  # Verdict
    # DropReason; of a FAILED call the errno its program is told, 0 where it gave up; of a STUCK one its AccelReason
    reason: U8
    tcp_flags: U8
    accel: U8  # 1: bytes took the short cut
    accel_reason: U8x2  # AccelReason of source and destination
    icmp_type: U8
    icmp_code: U8
    ifindex: U32  # by which a packet came in that is not who it says; 0: of all else
    pad: U32
    tx_bytes: U64  # source to destination, short cut included
    rx_bytes: U64
    tx_redirected: U64
    rx_redirected: U64
    duration: U64
    flags: U32  # ConnFlag of the connection, where there is one
    is_reply: U32 = 0  # of a packet that is dropped: 1 if the other end began, so that `direction` is not its own
