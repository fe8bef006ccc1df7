"""Both ends of many connections, each of its own kind: `talks.py server PORT`, `talks.py client IP PORT FIRST COUNT`.

A connection's bytes are a part of one block that both ends know, so that each looks at every byte that it gets. The
client says first what is to come. At their ends (the server's is the end of its input) both say what was wrong.

both: at once, and the client hears a hash of what it has sent   first: the server has ended before the client sends
gone: the client closes without a look, and all of it comes      cut: the client resets in the middle
drop: the server does
"""

import asyncio
import contextlib
import hashlib
import json
import random
import socket
import struct
import sys
import time
from typing import NamedTuple

BLOCK = random.Random(1).randbytes(4 << 20)
MOST = 2 << 20
AT_ONCE = 40
STALL_S = 20.0  # for all of one: on a machine with nothing else to do none takes three
KINDS = ("both", "both", "both", "first", "first", "gone", "cut", "drop")
_HEAD = 80
_RESET = struct.pack("ii", 1, 0)
Wrong = dict[int, str]


class Plan(NamedTuple):
    """`pace`: ms for which the reader sleeps before each read, at either end; 0: it reads as fast as it can."""

    seed: int
    kind: str
    up: int
    down: int
    client_pace: int
    server_pace: int

    @classmethod
    def of(cls, seed: int) -> "Plan":
        dice = random.Random(seed)
        sizes = [0 if dice.random() < 0.1 else int(MOST ** dice.random()) for _ in range(2)]
        paces = [dice.choice((0, 0, 0, 0, 1, 3)) for _ in range(2)]
        return cls(seed, dice.choice(KINDS), *sizes, *paces)

    @property
    def head(self) -> bytes:
        return " ".join(map(str, self)).encode().ljust(_HEAD - 1) + b"\n"

    @classmethod
    def read(cls, head: bytes) -> "Plan":
        seed, kind, *others = head.split()
        return cls(int(seed), kind.decode(), *map(int, others))


def part(seed: int, size: int) -> memoryview:
    at = seed * 7919 % MOST
    return memoryview(BLOCK)[at : at + size]


class Talk:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pace: int, seed: int) -> None:
        self._reader, self.writer, self._pace = reader, writer, pace
        self._dice = random.Random(seed)
        self.got = 0
        self._sending: asyncio.Task[None] | None = None

    def begin(self, data: memoryview) -> None:
        """Send while something else is done: see `sent`."""
        self._sending = asyncio.create_task(self.send(data))
        self._sending.add_done_callback(lambda sending: sending.cancelled() or sending.exception())

    async def sent(self) -> None:
        if self._sending is not None:
            await self._sending

    def end(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
        self.writer.close()

    async def send(self, data: memoryview) -> None:
        tiny = len(data) < 2000 and self._dice.random() < 0.5
        while data:
            size = self._dice.randint(1, 40 if tiny else 200_000)
            self.writer.write(data[:size])
            data = data[size:]
            await self.writer.drain()
            if tiny:
                await asyncio.sleep(0)

    async def hear(self, wanted: memoryview) -> None:
        """Take all of it, or what comes before an error; raises ValueError where it is another byte, or the end."""
        while self.got < len(wanted):
            if self._pace:
                await asyncio.sleep(self._pace / 1000)
            data = await self._reader.read(min(32 << 10, len(wanted) - self.got))
            if not data:
                raise ValueError(f"the end after {self.got} of {len(wanted)} bytes")
            if data != wanted[self.got : self.got + len(data)]:
                raise ValueError(f"another byte between {self.got} and {self.got + len(data)}")
            self.got += len(data)

    async def hear_end(self) -> None:
        if more := await self._reader.read(100):
            raise ValueError(f"more than was sent: {more[:40]!r}")

    async def hear_reset(self, wanted: memoryview) -> None:
        try:
            await self.hear(wanted)
            await self.hear_end()
        except ConnectionError:
            return
        raise ValueError("an end where a reset was to come")

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.writer.transport.abort()


async def as_client(plan: Plan, ip: str, port: int) -> None:
    reader, writer = await asyncio.open_connection(ip, port, limit=64 << 10)
    talk = Talk(reader, writer, plan.client_pace, plan.seed)
    writer.write(plan.head)
    up, down = part(plan.seed, plan.up), part(plan.seed + 1, plan.down)
    try:
        if plan.kind == "both":
            talk.begin(up)
            await talk.hear(down)
            await talk.sent()
            writer.write_eof()
            talk.got = 0
            await talk.hear(memoryview(hashlib.sha256(up).digest()))
            await talk.hear_end()
        elif plan.kind == "first":
            await talk.hear(down)
            await talk.hear_end()
            await talk.send(up)
        elif plan.kind == "gone":
            await talk.send(up)
        elif plan.kind == "cut":
            talk.begin(up)
            await talk.hear(down[: plan.down // 2])
            await talk.sent()
            talk.reset()
        else:
            talk.begin(up)
            await talk.hear_reset(down)
    finally:
        talk.end()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def as_server(plan: Plan, talk: Talk) -> None:
    up, down = part(plan.seed, plan.up), part(plan.seed + 1, plan.down)
    if plan.kind == "both":
        talk.begin(down)
        await talk.hear(up)
        await talk.hear_end()
        await talk.sent()
        talk.writer.write(hashlib.sha256(up).digest())
    elif plan.kind == "first":
        await talk.send(down)
        talk.writer.write_eof()
        await talk.hear(up)
        await talk.hear_end()
    elif plan.kind == "gone":
        await talk.hear(up)
        await talk.hear_end()
    elif plan.kind == "cut":
        talk.begin(down)
        await talk.hear_reset(up)
    else:
        talk.begin(down)
        await talk.hear(up[: plan.up // 2])
        await talk.sent()
        talk.reset()


async def clients(ip: str, port: int, first: int, count: int) -> Wrong:
    wrong: Wrong = {}
    took: list[float] = []
    room = asyncio.Semaphore(AT_ONCE)

    async def one(plan: Plan) -> None:
        try:
            async with room, asyncio.timeout(STALL_S):
                began = time.monotonic()
                await as_client(plan, ip, port)
                took.append(time.monotonic() - began)
        except (OSError, ValueError) as error:  # TimeoutError among them
            wrong[plan.seed] = f"client: {error!r} {plan}"

    await asyncio.gather(*(one(Plan.of(first + each)) for each in range(count)))
    print(f"the longest took {max(took, default=0):.1f} s", file=sys.stderr)
    return wrong


async def server(port: int) -> Wrong:
    wrong: Wrong = {}

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        plan, talk = None, Talk(reader, writer, 0, 0)
        try:
            async with asyncio.timeout(STALL_S):
                try:
                    plan = Plan.read(await reader.readexactly(_HEAD))
                except ConnectionError:  # of a client that resets before anything has come
                    return
                talk = Talk(reader, writer, plan.server_pace, -plan.seed)
                await as_server(plan, talk)
        except (OSError, ValueError, EOFError) as error:
            wrong[plan.seed if plan else -1] = f"server: {error!r} {plan}"
        finally:
            talk.end()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    serving = await asyncio.start_server(one, "0.0.0.0", port, limit=64 << 10)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    serving.close()
    return wrong


if __name__ == "__main__":
    what, *words = sys.argv[1:]
    run = server(int(words[0])) if what == "server" else clients(words[0], *map(int, words[1:]))
    print(json.dumps(asyncio.run(run)))
