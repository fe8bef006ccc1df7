"""A link between real sockets: all bytes, no more held than a bound, and each side learns how the other ended."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from l7proxy.edge.link import Link, reset
from l7proxy.exchange import Exchange
from l7proxy.hears import Hears, protocol
from l7proxy.http1.head import Request
from l7proxy.http1.session import Session, Verdict

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LARGE = 30 << 20
GET = b"GET /open HTTP/1.1\r\nhost: a\r\n\r\n"


class Proxy:
    """A link for each client of a port; `told` has the exchanges, `links` the links that live."""

    def __init__(self) -> None:
        self.told: list[Exchange] = []
        self.links: set[Link] = set()

    def judge(self, request: Request, whole: bytes) -> Verdict:
        return Verdict(request.path.startswith("/open"))


@contextlib.asynccontextmanager
async def between(serve: Serve | None) -> AsyncIterator[tuple[Proxy, asyncio.StreamReader, asyncio.StreamWriter]]:
    """Yield a proxy, and a client's connection through it to a server; None: one that nobody serves."""
    loop, proxy = asyncio.get_running_loop(), Proxy()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = await asyncio.start_server(serve, "127.0.0.1", port) if serve else None

    def make() -> Link:
        def dial(factory: Callable[[], Hears]) -> Awaitable[object]:
            return loop.create_connection(protocol(factory), "127.0.0.1", port)

        link = Link(Session(proxy.judge, proxy.told.append), dial, proxy.links.discard)
        proxy.links.add(link)
        return link

    door = await loop.create_server(protocol(make), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*door.sockets[0].getsockname(), limit=1 << 16)
    try:
        yield proxy, reader, writer
    finally:
        writer.transport.abort()
        door.close()
        if server:
            server.close()


def run(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scene(), 20)

    uvloop.run(bounded())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_answers_come_in_order_however_many_are_asked_at_once() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number in range(200):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n%03d" % number)

    async def scene() -> None:
        async with between(serve) as (proxy, reader, writer):
            writer.write(GET * 200)
            for number in range(200):
                await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(3) == b"%03d" % number
            assert [e.status for e in proxy.told] == [200] * 200

    run(scene)


def test_a_reader_that_stopped_stops_the_server() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE)
        for _ in range(LARGE >> 16):
            writer.write(b"x" * (1 << 16))
            await writer.drain()
            sent += 1 << 16

    async def scene() -> None:
        async with between(serve) as (proxy, reader, writer):
            writer.write(GET)
            await until(lambda: any(link.server for link in proxy.links))
            before = -1
            while before != sent:  # nobody reads beyond the client's own buffers
                before = sent
                await asyncio.sleep(0.2)
            (link,) = proxy.links
            assert link.client is not None and link.client.get_write_buffer_size() < 1 << 20
            assert sent < LARGE
            await reader.readuntil(b"\r\n\r\n")
            assert len(await reader.readexactly(LARGE)) == LARGE

    run(scene)


