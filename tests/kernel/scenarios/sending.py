"""Ways to send, and what the sender is told of it."""

import contextlib
import os
import select
import socket
import struct
import time

from tests.kernel.look import data, name, recv, send, short, unsent
from tests.kernel.pairs import Pair, receive
from tests.kernel.scenarios import See, cold, option, prepared, scenario, wait_in

SO_TIMESTAMPING, WHEN_ACKNOWLEDGED = 37, 0x10 | 1 << 9 | 1 << 7 | 1 << 11  # software, TX_ACK, OPT_ID, OPT_TSONLY


@scenario
def zerocopy_notices(p: Pair, see: See) -> None:
    p.a.setsockopt(socket.SOL_SOCKET, 60, 1)  # SO_ZEROCOPY
    see("send", send(p.a, data(20000), 0x4000000))
    see("unsent", unsent(p.a))
    see("read", recv(p.b, 20000))
    see("unsent", unsent(p.a))
    poll = select.poll()
    poll.register(p.a, 0)
    see("poll", [bits for _, bits in poll.poll(1000)])
    try:
        _, control, _, _ = p.a.recvmsg(0, 200, socket.MSG_ERRQUEUE)
        see("notice", [struct.unpack("IBBBBII", value[:16])[0::4] for _, _, value in control])
    except OSError as error:
        see("notice", name(error))


prepared(option(socket.SOL_SOCKET, 60), "zerocopy_notices_asked_for_before", barred=True)(zerocopy_notices)


@scenario
def timestamps_of_acknowledgement(p: Pair, see: See) -> None:
    p.a.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, WHEN_ACKNOWLEDGED)
    see("send", send(p.a, data(100)))
    see("unsent", unsent(p.a))
    poll = select.poll()
    poll.register(p.a, 0)
    see("poll", [bits for _, bits in poll.poll(500)])


@cold
def timestamps_of_acknowledgement_asked_for_before(p: Pair, see: See) -> None:
    p.a.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, WHEN_ACKNOWLEDGED)
    p.warm_up()
    unsent(p.a)
    with contextlib.suppress(BlockingIOError):
        while True:
            p.a.recvmsg(0, 200, socket.MSG_ERRQUEUE)
    timestamps_of_acknowledgement(p, see)


SO_MAX_PACING_RATE = 47
pace = option(socket.SOL_SOCKET, SO_MAX_PACING_RATE, 100_000)


@scenario
def pacing_rate(p: Pair, see: See) -> None:
    """Who sets a bound to what it sends goes off the short cut at once: of two bursts the second has to wait."""
    pace(p.a)
    began = time.monotonic()
    for _ in range(2):
        see("send", send(p.a, data(30000)))
        see("read", receive(p.b, 30000) == data(30000))
    see("held back", time.monotonic() - began > 0.1)


prepared(pace, "pacing_rate_asked_for_before", barred=True)(pacing_rate)


@scenario
def splice_and_sendfile_to_the_socket(p: Pair, see: See) -> None:
    inner, outer = os.pipe()
    os.write(outer, data(5000))
    see("splice", os.splice(inner, p.a.fileno(), 5000))
    see("unsent", unsent(p.a))
    see("read", recv(p.b, 6000))
    file = os.memfd_create("x")
    os.write(file, data(90000))
    see("sendfile", os.sendfile(p.a.fileno(), file, 10, 30000))
    see("unsent", unsent(p.a))
    see("read", receive(p.b, 30000) == data(30000, 10))
    for fd in (inner, outer, file):
        os.close(fd)


@scenario
def splice_from_the_socket_before_bytes(p: Pair, see: See) -> None:
    inner, outer = os.pipe()
    try:
        os.splice(p.b.fileno(), outer, 100, flags=os.SPLICE_F_NONBLOCK)
    except OSError as error:
        see("nothing there", name(error))
    see("send", send(p.a, data(3000)))
    see("unsent", unsent(p.a))
    see("splice", os.splice(p.b.fileno(), outer, 5000, flags=os.SPLICE_F_NONBLOCK))
    see("read", short(os.read(inner, 5000)))
    os.close(inner)
    os.close(outer)


@scenario
def splice_of_waiting_bytes_after_the_peers_end(p: Pair, see: See) -> None:
    """Whatever a splice says, it is never that the stream has ended before its bytes."""
    see("waiting", wait_in(p, p.a, 3000))
    p.a.shutdown(socket.SHUT_WR)
    inner, outer = os.pipe()
    try:
        see("splice", os.splice(p.b.fileno(), outer, 5000, flags=os.SPLICE_F_NONBLOCK))
    except OSError as error:
        see("splice", name(error))
    see("rest", recv(p.b, 5000))
    os.close(inner)
    os.close(outer)
