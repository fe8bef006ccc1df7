"""Two node proxies' ends on loopback, with certificates of a real authority: what goes through, and what is refused."""

import asyncio
import contextlib
import hashlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
import uvloop

from control.certificates import authority, keys, leaf, spiffe
from control.proxy_feed import UNKNOWN_NODE, Mesh
from l7proxy.mesh import connection, contexts, frames, limits, names, posts, server
from l7proxy.mesh.carrier import Carrier
from l7proxy.mesh.errors import Ended
from l7proxy.mesh.frames import Ends
from l7proxy.mesh.node import Node
from l7proxy.mesh.stream import Stream
from tests.unit.control import forged

NOW = time.time()
ROOT, OTHER_ROOT = authority.new_root("a.example", NOW), authority.new_root("a.example", NOW)
HERE, THERE = "127.0.0.2", "127.0.0.3"  # the nodes
WEB, DB = "spiffe://a.example/ns/shop/sa/web", "spiffe://a.example/ns/shop/sa/db"
CLIENT, SERVER = "10.0.0.1", "10.0.1.1"
ENDS = Ends(CLIENT, 40000, SERVER, 80)


def certified(id: str, root: authority.Authority = ROOT, now: float = NOW) -> bytes:
    key = keys.new()
    return keys.to_pem(key) + root.sign(leaf.request(key), spiffe.parse(id), now)


def mesh(address: str, leaves: Mapping[str, bytes], port: int, **changed: object) -> Mesh:
    owners = {
        CLIENT: (WEB, "" if address == HERE else HERE),
        SERVER: (DB, "" if address == THERE else THERE),
    }
    return Mesh("strict", "a.example", port, address, ROOT.root.pem, leaves, owners)._replace(**changed)  # type: ignore[arg-type]


class Echo(asyncio.Protocol):
    """Gives back what comes, and its end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)  # type: ignore[attr-defined]

    def eof_received(self) -> bool:
        self.transport.write_eof()  # type: ignore[attr-defined]
        return True

    def pause_writing(self) -> None:
        self.transport.pause_reading()  # type: ignore[attr-defined]

    def resume_writing(self) -> None:
        self.transport.resume_reading()  # type: ignore[attr-defined]


class Ear(asyncio.Protocol):
    """Hears all."""

    transport: Stream

    def __init__(self) -> None:
        self.hash, self.count = hashlib.sha256(), 0
        self.ended, self.lost = asyncio.Event(), asyncio.get_running_loop().create_future()
        self.can_write = asyncio.Event()
        self.can_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(Stream, transport)

    def data_received(self, data: bytes) -> None:
        self.hash.update(data)
        self.count += len(data)

    def eof_received(self) -> bool:
        self.ended.set()
        return True

    def pause_writing(self) -> None:
        self.can_write.clear()

    def resume_writing(self) -> None:
        self.can_write.set()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(error)
        self.can_write.set()


def ears() -> tuple[list[Ear], Callable[[Ends], asyncio.Protocol]]:
    """Return what lets every stream in, and the ears that it gives them."""
    made: list[Ear] = []

    def enter(_: Ends) -> asyncio.Protocol:
        made.append(Ear())
        return made[-1]

    return made, enter


Enter = Callable[[Ends], "asyncio.Protocol | str"]


class Two:
    """A client's node and a server's; `told`: what the server's side has refused."""

    def __init__(self, enter: Enter) -> None:
        self.told: list[str] = []
        self.executor = ThreadPoolExecutor(1)
        self.near = Node(self.executor, lambda _: "nobody", lambda *_: None, most=100)
        self.far = Node(self.executor, enter, lambda why, *_: self.told.append(why), most=100)
        with socket.create_server((THERE, 0)) as free:
            self.port = free.getsockname()[1]
        self.far.listen([posts.listener(THERE, self.port)])

    async def call(self, ends: Ends = ENDS) -> tuple[object, Ear]:
        ear = Ear()
        return await self.near.call(ends, lambda: ear), ear


