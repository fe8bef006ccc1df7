"""How connections end: close, shutdown, reset, with and without bytes that wait."""

import socket

from tests.kernel.look import data, ending, events, recv, send, so_error, state, unsent
from tests.kernel.pairs import Pair
from tests.kernel.scenarios import See, reset, scenario, wait_in


@scenario
def reset_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("poll", events(p.b))
    see("part", recv(p.b, 1000))
    see("rest", ending(p.b))
    see("after", recv(p.b, 10))
    see("send", send(p.b, b"x"))
    see("poll", events(p.b))


@scenario
def reset_with_waiting_bytes_asked_for_error_first(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("SO_ERROR", so_error(p.b))
    see("poll", events(p.b))
    see("rest", ending(p.b))
    see("send", send(p.b, b"x"))


@scenario
def reset_with_nothing_waiting_send_first(p: Pair, see: See) -> None:
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("poll", events(p.b))
    see("send", send(p.b, b"x"))
    see("poll", events(p.b))
    see("send again", send(p.b, b"x"))
    see("SO_ERROR", so_error(p.b))
    see("read", recv(p.b, 10))
    see("read again", recv(p.b, 10))


@scenario
def reset_with_nothing_waiting_read_first(p: Pair, see: See) -> None:
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("read", recv(p.b, 10))
    see("read again", recv(p.b, 10))
    see("send", send(p.b, b"x"))
    see("SO_ERROR", so_error(p.b))


@scenario
def reset_with_waiting_bytes_send_first(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("send", send(p.b, b"x"))
    see("SO_ERROR", so_error(p.b))
    see("rest", ending(p.b))


@scenario
def reset_peek_and_empty_read(p: Pair, see: See) -> None:
    reset(p.a)
    see("state", state(p.b, "CLOSE"))
    see("peek", recv(p.b, 10, socket.MSG_PEEK))
    see("peek again", recv(p.b, 10, socket.MSG_PEEK))
    see("read", recv(p.b, 10))


@scenario
def end_behind_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.a.shutdown(socket.SHUT_WR)
    see("poll", events(p.b))
    see("rest", ending(p.b))
    see("poll", events(p.b))
    see("state", state(p.b, "CLOSE_WAIT"))


@scenario
def close_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.a.close()
    see("state", state(p.b, "CLOSE_WAIT"))
    see("poll", events(p.b))
    see("part", recv(p.b, 1000))
    see("poll", events(p.b))
    see("rest", ending(p.b))
    see("poll", events(p.b))
    see("send", send(p.b, b"x"))
    see("state", state(p.b, "CLOSE"))
    see("poll", events(p.b))
    see("send again", send(p.b, b"x"))
    see("read", recv(p.b, 10))


@scenario
def shutdown_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.a.shutdown(socket.SHUT_WR)
    see("state", state(p.b, "CLOSE_WAIT"))
    see("poll", events(p.b))
    see("part", recv(p.b, 1000))
    see("rest", ending(p.b))
    see("poll", events(p.b))
    see("answer", send(p.b, data(2000)))
    see("unsent", unsent(p.b))
    see("poll", events(p.a))
    p.b.close()
    see("answer read", ending(p.a))
    see("poll", events(p.a))


@scenario
def both_shut_down_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    see("waiting", wait_in(p, p.b, 2000))
    p.a.shutdown(socket.SHUT_WR)
    p.b.shutdown(socket.SHUT_WR)
    see("state", state(p.b, "CLOSE"))
    see("poll", events(p.a))
    see("poll", events(p.b))
    see("rest", ending(p.a))
    see("rest", ending(p.b))
    see("poll", events(p.b))


@scenario
def close_unread(p: Pair, see: See) -> None:
    """The end that closes with bytes unread resets: its peer must not believe that they were taken."""
    see("waiting", wait_in(p, p.a, 3000))
    p.b.close()
    see("state", state(p.a, "CLOSE"))
    see("poll", events(p.a))
    see("read", recv(p.a, 10))
    see("send", send(p.a, b"x"))


@scenario
def close_partly_unread(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    see("part", recv(p.b, 1000))
    p.b.close()
    see("state", state(p.a, "CLOSE"))
    see("SO_ERROR", so_error(p.a))
    see("read", recv(p.a, 10))


@scenario
def close_unread_after_the_answer(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.b, 2000))
    see("waiting", wait_in(p, p.a, 3000))
    p.b.close()
    see("state", state(p.a, "CLOSE"))
    see("poll", events(p.a))
    see("answer read", ending(p.a))


@scenario
def close_unread_after_shutdown(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.b.shutdown(socket.SHUT_WR)
    see("state", state(p.a, "CLOSE_WAIT"))
    p.b.close()
    see("state", state(p.a, "CLOSE"))
    see("poll", events(p.a))
    see("read", recv(p.a, 10))
    see("send", send(p.a, b"x"))


@scenario
def close_unread_after_the_peers_shutdown(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.a.shutdown(socket.SHUT_WR)
    see("state", state(p.b, "CLOSE_WAIT"))
    p.b.close()
    see("state", state(p.a, "CLOSE"))
    see("read", recv(p.a, 10))


@scenario
def send_after_own_shutdown(p: Pair, see: See) -> None:
    p.a.shutdown(socket.SHUT_WR)
    see("state", state(p.b, "CLOSE_WAIT"))
    see("send", send(p.a, b"x"))
    see("end", ending(p.b))
    see("send", send(p.a, b"xyz"))
    see("after the end", recv(p.b, 10))


@scenario
def send_after_the_peer_closed(p: Pair, see: See) -> None:
    p.b.close()
    see("state", state(p.a, "CLOSE_WAIT"))
    see("poll", events(p.a))
    see("send", send(p.a, b"x"))
    see("state", state(p.a, "CLOSE"))
    see("SO_ERROR", so_error(p.a))
    see("send again", send(p.a, b"x"))
    see("read", recv(p.a, 10))


@scenario
def shutdown_of_reading(p: Pair, see: See) -> None:
    p.b.shutdown(socket.SHUT_RD)
    see("poll", events(p.b))
    see("read", recv(p.b, 10))
    see("send", send(p.a, b"hello"))
    see("unsent", unsent(p.a))
    see("unsent", unsent(p.a))
    see("read", recv(p.b, 10))
    see("read", recv(p.b, 10))


@scenario
def shutdown_of_reading_with_waiting_bytes(p: Pair, see: See) -> None:
    see("waiting", wait_in(p, p.a, 3000))
    p.b.shutdown(socket.SHUT_RD)
    see("poll", events(p.b))
    see("rest", ending(p.b))
