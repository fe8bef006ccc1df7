"""What waits for a socket whose reader may be slow, or stuck: nobody waits with it."""

import socket
from collections import deque


class Outbox:
    """Frames for a socket, each sent whole or not at all; at most so many bytes wait."""

    def __init__(self, sock: socket.socket, most: int) -> None:
        sock.setblocking(False)
        self._sock, self._most = sock, most
        self._frames: deque[memoryview] = deque()
        self._size = 0
        self._has_begun = False  # a part of the first one is sent
        self.lost = 0  # frames for which there was no room

    @property
    def is_empty(self) -> bool:
        return not self._frames

    def put(self, frame: bytes) -> None:
        """Send when there is room; raises OSError when the reader is gone."""
        if self._frames and self._size + len(frame) > self._most:
            self.lost += 1
            return
        self._frames.append(memoryview(frame))
        self._size += len(frame)
        self.flush()

    def put_instead(self, frame: bytes) -> None:
        """Send in place of all that waits, for this one says it all; raises OSError when the reader is gone."""
        while len(self._frames) > self._has_begun:
            self._size -= len(self._frames.pop())
        self.put(frame)

    def flush(self) -> None:
        """Send what the reader takes now; raises OSError when it is gone."""
        while self._frames:
            first = self._frames[0]
            try:
                sent = self._sock.send(first)
            except BlockingIOError:
                return
            self._size -= sent
            self._has_begun = sent < len(first)
            if self._has_begun:
                self._frames[0] = first[sent:]
            else:
                self._frames.popleft()
