"""Whom a transport tells of a connection: asyncio's Protocol by another name, since what is compiled inherits none."""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast


class Hears(Protocol):
    """See asyncio.Protocol."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, error: Exception | None) -> None: ...


def protocol(make: Callable[[], Hears]) -> Callable[[], asyncio.Protocol]:
    """Return what the event loop's calls take, whose types know asyncio's own classes alone."""
    return cast("Callable[[], asyncio.Protocol]", make)
