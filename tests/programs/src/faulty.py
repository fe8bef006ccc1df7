"""An HTTP/1.1 server that fails as its paths say: `faulty.py PORT RESETS_PORT DIRECTORY`; the second port only resets.

What it has seen of a request it writes to DIRECTORY/KEY, where the path is /open/HOW/KEY.
"""

import asyncio
import hashlib
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
BLOCK = bytes(range(256)) * 4096
_, PORT, RESETS_PORT, DIRECTORY = sys.argv


def reset(writer: Writer) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def note(key: str, what: object) -> None:
    """Write it in one step, for who reads it meanwhile."""
    draft = Path(DIRECTORY, f".{key}")
    draft.write_text(str(what))
    draft.rename(Path(DIRECTORY, key))


async def told_to_go_on(key: str) -> None:
    while not Path(DIRECTORY, f"{key}.go").exists():
        await asyncio.sleep(0.02)


async def to_the_end(reader: Reader, key: str) -> int:
    """Read until the client ends, or is gone, and note which."""
    size = 0
    try:
        while data := await reader.read(1 << 16):
            size += len(data)
        note(key, f"{size} ended")
    except OSError:
        note(key, f"{size} reset")
    return size


async def resets(reader: Reader, writer: Writer, key: str, length: int) -> None:
    reset(writer)


async def breaks(reader: Reader, writer: Writer, key: str, length: int) -> None:
    """Send half of an answer; which of three kinds, and with what end, the key says."""
    kind, end = key.split("-")
    head = {"length": b"content-length: 1000\r\n", "chunks": b"transfer-encoding: chunked\r\n", "close": b""}[kind]
    writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n" + (b"100\r\n" if kind == "chunks" else b"") + b"x" * 100)
    await writer.drain()
    await told_to_go_on(key)
    reset(writer) if end == "reset" else writer.close()


async def half_closes(reader: Reader, writer: Writer, key: str, length: int) -> None:
    """Send an answer that ends with the connection, end this side alone, and hear the other."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + BLOCK)
    writer.write_eof()
    await to_the_end(reader, key)
    writer.close()


async def stalls(reader: Reader, writer: Writer, key: str, length: int) -> None:
    note(key, "asked")
    await to_the_end(reader, key)
    writer.close()


async def is_early(reader: Reader, writer: Writer, key: str, length: int) -> None:
    """Answer before a byte of the body is read, and read it when told to."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nearly")
    await writer.drain()
    await told_to_go_on(key)
    note(key, len(await reader.readexactly(length)))


async def is_early_and_ends(reader: Reader, writer: Writer, key: str, length: int) -> None:
    """Answer before a byte of the body is read, and read on only so that the answer is not lost."""
    writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\nconnection: close\r\n\r\nearly")
    writer.write_eof()
    await to_the_end(reader, key)
    writer.close()


async def down(reader: Reader, writer: Writer, key: str, length: int) -> None:
    """Send as many MiB as the key says, in chunks, and note how far it is."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for number in range(int(key)):
        writer.write(b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK))
        await writer.drain()
        note("sent", number + 1)
    writer.write(b"0\r\n\r\n")


async def up(reader: Reader, writer: Writer, key: str, length: int) -> None:
    """Read when told to, and answer with a hash."""
    await told_to_go_on(key)
    whole = hashlib.sha256()
    while length:
        data = await reader.read(min(length, 1 << 18))
        whole.update(data)
        length -= len(data)
    said = whole.hexdigest().encode()
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))


HOW: dict[str, Callable[[Reader, Writer, str, int], Awaitable[None]]] = {
    "resets": resets, "breaks": breaks, "half-closes": half_closes, "stalls": stalls, "early": is_early,
    "early-end": is_early_and_ends, "down": down, "up": up,
}  # fmt: skip


async def serve(reader: Reader, writer: Writer) -> None:
    try:
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            lines = head.decode().lower().split("\r\n")
            length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length")), 0)
            _, _, how, key = lines[0].split()[1].split("/")
            await HOW[how](reader, writer, key, length)
    except (asyncio.IncompleteReadError, OSError):
        writer.close()


async def only_reset(reader: Reader, writer: Writer) -> None:
    await reader.read(1)
    reset(writer)


async def main() -> None:
    await asyncio.start_server(serve, None, int(PORT))
    await (await asyncio.start_server(only_reset, None, int(RESETS_PORT))).serve_forever()


asyncio.run(main())
