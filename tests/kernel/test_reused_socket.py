"""What is on record of a socket that is freed says nothing of the one that has its address now."""

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterator

from tests.hosts import Mesh, Node
from tests.hosts.wait import wait_until
from tests.kernel.pairs import Maker, Pair, connect

TRIES, LEFT, HEIRS = 10, 16, 60


@contextlib.contextmanager
def _on_one_core() -> Iterator[None]:
    """The kernel keeps a list of free sockets for each core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _broken(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, 0)
    return bool(poll.poll(0))


def _reused(new: Callable[[], Pair]) -> tuple[Pair, Pair, socket.socket]:
    """Return a pair whose `a` is closed and freed, another, and that one's end whose socket is where `a` was."""
    for _ in range(TRIES):
        left: dict[int, Pair] = {}
        for _ in range(LEFT):
            pair = new()
            assert pair.warm_up()
            left[pair.end(pair.a).sock] = pair
            pair.a.close()
        for _ in range(HEIRS):
            heir = new()
            for end in (heir.a, heir.b):
                if heir.end(end).sock in left:
                    return left[heir.end(end).sock], heir, end
    raise AssertionError(f"none of {TRIES * LEFT} addresses came back in {TRIES * HEIRS} connections: not tested")


def test_a_slow_reader_at_a_freed_address_holds_no_packet_of_another(root: None) -> None:
    """A closed end stays on record while its peer is open. The kernel gives its address away, mostly to one of the next
    sockets."""
    with Node("reused") as node, _on_one_core():
        client, server = Maker(node.pod("client")), Maker(node.pod("server"))
        with Mesh(node) as mesh, mesh.open_maps() as maps, contextlib.ExitStack() as stack:
            pair, heir, slow = _reused(lambda: stack.enter_context(contextlib.closing(connect(client, server, maps))))
            assert heir.warm_up()
            sender = heir.b if slow is heir.a else heir.a
            before = heir.redirected(sender)
            sender.send(b"unread")
            assert heir.redirected(sender) == before + 6
            pair.b.send(b"to nobody")
            wait_until(lambda: _broken(pair.b), "the answer that nobody is there", 3)
