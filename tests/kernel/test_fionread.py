"""FIONREAD is answered right from a connection's first question on, whatever its descriptor was before."""

import sys

from loader import btf, compiler
from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE
from tests.kernel.pairs import Maker, connect, queued

CONNECTIONS = 100
# Reads a part, asks what is left, and waits for the next edge if the answer is nothing: nginx's manner.
_SERVER = """
import fcntl, select, socket, struct, sys, termios
listener = socket.create_server((sys.argv[1], 7000))
print("ready", flush=True)
for _ in range(int(sys.argv[2])):
    c, _ = listener.accept()
    c.setblocking(False)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    epoll = select.epoll()
    epoll.register(c, select.EPOLLIN | select.EPOLLET)
    have, open_ = 0, True
    while open_:
        if not epoll.poll(5):
            sys.exit(f"no edge for 5 s with {have} bytes of a request of 100")
        left = 1
        while left:
            try:
                data = c.recv(50)
            except BlockingIOError:
                break
            except ConnectionResetError:  # the client leaves with a byte unread
                data = b""
            open_ = bool(data)
            if not open_:
                break
            have += len(data)
            left = struct.unpack("i", fcntl.ioctl(c, termios.FIONREAD, bytes(4)))[0]
        if have >= 100:
            have -= 100
            try:
                c.send(b"o")
                c.send(b"k")
            except (ConnectionResetError, BrokenPipeError):
                open_ = False
    epoll.close()
    c.close()
"""
# One byte of each answer stays unread while the next request is under way, as with pipelining.
_CLIENT = """
import select, socket, sys
for _ in range(int(sys.argv[2])):
    with socket.create_connection((sys.argv[1], 7000), 5) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.setblocking(False)
        poll, got = select.poll(), 0
        poll.register(s, select.POLLIN)
        for number in range(1, 31):
            s.send(b"x" * 100)
            while got < 2 * number - 1:
                if not poll.poll(6000):
                    sys.exit("no answer for 6 s")
                data = s.recv(2 * number - 1 - got)
                if not data:
                    sys.exit("the server closed early")
                got += len(data)
"""


def test_a_reused_descriptor_is_another_connection(root: None) -> None:
    with Node("fionread") as node:
        client, server = node.pod("client"), node.pod("server")
        with Mesh(node):
            serving = server.popen([sys.executable, "-c", _SERVER, server.ip, str(CONNECTIONS)], stdout=-1)
            assert serving.stdout is not None and serving.stdout.readline() == b"ready\n"
            client.run([sys.executable, "-c", _CLIENT, server.ip, str(CONNECTIONS)], timeout=60 * PATIENCE)
            assert serving.wait(10 * PATIENCE) == 0


def test_a_pod_that_has_asked_is_ready_for_the_next_connections_first_question(root: None) -> None:
    """Or, on a kernel that cannot answer it, stays off the short cut."""
    counts = compiler.fionread_counts(btf.Btf.of_kernel())
    with Node("fionread") as node:
        makers = Maker(node.pod("client")), Maker(node.pod("server"))
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            first = connect(*makers, maps)
            assert first.warm_up() and not first.end(first.b).asks
            assert queued(first.b) == 0 and first.end(first.b).asks == counts
            second = connect(*makers, maps)
            assert second.warm_up() == counts, "it takes the short cut as before"
            assert (second.end(second.a).asks, second.end(second.b).asks) == (0, counts)
            for pair in (first, second):
                pair.close()
