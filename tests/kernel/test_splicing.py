"""A call that moves bytes from a socket into a pipe cannot see redirected ones: whichever it is, it is noticed."""

import ctypes
import os
import select
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from control.inspect import barred
from loader import abi
from loader.maps import Maps
from tests.hosts import Mesh, Node, namespaces
from tests.hosts.wait import wait_until
from tests.kernel.look import data, name, recv, short, state
from tests.kernel.pairs import Maker, Pair, connect
from tests.kernel.street import mesh_part

_LIBC = ctypes.CDLL(None, use_errno=True)
_SPLICE, _NONBLOCK = 275, 2  # x86-64


def _splice_with_a_full_register(pipe: int, fd: int) -> int:
    """The kernel takes a descriptor for 32 bits, whatever the upper half of its register holds."""
    words = (_SPLICE, fd | 1 << 32, 0, pipe, 0, 4096, _NONBLOCK)
    moved: int = _LIBC.syscall(*map(ctypes.c_long, words))
    if moved < 0:
        raise OSError(ctypes.get_errno(), "splice")
    return moved


WAYS: dict[str, Callable[[int, int], int]] = {
    "splice": lambda pipe, fd: os.splice(fd, pipe, 4096, flags=os.SPLICE_F_NONBLOCK),
    "splice, full register": _splice_with_a_full_register,
    "sendfile": lambda pipe, fd: os.sendfile(pipe, fd, None, 4096),
}


TCP_RTO_MAX_MS = 44
DENY_THIRD = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "third", "namespace": "default"},
    "spec": {"podSelector": {"matchLabels": {"app": "third"}}, "policyTypes": ["Ingress"]},
}


@dataclass
class Place:
    mesh: Mesh
    maps: Maps
    client: Maker
    server: Maker
    pipe: int

    def pair(self) -> Pair:
        """Return a new connection of two pods of which nothing is remembered."""
        for key, _ in list(self.maps.caught.items()):
            self.maps.caught.delete(key)
        return connect(self.client, self.server, self.maps)

    def move(self, way: str, sock: socket.socket) -> str:
        """Move what there is into the pipe; nobody reads that."""
        try:
            return str(WAYS[way](self.pipe, sock.fileno()))
        except OSError as error:
            return name(error)


@pytest.fixture(scope="module")
def place(root: None) -> Iterator[Place]:
    inner, outer = os.pipe2(os.O_NONBLOCK)
    with Node("splicing") as node:
        client, server = Maker(node.pod("client")), Maker(node.pod("server"))
        node.pod("third")
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            yield Place(mesh, maps, client, server, outer)
    os.close(inner)
    os.close(outer)


@pytest.mark.parametrize("way", WAYS)
def test_who_does_it_before_bytes_come_is_never_short_cut(place: Place, way: str) -> None:
    pair = place.pair()
    assert place.move(way, pair.b) == "EAGAIN"
    assert not pair.warm_up()
    assert pair.redirected(pair.a) == 0
    assert abi.AccelReason.SPLICE in [end.marked for end in pair.record().end]
    pair.a.send(b"hello")
    assert place.move(way, pair.b) == "5"
    pair.close()


@pytest.mark.parametrize("way", WAYS)
def test_who_does_it_with_redirected_bytes_waiting_is_reset_and_on_record(place: Place, way: str) -> None:
    before = len(place.mesh.flows())
    pair = place.pair()
    assert pair.warm_up()
    pair.a.send(b"redirected")
    assert place.move(way, pair.b) == "EAGAIN"
    assert state(pair.b, "CLOSE") == "CLOSE"
    assert (recv(pair.b, 100), recv(pair.b, 100)) == ("b'redirected'", "ECONNRESET")
    place.mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "stuck", "the record of it", since=before)
    pair.close()
    after = connect(place.client, place.server, place.maps)
    assert not after.warm_up() and after.end(after.b).reason == abi.AccelReason.PROGRAM
    assert after.redirected(after.a) == 0
    assert place.move(way, after.b) == "EAGAIN"
    assert after.end(after.b).marked == abi.AccelReason.SPLICE
    after.close()


