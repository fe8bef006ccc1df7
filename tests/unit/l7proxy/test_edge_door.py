"""A door's link without a kernel: what a server hears of a client that is gone, and policy on what waits to be sent."""

import asyncio
import json
import socket
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from control.flow import told
from l7proxy.edge import facts
from l7proxy.edge.door import Door, _Guarded
from l7proxy.edge.limits import Limits
from l7proxy.edge.link import Link
from l7proxy.edge.telling import Notes
from l7proxy.mesh import frames, limits
from l7proxy.mesh.stream import Stream
from l7proxy.policy.book import Book
from tests.unit.l7proxy.test_mesh_stream import ENDS, Wire


class _Never(asyncio.SelectorEventLoop):
    """Makes no transport of a socket that has called."""

    def create_connection(self, *_: object, **__: object) -> Any:
        return self.create_future()


def door() -> Door:
    nothing = cast(Callable[..., Any], None)
    return Door(Book(), Notes(lambda: None, lambda: None), Limits(), nothing, nothing)


def caller(_: str) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    return sock


def run(play: Callable[[], Any]) -> None:
    with asyncio.Runner(loop_factory=_Never) as runner:
        runner.run(play())


def test_a_server_that_was_called_for_a_client_that_is_gone_hears_a_reset_and_no_good_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(facts, "caller", caller)

    async def play() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setblocking(False)
            link: Any = door()()
            link._facts = facts.unknown("127.0.0.1", 1, *listener.getsockname())
            cast(Link, link).dial()
            async with asyncio.timeout(5):
                taken, _ = await loop.sock_accept(listener)
                await asyncio.sleep(0)  # the call is made, and its transport is not
                link.session.client_ended()
                link.connection_lost(ConnectionResetError())
                with taken, pytest.raises(ConnectionResetError):
                    await loop.sock_recv(taken, 1)

    run(play)


def test_policy_that_turns_against_a_closed_stream_ends_it_though_bytes_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "caller", caller)

    async def play() -> None:
        found = facts.unknown(*ENDS)
        said, made, wire = [found], door(), Wire()
        link = _Guarded(made, lambda _: said[-1])
        stream = wire.streams[1] = Stream(wire, 1, link, ENDS)
        link.connection_made(cast(asyncio.Transport, stream))
        stream.write(bytes(2 * limits.FIRST_WINDOW))
        link.close()
        await asyncio.sleep(0)
        link.refresh()
        assert wire.streams and made.links == {link}
        wire.said.clear()
        said.append(found._replace(sides=None))
        made.refresh()
        await asyncio.sleep(0)
        assert wire.said == frames.reset(1, "policy does not let this connection go on")
        assert not wire.streams and not made.links

    run(play)


@pytest.mark.parametrize("ends", [None, ENDS])
def test_the_agent_can_read_what_a_refusal_between_nodes_says(ends: Any) -> None:
    made = door()
    made.node = cast(Any, SimpleNamespace(at=("10.2.0.1", 4743)))
    made.tell_refusal("no certificate", ("10.1.0.1", 40001), ends)
    batch = told.read(json.loads(json.dumps(made.notes.take().content(0))))
    (alike,), (seen,) = batch.kinds, batch.seen()
    found = (alike.client, seen.client_port, alike.server, alike.server_port)
    assert found == (ends or ("10.1.0.1", 40001, "10.2.0.1", 4743))
    assert (alike.allowed, alike.status, alike.why) == (False, 0, "mTLS: no certificate")
