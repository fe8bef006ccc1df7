"""What sockmap changes for good: the lines that a scenario tells otherwise on the short cut, and why.

A line is named by its number in the scenario's story, from 0. Anything else that differs, and a line here that does not
differ any more, fails the test. Kernels differ, too: `known_here` gives the table of this one. `docs/limits.md` tells
people of them.
"""

import socket
from dataclasses import dataclass

from loader import btf, compiler

CLOSES = "closes with bytes unread"
SENDS_MORE = "sends more over TCP, and asks SIOCOUTQ"
PEEKS = "peeks, or shuts down and waits for its peer's state"
IS_RESET = "is reset by its peer"
SENDS_AFTER_RESET = "sends after its peer's reset"
BLOCKS_AGAIN = "is set back to blocking"
POLLS_END = "polls for its peer's end (POLLRDHUP) with bytes unread"
SPLICES_NOW = "splices now, with redirected bytes waiting"
SETS_OPTIONS = "sets SO_RCVLOWAT, SO_PEEK_OFF, SO_TIMESTAMP or TCP_INQ now"
DISCARDS = "discards by MSG_TRUNC, or reads by MSG_OOB"
URGENT = "is sent an urgent byte (MSG_OOB)"
COUNTS = (
    "asks FIONREAD for the first time, with bytes unread of the kind that its kernel does not count "
    "(redirected ones before 2026, those of TCP since)"
)


@dataclass(frozen=True)
class Known:
    """Differences of one scenario; `rows`: the first cells of the rows that tell a reader of them."""

    why: str
    rows: tuple[str, ...]
    lines: dict[int, tuple[str, str]]  # number -> over TCP, on the short cut


_NO_RESET = "TCP resets a peer whose bytes nobody read; it does not know of redirected bytes, so it says FIN."
_ERROR_STAYS = "The short cut's send reports a socket's error and leaves it there; TCP's takes it away."
_HELD = "What came over TCP is held back while redirected bytes wait, so to its sender it is on its way."
_TOO_LATE = "The option is for bytes of TCP; those that wait were redirected before it was set."
_STUCK = "The short cut's read knows no such flag and copies bytes, so the agent resets the connection."