@pytest.mark.parametrize("reader", ["source", "destination"])
@pytest.mark.parametrize("lower", ["source", "destination"])
def test_the_record_has_the_caller_as_source_whoever_has_the_lower_address(
    place: Place, lower: str, reader: str
) -> None:
    before = len(place.mesh.flows())
    place.pair().close()  # nothing is remembered from now on
    caller, called = (place.client, place.server) if lower == "source" else (place.server, place.client)
    pair = connect(caller, called, place.maps)
    assert (pair.a.getsockname()[0] < pair.b.getsockname()[0]) == (lower == "source")
    assert pair.warm_up()
    sender, stuck = (pair.b, pair.a) if reader == "source" else (pair.a, pair.b)
    sender.send(b"redirected")
    assert place.move("splice", stuck) == "EAGAIN"
    found = place.mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "stuck", "the record of it", since=before)
    (client, port), (server, served) = pair.a.getsockname(), pair.b.getsockname()
    assert (found["IP"]["source"], found["IP"]["destination"]) == (client, server)
    assert found["l4"]["TCP"] == {"source_port": port, "destination_port": served}
    assert [found[end]["pod_name"] for end in ("source", "destination")] == [caller.pod.name, called.pod.name]
    assert mesh_part(found)["reader"] == {"end": reader, "reason": "splice"}
    assert mesh_part(found)["short_cut_reason"][reader] == "splice"
    assert [*barred.endpoints(place.maps).values()] == [abi.AccelReason.PROGRAM]
    pair.close()


def _read_slowly(sock: socket.socket, size: int, times: int) -> bytes:
    """Read so often, 50 times a second."""
    began, got = time.monotonic(), []
    for number in range(times):
        wait_until(partial(_is_past, began + number * 0.02), "time for the next read", 1)
        got.append(sock.recv(size))
    return b"".join(got)


def _left_unread(place: Place, size: int) -> tuple[Pair, bytes]:
    """Return a pair on the short cut whose `a` has sent so much and closed, and what that was."""
    pair, content = place.pair(), data(size)
    assert pair.warm_up()
    assert pair.a.send(content) == len(content)
    pair.a.close()
    return pair, content


def _is_past(when: float) -> bool:
    return time.monotonic() > when


def test_who_reads_slowly_is_not_told_of_the_end_before_its_bytes(place: Place) -> None:
    pair, content = _left_unread(place, 4000)
    got = _read_slowly(pair.b, 7, 100)  # for twice as long as one who does not read at all is given
    assert short(got) == short(content[: len(got)])
    assert place.move("splice", pair.b) == "EAGAIN", "bytes wait: this is not the end"
    assert state(pair.b, "CLOSE") == "CLOSE"
    pair.b.close()


def test_an_edit_lets_the_end_not_pass_its_bytes(place: Place) -> None:
    """It is of another pod's policy; each connection is judged anew all the same."""
    pair, content = _left_unread(place, 4000)
    got = _read_slowly(pair.b, 7, 10)
    place.mesh.apply("third", DENY_THIRD)
    place.mesh.settle()
    got += _read_slowly(pair.b, 7, 30)
    place.mesh.delete("third")
    assert short(got) == short(content[: len(got)])
    assert place.move("splice", pair.b) == "EAGAIN", "bytes wait: this is not the end"
    pair.b.close()


@pytest.mark.parametrize("where", ["socket", "pod"])
def test_a_short_timer_does_not_lose_the_end(place: Place, where: str) -> None:
    """A kernel gives up what a program left when its timer has grown to the bound that it, or its pod, has set."""
    bound = {"ipv4/tcp_rto_max_ms": "1000" if where == "pod" else "120000"}
    try:
        namespaces.set_sysctls(place.client.pod.netns, bound)
    except FileNotFoundError:
        assert tuple(map(int, os.uname().release.split(".")[:2])) < (6, 15)
        return
    pair = place.pair()
    if where == "socket":
        pair.a.setsockopt(socket.IPPROTO_TCP, TCP_RTO_MAX_MS, 1000)
    assert pair.warm_up()
    assert pair.a.send(data(200)) == 200
    pair.a.close()
    assert short(_read_slowly(pair.b, 1, 200)) == short(data(200))
    wait_until(lambda: recv(pair.b, 1) == "b''", "the end of the stream", 15)
    pair.b.close()
    namespaces.set_sysctls(place.client.pod.netns, {"ipv4/tcp_rto_max_ms": "120000"})


def test_the_end_comes_once_a_slow_reader_has_read_all(place: Place) -> None:
    pair = place.pair()
    assert pair.warm_up()
    assert pair.a.send(data(1000)) == 1000
    pair.a.close()
    assert short(_read_slowly(pair.b, 10, 100)) == short(data(1000))
    wait_until(lambda: recv(pair.b, 1) == "b''", "the end of the stream", 10)
    pair.b.close()


def test_who_does_not_read_is_told_of_the_end_after_a_second(place: Place) -> None:
    pair = place.pair()
    assert pair.warm_up()
    pair.a.send(b"unread")
    pair.a.close()
    poll, began = select.poll(), time.monotonic()
    poll.register(pair.b, select.POLLRDHUP)
    assert poll.poll(10_000) != []
    assert 0.9 < time.monotonic() - began < 5
    assert [recv(pair.b, 100), recv(pair.b, 100)] == ["b'unread'", "b''"]
    pair.b.close()
