"""A client of redis or memcached: sets, gets and deletes by the hundred, pipelined, and prints what came back as JSON.

`keyvalue.py redis|memcached ADDRESS PORT`. Its socket is non-blocking underneath (it has a timeout), so that it may be
short-cut, and it gives up after five seconds of silence.
"""

import hashlib
import json
import random
import socket
import sys
from typing import BinaryIO

KEYS = 300
ROUNDS = 3


def values(seed: int) -> list[tuple[bytes, bytes]]:
    source = random.Random(seed)
    sizes = [source.choice((1, 100, 5_000, 100_000, 900_000)) for _ in range(KEYS)]
    return [(b"key:%d" % number, source.randbytes(size)) for number, size in enumerate(sizes)]


def redis_set(key: bytes, value: bytes) -> bytes:
    return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(key), key, len(value), value)


def redis_get(key: bytes) -> bytes:
    return b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key)


def memcached_set(key: bytes, value: bytes) -> bytes:
    return b"set %b 0 0 %d\r\n%b\r\n" % (key, len(value), value)


def memcached_get(key: bytes) -> bytes:
    return b"get %b\r\n" % key


def redis_value(stream: BinaryIO) -> bytes:
    head = stream.readline()
    if not head.startswith(b"$"):
        raise ValueError(f"not a string: {head[:80]!r}")
    return stream.read(int(head[1:]) + 2)[:-2]


def memcached_value(stream: BinaryIO) -> bytes:
    head = stream.readline().split()
    if len(head) != 4 or head[0] != b"VALUE":
        raise ValueError(f"not a value: {head!r}")
    value = stream.read(int(head[3]) + 2)[:-2]
    end = stream.readline()
    if end != b"END\r\n":
        raise ValueError(f"not the end: {end[:80]!r}")
    return value


def main() -> None:
    kind, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    put, ask, value_of, stored = {
        "redis": (redis_set, redis_get, redis_value, b"+OK\r\n"),
        "memcached": (memcached_set, memcached_get, memcached_value, b"STORED\r\n"),
    }[kind]
    wrong = 0
    seen = hashlib.sha256()
    with socket.create_connection((address, port), timeout=5) as connection:
        stream = connection.makefile("rb")
        for seed in range(ROUNDS):
            pairs = values(seed)
            for key, value in pairs:
                connection.sendall(put(key, value))
                wrong += stream.readline() != stored
            for start in range(0, KEYS, 20):
                part = pairs[start : start + 20]
                connection.sendall(b"".join(ask(key) for key, _ in part))
                for _, value in part:
                    got = value_of(stream)
                    wrong += got != value
                    seen.update(got)
    print(json.dumps({"wrong": wrong, "sha256": seen.hexdigest()}))


if __name__ == "__main__":
    main()
