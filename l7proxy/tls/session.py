"""A TLS client's connection: judged by the name in its hello, and then bytes both ways as they are.

Whoever asks for another name than rules have gets a reset, before the server hears of it.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from l7proxy.tls import hello
from l7proxy.tunnel import Tunnel


class Asked(NamedTuple):
    """The name that a client asked for and what became of it, for the record. `why`: what was wrong with its hello."""

    name: str
    allowed: bool
    began_ns: int
    why: str = ""


class Session(Tunnel):
    """`judge`: asked once, whether a server of this name may be talked to; "" if the client names none."""

    __slots__ = ("_began", "_hello", "_judge", "_tell")

    def __init__(self, judge: Callable[[str], bool], tell: Callable[[Asked], None]) -> None:
        super().__init__()
        self._judge, self._tell = judge, tell
        self._hello: hello.Hello | None = hello.Hello()  # None: judged
        self._began = time.monotonic_ns()

    def from_client(self, data: bytes) -> None:
        if self._hello is None:
            self.to_server.append(data)
            return
        if self.is_over:
            return
        try:
            name = self._hello.feed(data)
        except hello.NotAHello as error:
            self._refuse("", str(error))
            return
        if name is None:
            return
        if not self._judge(name):
            self._refuse(name, "")
            return
        self._tell(Asked(name, True, self._began))
        self.to_server.append(bytes(self._hello.data))
        self._hello = None

    @property
    def waits_for_head(self) -> bool:
        return self._hello is not None and bool(self._hello.data)

    def cut(self, why: str) -> None:
        if self._hello is not None and not self.is_over:
            self._refuse("", why)
        super().cut(why)

    def client_ended(self) -> None:
        super().client_ended()
        if self._hello is not None and not self.is_over:
            self._refuse("", "the client ended before its hello was whole")

    def lost(self, why: str) -> None:
        if self._hello is not None and not self.is_over:
            self._refuse("", why)
        super().lost(why)

    def _refuse(self, name: str, why: str) -> None:
        self._tell(Asked(name, False, self._began, why))
        self.is_over = self.is_broken = True
