"""A client that moves MiB after MiB: `bulk.py down|up HOST PORT COUNT DIRECTORY`, from or to src/faulty.py.

`down` reads nothing until DIRECTORY/COUNT.go is there; `up` notes in DIRECTORY/sent how far it is.
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path

BLOCK = bytes(range(256)) * 4096
_, WAY, HOST, PORT, COUNT, DIRECTORY = sys.argv


async def down(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, object]:
    writer.write(f"GET /open/down/{COUNT} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    while not Path(DIRECTORY, f"{COUNT}.go").exists():
        await asyncio.sleep(0.02)
    head = await reader.readuntil(b"\r\n\r\n")
    good, count = 0, -1
    while count:
        count = int(await reader.readline(), 16)
        good += await reader.readexactly(count) == BLOCK
        await reader.readexactly(2)
    return {"status": head.split()[1].decode(), "good": good}


async def up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, object]:
    size = int(COUNT) * len(BLOCK)
    writer.write(f"POST /open/up/{COUNT} HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
    whole = hashlib.sha256()
    for number in range(int(COUNT)):
        writer.write(BLOCK)
        whole.update(BLOCK)
        await writer.drain()
        Path(DIRECTORY, "sent").write_text(str(number + 1))
    head = await reader.readuntil(b"\r\n\r\n")
    same = await reader.readexactly(64) == whole.hexdigest().encode()
    return {"status": head.split()[1].decode(), "good": int(COUNT) if same else 0}


async def main() -> None:
    reader, writer = await asyncio.open_connection(HOST, int(PORT), limit=1 << 16)
    print(json.dumps(await {"down": down, "up": up}[WAY](reader, writer)))
    writer.close()


asyncio.run(main())