KNOWN = {
    "reset_with_waiting_bytes_send_first": Known(
        _ERROR_STAYS, (SENDS_AFTER_RESET,), {3: ("SO_ERROR: 0", "SO_ERROR: ECONNRESET")}
    ),
    "close_unread": Known(
        _NO_RESET,
        (CLOSES,),
        {
            1: ("state: CLOSE", "state: CLOSE_WAIT"),
            2: ("poll: IN+OUT+ERR+HUP+RDNORM+RDHUP", "poll: IN+OUT+RDNORM+RDHUP"),
            3: ("read: ECONNRESET", "read: b''"),
            4: ("send: EPIPE", "send: 1"),
        },
    ),
    "close_partly_unread": Known(
        _NO_RESET,
        (CLOSES,),
        {2: ("state: CLOSE", "state: CLOSE_WAIT"), 3: ("SO_ERROR: ECONNRESET", "SO_ERROR: 0")},
    ),
    "close_unread_after_the_answer": Known(
        _NO_RESET,
        (CLOSES,),
        {
            2: ("state: CLOSE", "state: CLOSE_WAIT"),
            3: ("poll: IN+OUT+ERR+HUP+RDNORM+RDHUP", "poll: IN+OUT+RDNORM+RDHUP"),
            4: (
                "answer read: 2000 bytes 361b54de2bcb, then ECONNRESET",
                "answer read: 2000 bytes 361b54de2bcb, then the end",
            ),
        },
    ),
    "close_unread_after_shutdown": Known(
        _NO_RESET,
        (CLOSES,),
        {
            2: ("state: CLOSE", "state: CLOSE_WAIT"),
            3: ("poll: IN+OUT+ERR+HUP+RDNORM+RDHUP", "poll: IN+OUT+RDNORM+RDHUP"),
            5: ("send: EPIPE", "send: 1"),
        },
    ),
    "close_unread_after_the_peers_shutdown": Known(_NO_RESET, (CLOSES,), {3: ("read: ECONNRESET", "read: b''")}),
    "peek_at_bytes_that_came_both_ways": Known(
        _HELD,
        (SENDS_MORE, PEEKS),
        {
            0: ("unsent: 0", "unsent: 8000"),
            1: ("peek: 50000 bytes 0ba646d50c1a", "peek: 42000 bytes 6df04635397a"),
        },
    ),
    "read_bytes_that_came_both_ways": Known(_HELD, (SENDS_MORE,), {0: ("unsent: 0", "unsent: 8000")}),
    "reset_with_bytes_that_came_both_ways": Known(
        "What is held back is unsent to TCP, and a close by reset throws away what is unsent.",
        (SENDS_MORE, IS_RESET),
        {
            0: ("unsent: 0", "unsent: 8000"),
            2: ("rest: 50000 bytes 0ba646d50c1a, then ECONNRESET", "rest: 42000 bytes 6df04635397a, then ECONNRESET"),
        },
    ),
    "peek_offset_with_waiting_bytes": Known(
        _TOO_LATE, (SETS_OPTIONS,), {3: ("peek on: b'0200030004'", "peek on: b'0000000100'")}
    ),
    "discard": Known(
        _STUCK,
        (DISCARDS,),
        {
            1: ("discarded: 40", "discarded: -1"),
            2: ("state: ESTABLISHED", "state: CLOSE"),
            3: ("next: b'00100011001200130014'", "next: b'00000001000200030004'"),
            5: (
                r"buffer: b'\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee\xee'",
                "buffer: b'0005000600070008'",
            ),
            6: ("next: b'001900200021002200230024'", "next: 64 bytes ad9eb3b78be1"),
        },
    ),
    "bytes_left_as_control_message_asked_for_late": Known(
        _TOO_LATE,
        (SETS_OPTIONS,),
        {
            1: (
                r"recvmsg: ('30 bytes da176d0846b4', [(6, 36, b'F\x00\x00\x00')])",
                "recvmsg: ('30 bytes da176d0846b4', [])",
            )
        },
    ),
    "timestamps_of_reception_asked_for_late": Known(
        _TOO_LATE, (SETS_OPTIONS,), {1: ("stamps: [(1, 29, 16)]", "stamps: []")}
    ),
    "fionread_of_bytes_that_came_both_ways": Known(
        _HELD, (SENDS_MORE, PEEKS), {2: ("unsent: 0", "unsent: 3000"), 3: ("FIONREAD: 4000", "FIONREAD: 1000")}
    ),
    "low_water_mark_with_waiting_bytes": Known(
        _TOO_LATE,
        (SETS_OPTIONS, SENDS_MORE),
        {1: ("poll: OUT", "poll: IN+OUT+RDNORM"), 3: ("unsent: 0", "unsent: 900")},
    ),
    "wait_for_all_when_blocking_again": Known(
        "The short cut's read gives what is there; MSG_WAITALL is TCP's.",
        (BLOCKS_AGAIN,),
        {2: ("read: ['1000 bytes 757fdca3b476']", "read: ['400 bytes cfceb0f9ad19']")},
    ),
    "blocking_again": Known(
        "The short cut's read waits for one wake-up only; this call began before a packet could put the socket off it.",
        (BLOCKS_AGAIN,),
        {2: ("""read: ["b'hello'"]""", "read: ['EAGAIN']")},
    ),
    "urgent_byte_behind_waiting_bytes_read_first": Known(
        _STUCK,
        (URGENT, DISCARDS),
        {
            3: ("poll: IN+PRI+OUT+RDNORM", "poll: IN+OUT+RDNORM"),
            5: ("urgent: b'U'", "urgent: b'0'"),
            6: ("state: ESTABLISHED", "state: CLOSE"),
            8: ("read: b'00000001'", "read: b'0000001'"),
            9: ("mark: 1", "mark: 0"),
            10: ("read: b'00020003'", "read: ECONNRESET"),
        },
    ),
    "urgent_byte_behind_waiting_bytes_read_last": Known(
        "The urgent byte's packet is held back while redirected bytes wait.",
        (URGENT,),
        {3: ("poll: IN+PRI+OUT+RDNORM", "poll: IN+OUT+RDNORM")},
    ),
    "urgent_byte_in_line": Known(
        _STUCK,
        (URGENT, DISCARDS),
        {
            3: ("poll: IN+PRI+OUT+RDNORM", "poll: IN+OUT+RDNORM"),
            5: ("urgent: EINVAL", "urgent: b'0'"),
            6: ("state: ESTABLISHED", "state: CLOSE"),
            7: ("read: b'00000001'", "read: b'0000001'"),
            8: ("mark: 1", "mark: 0"),
            9: ("read: b'U00020003'", "read: ECONNRESET"),
        },
    ),
    "urgent_byte_asked_for_where_there_is_none": Known(
        "The short cut's read knows no such flag; the first who asks is told that nothing is there, in other words.",
        (DISCARDS,),
        {0: ("urgent: EINVAL", "urgent: EAGAIN")},
    ),
    "end_behind_waiting_bytes": Known(
        "The end is held back while redirected bytes wait: a splice would take it for the end of them, too.",
        (POLLS_END,),
        {1: ("poll: IN+OUT+RDNORM+RDHUP", "poll: IN+OUT+RDNORM")},
    ),
    "splice_of_waiting_bytes_after_the_peers_end": Known(
        "A splice does not see redirected bytes, so the agent resets the connection; the end is held back meanwhile.",
        (SPLICES_NOW,),
        {1: ("splice: 3000", "splice: EAGAIN"), 2: ("rest: b''", "rest: 3000 bytes 2f8bd24469f6")},
    ),
    "urgent_byte_asked_for_with_waiting_bytes": Known(
        _STUCK,
        (DISCARDS,),
        {
            1: ("urgent: EINVAL", "urgent: b'0'"),
            2: ("state: ESTABLISHED", "state: CLOSE"),
            3: ("read: b'00000001'", "read: b'0000001'"),
            4: ("read: EAGAIN", "read: ECONNRESET"),
        },
    ),
}

# Where FIONREAD does not know redirected bytes.
UNCOUNTED = {
    "fionread_of_bytes_that_came_both_ways": Known(
        "The answer leaves redirected bytes out, so a program that asks while some wait is reset.",
        (COUNTS, SENDS_MORE),
        {
            2: ("unsent: 0", "unsent: 3000"),
            3: ("FIONREAD: 4000", "FIONREAD: 0"),
            5: ("FIONREAD: 3000", "FIONREAD: 0"),
        },
    ),
}


def known_here() -> dict[str, Known]:
    """Return what differs on this kernel."""
    here = dict(KNOWN)
    if not compiler.fionread_counts(btf.Btf.of_kernel()):
        here |= UNCOUNTED
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, 42, 0)  # SO_PEEK_OFF
        except OSError:  # TCP knows it from 6.9 on
            del here["peek_offset_with_waiting_bytes"]
    return here
