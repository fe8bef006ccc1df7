"""Bytes both ways as they are, and the end of either side's: a session (see edge/link.py) that asks nobody."""


class Tunnel:
    """See http1.Session for what the names promise."""

    __slots__ = ("_client_ended", "ends_client", "is_broken", "is_over", "to_client", "to_server")

    waits_for_client = True
    becomes = None  # nothing else: see http.Session

    def __init__(self) -> None:
        self.to_server: list[bytes] = []
        self.to_client: list[bytes] = []
        self.is_over = self.is_broken = self.ends_client = self._client_ended = False

    @property
    def is_idle(self) -> bool:
        return False  # as far as anybody can tell

    @property
    def waits_for_head(self) -> bool:
        return False

    @property
    def ends_server(self) -> bool:
        return self._client_ended

    def from_client(self, data: bytes) -> None:
        self.to_server.append(data)

    def from_server(self, data: bytes) -> None:
        self.to_client.append(data)

    def client_ended(self) -> None:
        self._client_ended = True
        self.is_over |= self.ends_client

    def server_ended(self) -> None:
        self.ends_client = True
        self.is_over |= self._client_ended

    def failed(self, why: str) -> None:
        """The server cannot be reached, or is lost: nothing but a reset can tell the client."""
        self.is_over = self.is_broken = True

    def drain(self) -> None:
        """Nobody can tell the ends of a tunnel: it goes on."""

    def cut(self, why: str) -> None:
        """End it, by a reset: what was under way is not whole."""
        self.is_over = self.is_broken = True

    def lost(self, why: str) -> None:
        """The client is gone."""
        self.is_over = True
