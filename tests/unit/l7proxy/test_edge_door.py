"""A door's link calls its server: what the server hears of a client that is gone before the two have met."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from l7proxy.edge import facts
from l7proxy.edge.door import Door
from l7proxy.edge.limits import Limits
from l7proxy.edge.link import Link
from l7proxy.edge.telling import Notes
from l7proxy.policy.book import Book


class _Never(asyncio.SelectorEventLoop):
    """Makes no transport of a socket that has called."""

    def create_connection(self, *_: object, **__: object) -> Any:
        return self.create_future()


def test_a_server_that_was_called_for_a_client_that_is_gone_hears_a_reset_and_no_good_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def caller(_: str) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        return sock

    monkeypatch.setattr(facts, "caller", caller)

    async def play() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            door = Door(
                Book(), Notes(lambda: None, lambda: None), Limits(), lambda *_: None, cast(Callable[..., Any], None)
            )
            link: Any = door()
            link._facts = facts.unknown("127.0.0.1", 1, *listener.getsockname())
            cast(Link, link).dial()
            async with asyncio.timeout(5):
                taken, _ = await loop.sock_accept(listener)
                await asyncio.sleep(0)  # the call is made, and its transport is not
                link.session.client_ended()
                link.connection_lost(ConnectionResetError())
                with taken, pytest.raises(ConnectionResetError):
                    await loop.sock_recv(taken, 1)

    with asyncio.Runner(loop_factory=_Never) as runner:
        runner.run(play())
