"""A node that ends, and calls to it: those that come at that very moment, and streams that nobody ends."""

import asyncio
from collections import Counter

import pytest
import uvloop

from l7proxy.mesh import connection, contexts, frames, limits, names, server
from tests.unit.l7proxy.test_mesh_tunnel import (
    DB,
    ENDS,
    HERE,
    THERE,
    WEB,
    Ear,
    certified,
    ears,
    echoed,
    mesh,
    two,
    until,
)  # fmt: skip


def test_a_call_that_is_not_the_first_on_a_new_connection_to_a_node_that_drains_finds_another_one() -> None:
    async def play() -> None:
        async with two() as pair:
            made: list[connection.Connection] = []
            begin = pair.near.pool._begin

            def beside(key: connection.Key, now: contexts.Contexts) -> connection.Connection:
                """Have a call that comes later ask first, as one does that finds it made and has not to wait."""
                made.append(begin(key, now))
                make = made[-1].make

                async def late(sockets: connection.Sockets) -> None:
                    await make(sockets)
                    if not others:
                        others.append(asyncio.create_task(echoed(pair, 1000)))
                        await until(lambda: made[0].carrier.last)

                if len(made) == 1:
                    made[-1].make = late  # type: ignore[method-assign]
                return made[-1]

            others: list[asyncio.Task[None]] = []
            pair.near.pool._begin = beside  # type: ignore[method-assign]
            pair.far.drain()
            await echoed(pair, 1000)
            await others[0]
            assert (pair.far.tally.ok, pair.told) == (2, [])

    uvloop.run(play())


def test_a_node_that_never_takes_a_stream_is_asked_a_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.Server, "_is_good", lambda *_: False)

    async def play() -> None:
        async with two() as pair:
            with pytest.raises(ConnectionResetError, match="takes no more"):
                await pair.call()
            assert pair.near.tally.ok == 5

    uvloop.run(play())


@pytest.mark.parametrize("size", [1, 4 * limits.FIRST_WINDOW])
def test_what_is_closed_here_and_not_ended_there_is_cut_when_a_node_has_waited_long_enough(size: int) -> None:
    class Closes(Ear):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.write(bytes(size))  # type: ignore[attr-defined]
            transport.close()

    class Stops(Ear):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            if size > limits.FIRST_WINDOW:
                self.transport.pause_reading()

    async def play() -> None:
        async with two(enter=lambda _: Closes()) as pair:
            ear = Stops()
            stream = await pair.near.call(ENDS, lambda: ear)
            await until(lambda: ear.count == size or stream._held)
            pair.far.drain()
            pair.far.stop()
            assert not pair.far.is_over
            pair.far.cut("it has waited")
            async with asyncio.timeout(5):
                assert str(await ear.lost) == "the other node: it has waited"
            await until(lambda: pair.far.is_over)

    uvloop.run(play())


def test_of_streams_that_are_asked_for_at_once_and_reset_no_more_are_judged_than_one_connection_may_have() -> None:
    async def play() -> None:
        made, enter = ears()
        async with two(enter=enter) as pair:
            held = contexts.Contexts(mesh(HERE, {WEB: certified(WEB)}, pair.port)).client(WEB)
            reader, writer = await asyncio.open_connection(THERE, pair.port, ssl=held, server_hostname=names.sni(DB))
            asked = range(1, 4 * limits.STREAMS_TAKEN + 1)
            writer.write(b"".join(frames.opening(each, ENDS) + frames.reset(each, "") for each in asked))
            said: list[frames.Frame] = []
            said_by = frames.Reader()
            async with asyncio.timeout(5):
                while len(said) < len(asked):
                    said += said_by.feed(await reader.read(1 << 16))
            kinds = Counter(kind for kind, *_ in said)
            assert len(made) == kinds[frames.Kind.OPENED] and len(made) + kinds[frames.Kind.REFUSED] == len(asked)
            assert len(made) <= 2 * limits.STREAMS_TAKEN, "it came in one record or two"
            writer.close()
            stream, _ = await pair.call()
            stream.write(b"here")  # type: ignore[attr-defined]
            await until(lambda: made[-1].count == 4)

    uvloop.run(play())
