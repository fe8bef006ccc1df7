"""Who hears what an agent tells node proxies: a connection to its socket, and the last of each kind of message.

with subscriber(mesh.run_dir) as heard:
    wait_until(lambda: heard.mesh and heard.mesh.owners, "owners are told")
"""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from control import proxy_feed
from tests.hosts.wait import PATIENCE


class Subscriber:
    """Takes up each turn as soon as it is told, as a proxy does; `said` is all that came, oldest first."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.said: list[proxy_feed.Down] = []

    @property
    def mesh(self) -> proxy_feed.Mesh | None:
        return next((each for each in reversed(self.said) if isinstance(each, proxy_feed.Mesh)), None)

    @property
    def meshes(self) -> list[proxy_feed.Mesh]:
        return [each for each in self.said if isinstance(each, proxy_feed.Mesh)]

    def say(self, kind: str, content: Any) -> None:
        self._sock.sendall(proxy_feed.up(kind, content))

    def listen(self) -> None:
        frames = proxy_feed.Frames(proxy_feed.MOST_DOWN)
        with contextlib.suppress(OSError):
            while data := self._sock.recv(1 << 18):
                for body in frames.feed(data):
                    message = proxy_feed.read_down(body)
                    self.said.append(message)
                    if isinstance(message, proxy_feed.Sets):
                        self.say("turn", message.turn)


@contextlib.contextmanager
def subscriber(run_dir: Path) -> Iterator[Subscriber]:
    """Listen to the agent of a run directory, until the end of the block."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(run_dir / proxy_feed.SOCKET))
        made = Subscriber(sock)
        thread = threading.Thread(target=made.listen, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            sock.shutdown(socket.SHUT_RDWR)
            thread.join(timeout=10 * PATIENCE)