@contextlib.asynccontextmanager
async def two(
    near: Mapping[str, Any] | None = None, far: Mapping[str, Any] | None = None, enter: Enter = lambda _: Echo()
) -> AsyncIterator[Two]:
    made = Two(enter)
    try:
        made.far.renew(mesh(THERE, {DB: certified(DB)}, made.port)._replace(**far or {}))
        made.near.renew(mesh(HERE, {WEB: certified(WEB)}, made.port)._replace(**near or {}))
        yield made
    finally:
        made.near.pool.close()
        for node in (made.near, made.far):
            node.stop()
        made.executor.shutdown()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def echoed(pair: Two, size: int) -> None:
    """Send so many bytes, end, and have them all back, with their end."""
    stream, ear = await pair.call()
    block, sent = bytes(range(256)) * 1024, hashlib.sha256()
    for _ in range(max(1, size // len(block))):
        part = block[: min(size, len(block))]
        sent.update(part)
        stream.write(part)  # type: ignore[attr-defined]
        await ear.can_write.wait()
    stream.write_eof()  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        await ear.ended.wait()
        assert await ear.lost is None
    assert ear.hash.digest() == sent.digest()


def test_bytes_go_both_ways_with_their_ends_and_the_next_stream_takes_the_same_connection() -> None:
    async def play() -> None:
        async with two() as pair:
            for size in (1, 100, 65_537, 16 << 20, 5):
                await echoed(pair, size)
                await until(lambda: pair.near.pool.idle == 1)
            assert (pair.near.tally.ok, pair.far.tally.ok, pair.near.pool.idle) == (1, 1, 1)
            await asyncio.gather(*(echoed(pair, 1000) for _ in range(limits.STREAMS)))
            assert pair.near.tally.ok == 1
            await asyncio.gather(*(echoed(pair, 1000) for _ in range(3 * limits.STREAMS)))
            assert pair.near.tally.ok == 3  # the one from before, and what was missing

    uvloop.run(play())


def test_a_reset_comes_out_as_one_and_the_connections_other_streams_go_on() -> None:
    async def play() -> None:
        made, enter = ears()
        async with two(enter=enter) as pair:
            (stream, _), (other, _) = await pair.call(), await pair.call()
            stream.write(b"half")  # type: ignore[attr-defined]
            await until(lambda: made[0].count == 4)
            stream.abort()  # type: ignore[attr-defined]
            async with asyncio.timeout(5):
                assert isinstance(await made[0].lost, ConnectionResetError)
            other.write(b"more")  # type: ignore[attr-defined]
            await until(lambda: made[1].count == 4)
            other.abort()  # type: ignore[attr-defined]
            await until(lambda: pair.near.pool.open == 0)
            assert pair.near.tally.ok == 1

    uvloop.run(play())


@pytest.mark.parametrize(
    ("why", "kind", "said"),
    [
        ("", ConnectionResetError, "reset at the other node"),
        ("it was idle", Ended, "the other node: it was idle"),
    ],
)
def test_who_is_cut_off_hears_why_if_it_was_no_pod(why: str, kind: type[Exception], said: str) -> None:
    async def play() -> None:
        made, enter = ears()
        async with two(enter=enter) as pair:
            _, ear = await pair.call()
            await until(lambda: made)
            theirs = made[0].transport
            theirs.why = why
            theirs.abort()
            async with asyncio.timeout(5):
                error = await ear.lost
            assert (type(error), str(error)) == (kind, said)

    uvloop.run(play())


def test_a_stream_whose_connection_is_lost_says_that_the_other_proxy_went_away() -> None:
    async def play() -> None:
        made, enter = ears()
        async with two(enter=enter) as pair:
            _, ear = await pair.call()
            await until(lambda: made)
            cast(Carrier, made[0].transport._carrier).abort()
            async with asyncio.timeout(5):
                error = await ear.lost
            assert (type(error), str(error)) == (Ended, "the other node's proxy went away")

    uvloop.run(play())


OTHER_DOMAIN = authority.new_root("b.example", NOW)
FOREIGN = "spiffe://b.example/ns/shop/sa/web"


@pytest.mark.parametrize(
    ("pem", "roots", "word"),
    [
        (lambda: certified(WEB, now=NOW - 3 * authority.DAY), b"", "expired"),
        (lambda: certified(WEB, OTHER_ROOT), b"", "unknown root"),
        (lambda: certified(FOREIGN, OTHER_DOMAIN), OTHER_DOMAIN.root.pem, "other trust domain"),
        (lambda: certified("spiffe://a.example/ns/shop/sa/thief"), b"", server.NOT_OWNER),
    ],
)
def test_a_client_that_proves_nothing_is_refused_with_the_word(
    pem: Callable[[], bytes], roots: bytes, word: str
) -> None:
    old = authority.new_root("a.example", NOW - 10 * authority.DAY)

    async def play() -> None:
        made = pem() if word != "expired" else certified(WEB, old, NOW - 3 * authority.DAY)
        known = ROOT.root.pem + (old.root.pem if word == "expired" else roots)
        async with two({"leaves": {WEB: made}}, {"roots": known}) as pair:
            with pytest.raises(OSError, match="mTLS"):
                await pair.call()
            await until(lambda: pair.told)
            assert pair.told == [word]
            assert pair.far.tally.refused[word] == 1

    uvloop.run(play())


@pytest.mark.parametrize(
    ("uris", "by_itself", "word"),
    [((WEB,), True, "self-signed"), (("spiffe://a.example/web",), False, "wrong SAN"), ((WEB, DB), False, "wrong SAN")],
)
def test_a_forged_leaf_is_refused_with_the_word(uris: tuple[str, ...], by_itself: bool, word: str) -> None:
    async def play() -> None:
        above = forged.root(NOW)
        made = forged.leaf(NOW, None if by_itself else above, uris=uris)
        pem = keys.to_pem(made.key) + ssl.DER_cert_to_PEM_cert(made.der).encode()
        known = ROOT.root.pem + ssl.DER_cert_to_PEM_cert(above.der).encode()
        async with two({"leaves": {WEB: pem}}, {"roots": known}) as pair:
            with pytest.raises(OSError, match="mTLS"):
                await pair.call()
            await until(lambda: pair.told)
            assert pair.told == [word]

    uvloop.run(play())


def test_a_server_that_is_not_the_owner_is_not_talked_to() -> None:
    async def play() -> None:
        thief = certified("spiffe://a.example/ns/shop/sa/thief")
        async with two(far={"leaves": {DB: thief}}) as pair:
            with pytest.raises(connection.Refused, match="not the owner"):
                await pair.call()
        async with two(far={"leaves": {}}) as pair:
            with pytest.raises(connection.Refused, match="mTLS"):
                await pair.call()
            await until(lambda: pair.told)

    uvloop.run(play())


def test_what_policy_denies_is_refused_and_the_connection_lives_on() -> None:
    async def play() -> None:
        answers: list[asyncio.Protocol | str] = [server.DENIED, Echo(), server.DENIED]
        async with two(enter=lambda _: answers.pop(0)) as pair:
            with pytest.raises(OSError, match="denied by policy"):
                await pair.call()
            await echoed(pair, 10)
            await until(lambda: pair.near.pool.idle)
            with pytest.raises(OSError, match="denied by policy"):
                await pair.call()
            assert (pair.near.tally.ok, pair.told) == (1, [server.DENIED] * 2)
            with pytest.raises(OSError, match="no owner on another node"):
                await pair.call(ENDS._replace(server="10.9.9.9"))

    uvloop.run(play())


def test_new_leaves_and_roots_break_nothing_that_is_open_and_count_for_what_comes() -> None:
    async def play() -> None:
        async with two() as pair:
            stream, ear = await pair.call()
            await echoed(pair, 10)
            assert pair.near.tally.ok == 1
            union = ROOT.root.pem + OTHER_ROOT.root.pem
            pair.far.renew(mesh(THERE, {DB: certified(DB)}, pair.port, roots=union))
            new = {WEB: certified(WEB, OTHER_ROOT)}
            pair.near.renew(mesh(HERE, new, pair.port, roots=union))
            await echoed(pair, 10)
            assert pair.near.tally.ok == 2  # another one, with what is new
            stream.write(b"still there")  # type: ignore[attr-defined]
            await until(lambda: ear.count == 11)
            stream.close()  # type: ignore[attr-defined]
            await until(lambda: (pair.near.pool.open, pair.near.pool.idle) == (0, 1))  # nobody wants the first one

    uvloop.run(play())


def test_who_says_nothing_in_the_handshake_or_after_it_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SERVERS_HANDSHAKE_S", 0.2)
    monkeypatch.setattr(limits, "FIRST_S", 0.1)

    async def play() -> None:
        async with two() as pair:
            reader, writer = await asyncio.open_connection(THERE, pair.port)
            async with asyncio.timeout(5):
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            writer.close()
            await until(lambda: pair.told == ["the handshake took too long"])
            held = contexts.Contexts(mesh(HERE, {WEB: certified(WEB)}, pair.port)).client(WEB)
            reader, writer = await asyncio.open_connection(THERE, pair.port, ssl=held, server_hostname=names.sni(DB))
            await until(lambda: pair.far.tally.ok == 1)
            await asyncio.sleep(0.2)
            pair.far.sweep()
            async with asyncio.timeout(5):
                assert await reader.read() == b""
            writer.close()

    uvloop.run(play())


def test_who_reads_nothing_holds_up_its_own_sender_and_gets_all_in_the_end() -> None:
    async def play() -> None:
        made: list[Ear] = []
        streams: list[Any] = []

        class Slow(Ear):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                streams.append(transport)
                transport.pause_reading()  # type: ignore[attr-defined]

        def enter(_: Ends) -> asyncio.Protocol:
            made.append(Slow())
            return made[-1]

        async with two(enter=enter) as pair:
            stream, ear = await pair.call()
            block, sent = bytes(1 << 18), 0
            while ear.can_write.is_set():
                stream.write(block)  # type: ignore[attr-defined]
                sent += len(block)
                await asyncio.sleep(0)
                assert sent < 64 << 20
            assert stream.get_write_buffer_size() < 4 << 20  # type: ignore[attr-defined]
            streams[0].resume_reading()
            await until(lambda: made[0].count == sent)
            await until(ear.can_write.is_set)

    uvloop.run(play())


def test_the_server_may_speak_and_end_first() -> None:
    async def play() -> None:
        class First(Ear):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                transport.write(b"220 hello")  # type: ignore[attr-defined]
                transport.write_eof()  # type: ignore[attr-defined]

        made: list[First] = []

        def enter(_: Ends) -> asyncio.Protocol:
            made.append(First())
            return made[-1]

        async with two(enter=enter) as pair:
            stream, ear = await pair.call()
            async with asyncio.timeout(5):
                await ear.ended.wait()
            stream.write(b"late")  # type: ignore[attr-defined]
            stream.close()  # type: ignore[attr-defined]
            await until(lambda: made[0].count == 4 and made[0].ended.is_set() and made[0].lost.done())
            await until(lambda: pair.near.pool.idle == 1)

    uvloop.run(play())


def test_a_peer_that_speaks_no_frames_is_cut_off() -> None:
    async def play() -> None:
        async with two() as pair:
            held = contexts.Contexts(mesh(HERE, {WEB: certified(WEB)}, pair.port)).client(WEB)
            for said in (b"GET / HTTP/1.1", b"\x02" + bytes(6) + b"\1", b"\x01\0\0\x25\0\0\0\1" + bytes(37)):
                reader, writer = await asyncio.open_connection(
                    THERE, pair.port, ssl=held, server_hostname=names.sni(DB)
                )
                writer.write(said)
                async with asyncio.timeout(5):
                    with contextlib.suppress(ConnectionError):
                        assert await reader.read() == b""
                writer.close()
            await echoed(pair, 10)

    uvloop.run(play())


class Later:
    """What is owned, and changes: `owners` of the far node, as its agent tells."""

    def __init__(self, pair: Two) -> None:
        self.pair, self.leaf = pair, certified(DB)

    def tell(self, **changed: object) -> None:
        self.pair.far.renew(mesh(THERE, {DB: self.leaf}, self.pair.port, **changed))


BEFORE_IT_WAS_KNOWN: dict[str, Any] = {"owners": {SERVER: (DB, "")}}


def test_who_is_not_known_yet_waits_for_the_agent_of_the_servers_node() -> None:
    async def play() -> None:
        async with two(far=BEFORE_IT_WAS_KNOWN) as pair:
            calling = asyncio.create_task(echoed(pair, 10))
            await until(lambda: pair.far.server._held)
            Later(pair).tell()
            async with asyncio.timeout(limits.OWNER_S / 2):
                await calling
            assert pair.told == []

    uvloop.run(play())


def test_who_is_not_known_in_the_end_is_refused_with_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OWNER_S", 0.1)
    unreachable = {CLIENT: (WEB, UNKNOWN_NODE), SERVER: (DB, "")}

    async def play() -> None:
        for far, word in (
            (BEFORE_IT_WAS_KNOWN, server.NOT_OWNER),
            ({"owners": unreachable}, server.NO_NODE),
            ({"owners": {CLIENT: (WEB, HERE)}}, server.NO_POD),
        ):
            async with two(far=far) as pair:
                with pytest.raises(OSError, match=f"the server's node: {word}"):
                    await pair.call()
                assert pair.told == [word] and pair.far.server._held == {}
                Later(pair).tell()
                await echoed(pair, 10)  # over the same connection
                assert pair.near.tally.ok == 1

    uvloop.run(play())


def test_a_server_that_is_not_known_yet_is_waited_for_and_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play() -> None:
        leaf = certified(WEB)
        async with two({"leaves": {WEB: leaf}, "owners": {CLIENT: (WEB, "")}}) as pair:
            calling = asyncio.create_task(echoed(pair, 10))
            await asyncio.sleep(0)
            pair.near.renew(mesh(HERE, {WEB: leaf}, pair.port))
            async with asyncio.timeout(limits.OWNER_S / 2):
                await calling
            monkeypatch.setattr(limits, "OWNER_S", 0.1)
            pair.near.renew(mesh(HERE, {WEB: leaf}, pair.port, owners={CLIENT: (WEB, ""), SERVER: (DB, UNKNOWN_NODE)}))
            with pytest.raises(connection.Refused, match="address of the server's node is not known"):
                await pair.call()
            pair.near.renew(mesh(HERE, {}, pair.port))
            with pytest.raises(connection.Refused, match="no certificate"):
                await pair.call()

    uvloop.run(play())


def test_what_policy_does_not_know_yet_is_asked_again_when_it_may() -> None:
    answers: list[asyncio.Protocol | str] = [server.NotYet("a moment")]

    async def play() -> None:
        async with two(enter=lambda _: answers[-1]) as pair:
            calling = asyncio.create_task(echoed(pair, 10))
            await until(lambda: pair.far.server._held)
            pair.far.look_again()
            assert pair.far.server._held
            answers.append(Echo())
            pair.far.look_again()
            async with asyncio.timeout(limits.OWNER_S / 2):
                await calling

    uvloop.run(play())


@pytest.mark.parametrize(
    ("owners", "word"),
    [
        ({SERVER: (DB, "")}, server.NOT_OWNER),
        ({CLIENT: (FOREIGN, HERE), SERVER: (DB, "")}, server.NOT_OWNER),
        ({CLIENT: (WEB, HERE)}, server.NO_POD),
        ({CLIENT: (WEB, HERE), SERVER: (DB, "127.0.0.4")}, server.NO_POD),
    ],
)
def test_a_stream_ends_when_an_address_is_not_its_owners_any_more(
    owners: Mapping[str, tuple[str, str]], word: str
) -> None:
    async def play() -> None:
        made, enter = ears()
        async with two(enter=enter) as pair:
            stream, ear = await pair.call()
            stream.write(b"here")  # type: ignore[attr-defined]
            await until(lambda: made[0].count == 4)
            later = Later(pair)
            later.tell()
            stream.write(b"more")  # type: ignore[attr-defined]
            await until(lambda: made[0].count == 8)
            later.tell(owners=owners)
            async with asyncio.timeout(1):
                assert isinstance(await made[0].lost, ConnectionResetError)
                assert isinstance(await ear.lost, ConnectionResetError)
            assert pair.told == [word]
            await until(lambda: pair.near.pool.open == 0 and pair.far.server._waits)

    uvloop.run(play())


def test_a_node_that_drains_serves_who_has_come_and_keeps_nothing() -> None:
    async def play() -> None:
        async with two() as pair:
            await echoed(pair, 10)
            await until(lambda: pair.near.pool.idle == 1)
            held = contexts.Contexts(mesh(HERE, {WEB: certified(WEB)}, pair.port)).client(WEB)
            reader, writer = await asyncio.open_connection(THERE, pair.port, ssl=held, server_hostname=names.sni(DB))
            await until(lambda: pair.far.tally.ok == 2)
            pair.far.drain()
            pair.far.stop()
            await until(lambda: pair.near.pool.idle == 0)
            assert not pair.far.is_over
            hi, end = frames.data_head(1, 2) + b"hi", frames.frame(frames.Kind.END, 1)
            writer.write(frames.opening(1, ENDS) + hi + frames.opening(2, ENDS) + end)
            async with asyncio.timeout(5):
                said = frames.Reader().feed(await reader.read())
            assert said == [
                (frames.Kind.OPENED, 1, b""), (frames.Kind.DATA, 1, b"hi"), (frames.Kind.REFUSED, 2, b""),
                (frames.Kind.END, 1, b""),
            ]  # fmt: skip
            writer.close()
            await until(lambda: pair.far.is_over)
            with pytest.raises(connection.Refused, match="no node proxy listens there"):
                await pair.call()

    uvloop.run(play())


def test_streams_of_a_node_that_drains_go_on_and_new_ones_come_by_another_connection() -> None:
    async def play() -> None:
        made, enter = ears()
        async with two(enter=enter) as pair:
            first, _ = await pair.call()
            pair.far.drain()
            second, _ = await pair.call()
            assert pair.near.tally.ok == 2
            for stream in (first, second):
                stream.write(b"here")  # type: ignore[attr-defined]
            await until(lambda: [ear.count for ear in made] == [4, 4])
            for stream in (first, second):
                stream.close()  # type: ignore[attr-defined]
            for ear in made:
                await ear.ended.wait()
                ear.transport.close()
            await until(lambda: pair.near.pool.is_over and not pair.far.server._peers)

    uvloop.run(play())


def test_who_moves_many_bytes_gets_no_more_company(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEAVY", 10_000)

    async def play() -> None:
        async with two() as pair:
            stream, ear = await pair.call()
            await pair.call()
            assert pair.near.tally.ok == 1
            stream.write(bytes(10_000))  # type: ignore[attr-defined]
            await until(lambda: ear.count == 10_000)
            await pair.call()
            assert pair.near.tally.ok == 2

    uvloop.run(play())


def test_a_client_that_goes_while_its_stream_is_asked_for_leaves_nothing() -> None:
    async def play() -> None:
        async with two(far=BEFORE_IT_WAS_KNOWN) as pair:
            calling = asyncio.create_task(pair.call())
            await until(lambda: pair.far.server._held)
            calling.cancel()
            await until(lambda: not pair.far.server._held)
            await until(lambda: pair.near.pool.idle == 1)
            Later(pair).tell()
            await echoed(pair, 10)
            assert pair.near.tally.ok == 1

    uvloop.run(play())


def test_a_number_is_given_once() -> None:
    async def play() -> None:
        async with two() as pair:
            held = contexts.Contexts(mesh(HERE, {WEB: certified(WEB)}, pair.port)).client(WEB)
            reset = frames.reset(2, "")
            for said in (frames.opening(2, ENDS) * 2, frames.opening(2, ENDS) + reset + frames.opening(1, ENDS)):
                reader, writer = await asyncio.open_connection(
                    THERE, pair.port, ssl=held, server_hostname=names.sni(DB)
                )
                writer.write(said)
                async with asyncio.timeout(5):
                    with contextlib.suppress(ConnectionError):
                        while await reader.read(1000):
                            pass
                writer.close()
            await until(lambda: not pair.far.server._peers)

    uvloop.run(play())


def test_who_asks_and_asks_and_reads_no_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_UNSENT", 1 << 20)

    async def play() -> None:
        async with two(enter=lambda _: server.DENIED) as pair:
            held = contexts.Contexts(mesh(HERE, {WEB: certified(WEB)}, pair.port)).client(WEB)
            _, writer = await asyncio.open_connection(
                THERE, pair.port, ssl=held, server_hostname=names.sni(DB), limit=1
            )
            number = 0
            async with asyncio.timeout(60):
                with contextlib.suppress(ConnectionError):
                    while number < 10_000_000 and not writer.is_closing():
                        writer.write(b"".join(frames.opening(number + each, ENDS) for each in range(1, 2001)))
                        number += 2000
                        await writer.drain()
            assert number < 10_000_000
            writer.transport.abort()
            await until(lambda: not pair.far.server._peers)

    uvloop.run(play())
