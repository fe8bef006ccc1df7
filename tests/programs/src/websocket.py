"""A WebSocket client (RFC 6455): `websocket.py HOST PORT PATH...` asks for the paths in turn, until one upgrades.

Prints as JSON the statuses, and what became of frames of many sizes, whole and in pieces, sent while it reads the echo.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys
import threading
from typing import BinaryIO

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN = 0x80
SIZES = (0, 1, 125, 126, 65535, 65536, 1_000_000)


def frame(first: int, payload: bytes) -> bytes:
    """Return a frame with a mask of its own, as clients must have it."""
    size, mask = len(payload), os.urandom(4)
    if size < 126:
        length = bytes((FIN | size,))
    else:
        length = struct.pack("!BH", FIN | 126, size) if size < 65536 else struct.pack("!BQ", FIN | 127, size)
    key = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
    return bytes((first,)) + length + mask + masked


def take(file: BinaryIO) -> tuple[int, bytes]:
    first, size = file.read(2)
    if size == 126:
        (size,) = struct.unpack("!H", file.read(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", file.read(8))
    return first, file.read(size)


def ask(sock: socket.socket, file: BinaryIO, path: str) -> tuple[int, bool]:
    """Return the status, and whether the server has understood what it was asked."""
    key = base64.b64encode(os.urandom(16))
    fields = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: server\r\n{fields}{key.decode()}\r\n\r\n".encode())
    status = int(file.readline().split()[1])
    said = {}
    while line := file.readline().strip():
        name, _, value = line.partition(b":")
        said[name.lower()] = value.strip()
    file.read(int(said.get(b"content-length", 0)))
    wanted = base64.b64encode(hashlib.sha1(key + GUID).digest())
    return status, said.get(b"sec-websocket-accept") == wanted


def talk(sock: socket.socket, file: BinaryIO) -> dict[str, object]:
    sent = [(FIN | BINARY, os.urandom(size)) for size in SIZES for _ in range(3)]
    sent += [(TEXT, b"in "), (FIN | PING, b"still there?"), (CONTINUATION, b"three "), (FIN | CONTINUATION, b"pieces")]
    whole = [(FIN | PONG if first == FIN | PING else first, payload) for first, payload in sent]
    welcome = take(file)[1].decode()
    sending = threading.Thread(target=sock.sendall, args=(b"".join(frame(*each) for each in sent),))
    sending.start()
    got = [take(file) for _ in sent]
    sending.join()
    sock.sendall(frame(FIN | CLOSE, struct.pack("!H", 1000)))
    closed = take(file)
    return {"welcome": welcome, "same": got == whole, "closed": closed[1].hex(), "rest": file.read().hex()}


def main(host: str, port: str, *paths: str) -> None:
    statuses = []
    with socket.create_connection((host, int(port)), 20) as sock, sock.makefile("rb") as file:
        found: dict[str, object] = {}
        for path in paths:
            status, understood = ask(sock, file, path)
            statuses.append(status)
            if status == 101:
                found = {"understood": understood} | talk(sock, file)
                break
    print(json.dumps({"statuses": statuses} | found))


main(*sys.argv[1:])
