"""Open TCP connections: who talks to whom, and whether each direction takes the short cut or why it does not."""

import dataclasses
from collections.abc import Iterable

from control.flow.summary import accel_word
from control.inspect import tcp, words
from control.names import Names
from loader import abi

# What a reason means, and what can be done about it.
EXPLAIN: dict[abi.AccelReason, str] = {
    abi.AccelReason.UNKNOWN: "nothing is known of this end yet",
    abi.AccelReason.ACTIVE: "bytes go straight into the peer's receive queue whenever it is ready for them",
    abi.AccelReason.PROBATION: "too few packets yet, not accepted yet, bytes of TCP still unread, or the other end "
    "does not qualify (see its own reason)",
    abi.AccelReason.OFF: "the short cut was off on this node when the connection began "
    "(`sockmesh bpf config set acceleration on`)",
    abi.AccelReason.SELF_TEST: "the short cut has not passed its test on this kernel (`sockmesh status`)",
    abi.AccelReason.OPT_OUT: "an endpoint opted out (acceleration: off in its Workload)",
    abi.AccelReason.PEER_REMOTE: "the peer is not an enrolled endpoint of this node",
    abi.AccelReason.BLOCKING: "the program reads with a blocking socket",
    abi.AccelReason.SPLICE: "a program of its pod reads with a call that cannot see redirected bytes (splice(2), "
    "zero-copy receive)",
    abi.AccelReason.LOW_WATER: "the program waits for a minimum of bytes (SO_RCVLOWAT)",
    abi.AccelReason.URGENT: "urgent data was sent (MSG_OOB)",
    abi.AccelReason.MPTCP: "the socket is a Multipath TCP socket",
    abi.AccelReason.ULP: "another protocol layer owns the socket (such as kernel TLS)",
    abi.AccelReason.PROGRAM: "a program of its pod spliced with redirected bytes waiting before, and was reset",
    abi.AccelReason.DENIED: "policy denies the pair",
    abi.AccelReason.MAP_FULL: "a map was full when the connection began (`sockmesh bpf fs list`)",
    abi.AccelReason.LOOPBACK: "both ends are in the same pod",
    abi.AccelReason.ENROL_FAILED: "the kernel refused to put the socket into the sockhash",
    abi.AccelReason.FOREIGN: "another program already owns the socket",
    abi.AccelReason.PEEK_OFF: "the program peeks at an offset (SO_PEEK_OFF)",
    abi.AccelReason.OPTIONS: "a socket option or flag is in use that only bytes of TCP honour (zero-copy, time stamps, "
    "a filter, a pacing rate)",
    abi.AccelReason.COUNTS: "the program asks FIONREAD, which on this kernel does not see redirected bytes",
    abi.AccelReason.IO_URING: "the program uses io_uring, whose reads no hook sees",
    abi.AccelReason.COMPAT: "a 32-bit program runs in its pod, whose system calls no hook sees",
    abi.AccelReason.ABANDONED: "its peer went away by a reset after both had said their last word",
    abi.AccelReason.USED_AGAIN: "its program had another connection with this socket before (connect(2), AF_UNSPEC)",
    abi.AccelReason.QUEUE: "an endpoint's host-side interface has a queue that shapes what passes (`tc qdisc show`)",
}


@dataclasses.dataclass(frozen=True)
class Way:
    """One direction. `reason` is an AccelReason in words and tells about the end that receives."""

    short_cut: bool  # redirected now, whenever the receiver is ready
    reason: str
    explanation: str
    redirected_bytes: int
    redirected_messages: int
    tcp_messages: int  # those of its sender that went over TCP while it was enrolled; before, nobody counts them
    tcp_bytes: int | None  # payload that arrived over TCP; None: unknown
    was_enrolled: bool  # its sender is in the sockhash, or has left it after sending