def test_a_server_that_stopped_stops_the_client() -> None:
    go_on, got = asyncio.Event(), 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal got
        await go_on.wait()
        await reader.readuntil(b"\r\n\r\n")
        while got < LARGE:
            got += len(await reader.read(1 << 16))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")

    async def scene() -> None:
        async with between(serve) as (proxy, reader, writer):
            writer.write(b"POST /open HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % LARGE)
            writer.write(b"x" * LARGE)
            before, left = -1, writer.transport.get_write_buffer_size()
            while before != left:
                before = left
                await asyncio.sleep(0.2)
                left = writer.transport.get_write_buffer_size()
            (link,) = proxy.links
            assert left > 0 and link.server is not None and link.server.get_write_buffer_size() < 1 << 20
            go_on.set()
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
            assert got == LARGE

    run(scene)


def test_a_server_that_resets_is_no_end_of_a_body() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")  # until the client has the half: then it asks on
        reset(writer.transport)

    async def scene() -> None:
        async with between(serve) as (_, reader, writer):
            writer.write(b"POST /open HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n")
            assert await reader.readuntil(b"half")
            writer.write(b"\r\n\r\n")
            try:
                rest = await reader.read()
            except ConnectionResetError:
                return
            raise AssertionError(f"a whole body: {rest!r}")

    run(scene)


@pytest.mark.parametrize("field", [b"connection: close", b"expect: 100-continue", b"x: y"])
def test_who_sends_all_before_it_reads_has_the_refusal(field: bytes) -> None:
    async def scene() -> None:
        async with between(None) as (proxy, reader, writer):
            head = b"POST /shut HTTP/1.1\r\nhost: a\r\n%b\r\ncontent-length: %d\r\n\r\n" % (field, LARGE)
            writer.write(head + b"x" * LARGE)
            await until(lambda: not writer.transport.get_write_buffer_size())
            assert (await reader.readline()) == b"HTTP/1.1 403 Forbidden\r\n"
            writer.close()
            await until(lambda: not proxy.links)

    run(scene)


def test_a_refused_client_that_goes_amid_its_body_leaves_nothing() -> None:
    async def scene() -> None:
        async with between(None) as (proxy, reader, writer):
            writer.write(b"POST /shut HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nhalf")
            assert (await reader.readline()) == b"HTTP/1.1 403 Forbidden\r\n"
            writer.close()
            await until(lambda: not proxy.links)

    run(scene)


def test_nobody_serves() -> None:
    async def scene() -> None:
        async with between(None) as (proxy, reader, writer):
            writer.write(GET)
            assert (await reader.readline()) == b"HTTP/1.1 503 Service Unavailable\r\n"
            await reader.read()
            assert [(e.status, e.allowed) for e in proxy.told] == [(503, True)]
            await until(lambda: not proxy.links)

    run(scene)


def test_a_server_that_resets_before_its_answer_is_a_503() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        reset(writer.transport)

    async def scene() -> None:
        async with between(serve) as (proxy, reader, writer):
            writer.write(GET)
            assert (await reader.readline()) == b"HTTP/1.1 503 Service Unavailable\r\n"
            assert [(e.status, e.allowed, bool(e.why)) for e in proxy.told] == [(503, True, True)]

    run(scene)


def test_a_client_that_asks_and_never_reads_is_not_read() -> None:
    asks = 400_000

    async def scene() -> None:
        async with between(None) as (proxy, reader, writer):
            before, left = -1, 0
            writer.write(b"GET /shut HTTP/1.1\r\nhost: a\r\n\r\n" * asks)
            while before != left or not left:
                before = left
                await asyncio.sleep(0.2)
                left = writer.transport.get_write_buffer_size()
            (link,) = proxy.links
            assert link.client is not None and link.client.get_write_buffer_size() < 4 << 20
            count = len(proxy.told)
            assert count < asks
            await reader.readexactly(count * 50)
            await until(lambda: len(proxy.told) > count)

    run(scene)


def test_a_client_that_is_gone_ends_the_server() -> None:
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionResetError):
            await reader.read(1 << 20)
            await reader.read(1 << 20)
        ended.set()

    async def scene() -> None:
        async with between(serve) as (proxy, _, writer):
            writer.write(b"POST /open HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf")
            await until(lambda: any(link.server for link in proxy.links))
            reset(writer.transport)
            await ended.wait()
            await until(lambda: not proxy.links)
            assert [(e.status, e.why) for e in proxy.told] == [(0, "the client went away")]

    run(scene)


def test_half_closes_pass_through_a_tunnel() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n")
        writer.write(await reader.read())
        writer.write_eof()

    async def scene() -> None:
        async with between(serve) as (proxy, reader, writer):
            writer.write(b"GET /open HTTP/1.1\r\nhost: a\r\nupgrade: echo\r\nconnection: upgrade\r\n\r\n")
            assert b"101" in await reader.readuntil(b"\r\n\r\n")
            writer.write(b"abc" * 100_000)
            writer.write_eof()
            assert await reader.read() == b"abc" * 100_000
            await until(lambda: not proxy.links)

    run(scene)
