"""An end whose peer goes away after the last word of both: it is told, though TCP would say nothing more."""

import contextlib
import os
import queue
import socket
import struct
import threading

import pytest

from loader import abi
from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE, wait_until
from tests.kernel.pairs import Maker, connect, receive
from tests.kernel.street import mesh_part

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close is a reset
COUNT = 20_000


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("who", ["client", "server"])
def test_its_bytes_and_then_an_end(root: None, family: int, who: str) -> None:
    """The peer has shut down; its FIN is held back, for what it sent is unread. Then this end shuts down, too, and the
    peer closes by a reset, which TCP does not send any more."""
    with Node("abandoned") as node:
        makers = Maker(node.pod("client")), Maker(node.pod("server"))
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            pair = connect(*makers, maps, family)
            assert pair.warm_up()
            reader, peer = (pair.a, pair.b) if who == "client" else (pair.b, pair.a)
            before = pair.redirected(peer)
            peer.send(b"x" * COUNT)
            assert pair.redirected(peer) == before + COUNT
            peer.shutdown(socket.SHUT_WR)
            reader.shutdown(socket.SHUT_WR)
            wait_until(lambda: peer.recv(1) == b"", "the peer hears the end")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            peer.close()
            assert receive(reader, COUNT) == b"x" * COUNT
            with pytest.raises(ConnectionError):
                assert receive(reader, 1, timeout=5) == b""
                raise ConnectionResetError  # an end is an end, too
            flow = mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "stuck", "it is on record")
            assert "abandoned" in flow["Summary"]
            assert (flow["source"]["pod_name"], flow["destination"]["pod_name"]) == ("client", "server")
            reader.close()


def test_an_ordinary_end_is_nobodys_fault(root: None) -> None:
    """Who closes after both have heard all leaves nobody behind."""
    with Node("abandoned") as node:
        makers = Maker(node.pod("client")), Maker(node.pod("server"))
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            for first in ("a", "b"):
                pair = connect(*makers, maps)
                assert pair.warm_up()
                one, other = (pair.a, pair.b) if first == "a" else (pair.b, pair.a)
                one.send(b"last")
                one.shutdown(socket.SHUT_WR)
                assert receive(other, 5) == b"last"
                other.shutdown(socket.SHUT_WR)
                wait_until(lambda end=one: end.recv(1) == b"", "it hears the end")  # type: ignore[misc]
                pair.close()
            mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "close")
            assert not [flow for flow in mesh.flows() if mesh_part(flow)["event"] == "stuck"]
            assert maps.counter(abi.Metric.STUCK_READERS) == 0


class Busy:
    """Reads a socket to its end without a pause, on a core of its own: what comes finds it at work."""

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[socket.socket | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        while sock := self._todo.get():
            out = b""
            while True:
                try:
                    piece = sock.recv(1 << 16)
                except BlockingIOError:
                    continue
                except OSError:
                    self._done.put(None)
                    break
                out += piece
                if not piece:
                    self._done.put(out)
                    break

    def begin(self, sock: socket.socket) -> None:
        self._todo.put(sock)

    def heard(self) -> bytes | None:
        """Return all that came until the end; None where there was none, but an error."""
        return self._done.get(timeout=20 * PATIENCE)

    def close(self) -> None:
        self._todo.put(None)
        self._thread.join()


def test_who_is_hearing_the_end_is_told_of_no_other(root: None) -> None:
    """TCP answers a FIN before it moves on, so a peer may be gone while this end is still where it waited."""
    with Node("abandoned") as node, contextlib.closing(Busy()) as busy:
        makers = Maker(node.pod("client")), Maker(node.pod("server"))
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            for number in range(200):
                pair = connect(*makers, maps)
                assert pair.warm_up(12)
                first, last = (pair.a, pair.b) if number % 2 else (pair.b, pair.a)
                first.shutdown(socket.SHUT_WR)
                wait_until(lambda end=last: end.recv(1) == b"", "it hears the end")  # type: ignore[misc]
                busy.begin(first)
                last.send(b"answer")
                last.close()
                assert busy.heard() == b"answer"
                first.close()
            mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "close")
            assert not [flow for flow in mesh.flows() if mesh_part(flow)["event"] == "stuck"]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("is_withdrawn", [False, True], ids=["its file is there", "its file is gone"])
def test_a_pod_that_goes_takes_its_last_word_with_it(root: None, family: int, who: str, is_withdrawn: bool) -> None:
    """Its FIN is held back, for what it sent is unread, and its interface goes before it comes again. The reader gets
    all its bytes, and then an end."""
    with Node("abandoned") as node:
        makers = Maker(node.pod("client")), Maker(node.pod("server"))
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            pair = connect(*makers, maps, family)
            assert pair.warm_up()
            reader, peer, gone = (pair.a, pair.b, 1) if who == "client" else (pair.b, pair.a, 0)
            before = pair.redirected(peer)
            peer.send(b"x" * COUNT)
            assert pair.redirected(peer) == before + COUNT
            peer.close()
            makers[gone].close()
            node.remove(node.pods["server" if gone else "client"])
            if is_withdrawn:
                mesh.settle()
            flow = mesh.wait_flow(lambda flow: mesh_part(flow)["event"] == "stuck", "it is on record")
            assert "abandoned" in flow["Summary"]
            assert receive(reader, COUNT) == b"x" * COUNT
            with pytest.raises(ConnectionError):
                assert receive(reader, 1, timeout=5) == b""
                raise ConnectionResetError  # an end is an end, too


def test_a_pod_that_goes_after_all_was_heard_leaves_an_ordinary_end(root: None) -> None:
    with Node("abandoned") as node:
        makers = Maker(node.pod("client")), Maker(node.pod("server"))
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            pair = connect(*makers, maps)
            assert pair.warm_up()
            pair.a.send(b"x" * COUNT)
            pair.a.close()
            assert receive(pair.b, COUNT) == b"x" * COUNT
            assert receive(pair.b, 1, timeout=10) == b""
            makers[0].close()
            node.remove(node.pods["client"])
            mesh.settle()
            assert maps.counter(abi.Metric.STUCK_READERS) == 0
            assert not [flow for flow in mesh.flows() if mesh_part(flow)["event"] == "stuck"]
            pair.b.close()