@dataclasses.dataclass(frozen=True)
class SockRow:
    """A connection; `there` is initiator to listener, `back` the other way."""

    source: words.End
    destination: words.End
    state: str
    there: Way
    back: Way
    age_ns: int
    cookies: tuple[int, int]  # of source and destination; 0: not on this node
    egress_rule: str
    ingress_rule: str
    egress_source: str  # file:line of the rule
    ingress_source: str

    @property
    def redirected(self) -> int:
        return self.there.redirected_bytes + self.back.redirected_bytes


def row(key: abi.ConnKey, conn: abi.Conn, names: Names, counts: tcp.Counts, now: int) -> SockRow:
    """Return one connection in words; `now` is CLOCK_MONOTONIC."""
    side = 1 if conn.flags & abi.ConnFlag.INITIATOR_1 else 0
    other = 1 - side
    addrs, ports = (key.addr0, key.addr1), (key.port0, key.port1)
    source, destination = (
        words.end(names, addrs[s], ports[s], conn.end[s].endpoint, conn.end[s].identity) for s in (side, other)
    )
    return SockRow(
        source=source,
        destination=destination,
        state=_state(conn),
        there=_way(conn, side, tcp.received(key, conn, other, counts)),
        back=_way(conn, other, tcp.received(key, conn, side, counts)),
        age_ns=max(0, now - conn.opened),
        cookies=(conn.end[side].cookie, conn.end[other].cookie),
        egress_rule=words.rule_word(names, conn.end[side].rule),
        ingress_rule=words.rule_word(names, conn.end[other].rule),
        egress_source=words.rule_source(names, conn.end[side].rule),
        ingress_source=words.rule_source(names, conn.end[other].rule),
    )


def rows(conns: tcp.Conns, names: Names, counts: tcp.Counts, now: int) -> tuple[SockRow, ...]:
    """Return every connection, by the names of its ends."""
    found = [row(key, conn, names, counts, now) for key, conn in conns]
    return tuple(sorted(found, key=lambda r: (str(r.destination), str(r.source), r.source.port)))


def matching(found: Iterable[SockRow], text: str) -> tuple[SockRow, ...]:
    """Return the connections with an end that text means: a port, or what `words.End.is_called` takes."""
    return tuple(r for r in found if any(str(e.port) == text or e.is_called(text) for e in (r.source, r.destination)))


def of(found: Iterable[SockRow], wanted: str) -> tuple[SockRow, ...]:
    """Return the connections with an end of that [namespace/]name or address."""
    names = ((row, (row.source, row.destination)) for row in found)
    return tuple(row for row, ends in names if any(wanted in (e.name, e.name.rpartition("/")[2], e.ip) for e in ends))


def _state(conn: abi.Conn) -> str:
    if conn.denied:
        return "denied"
    if conn.stuck:
        return "stuck"
    return "closing" if any(end.closed for end in conn.end) else "open"


def _way(conn: abi.Conn, sender: int, tcp_bytes: int | None) -> Way:
    source, target = conn.end[sender], conn.end[1 - sender]
    reason = target.marked or target.reason
    active = bool(all(end.enrolled for end in conn.end) and reason == abi.AccelReason.ACTIVE and not conn.denied)
    if not active and reason == abi.AccelReason.ACTIVE:
        # Nothing bars this end; the other one is not enrolled, so the pair waits for it.
        reason = int(abi.AccelReason.DENIED if conn.denied else abi.AccelReason.PROBATION)
    return Way(
        short_cut=active,
        reason=accel_word(reason),
        explanation=explain(reason),
        redirected_bytes=source.redirect_bytes,
        redirected_messages=source.redirect_msgs,
        tcp_messages=source.tcp_msgs,
        tcp_bytes=tcp_bytes,
        was_enrolled=bool(source.enrolled or source.redirect_msgs or source.tcp_msgs),
    )


def explain(reason: int) -> str:
    """Return what an AccelReason means, or "" for a number of another version."""
    try:
        return EXPLAIN[abi.AccelReason(reason)]
    except (ValueError, KeyError):
        return ""
