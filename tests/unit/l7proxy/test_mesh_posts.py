"""Where the master listens for other nodes: who waits there outlives workers, masters, and a port that is not free."""

import socket

import pytest

from l7proxy.mesh import posts
from l7proxy.mesh.posts import Posts

HERE, THERE = "127.0.0.2", "127.0.0.3"


def free(address: str) -> int:
    with socket.create_server((address, 0)) as found:
        return int(found.getsockname()[1])


def test_one_for_each_worker_where_it_is_wanted_and_nowhere_else() -> None:
    held, port = Posts(2), free(HERE)
    assert held.want(HERE, port) and not held.want(HERE, port)
    first = list(held.sockets)
    assert [each.getsockname() for each in first] == [(HERE, port)] * 2
    assert held.want(THERE, port)
    assert [each.fileno() for each in first] == [-1, -1]
    assert [each.getsockname() for each in held.sockets] == [(THERE, port)] * 2
    assert held.want("", 0) and held.sockets == []


def test_those_of_the_master_before_it_are_taken_over_with_who_waits_in_them() -> None:
    before, after, port = Posts(2), Posts(3), free(HERE)
    before.want(HERE, port)
    elsewhere = posts.listener(THERE, port)
    after.adopt([*(each.dup() for each in before.sockets), elsewhere])
    waiting = [socket.create_connection((HERE, port), 5) for _ in range(8)]
    before.close()
    after.want(HERE, port)
    assert len(after.sockets) == 3 and elsewhere.fileno() == -1
    taken = 0
    for each in after.sockets:
        try:
            while True:
                each.accept()[0].close()
                taken += 1
        except BlockingIOError:
            pass
    assert taken == len(waiting)
    after.close()


def test_a_port_that_is_not_free_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posts, "_RETRY_S", 0.0)
    held = Posts(1)
    with socket.create_server((HERE, 0)) as other:
        held.want(HERE, other.getsockname()[1])
        assert not held.look_after() and held.sockets == []
    assert held.look_after() and len(held.sockets) == 1
    held.close()


def test_a_worker_is_told_where_until_nobody_tells_it_any_more() -> None:
    master, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker.setblocking(False)
    with pytest.raises(BlockingIOError):
        posts.receive(worker)
    with posts.listener(HERE, free(HERE)) as post:
        posts.send(master, [post])
        posts.send(master, [])
        (given,) = posts.receive(worker) or []
        assert given.getsockname() == post.getsockname()
        given.close()
    assert posts.receive(worker) == []
    master.close()
    assert posts.receive(worker) is None
