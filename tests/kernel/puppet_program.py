"""Runs inside a pod: one line of JSON in, one out. Made to be driven by tests.kernel.puppet, with nothing but stdlib.

A request is {"code": ..., "args": {...}}; the code sees `args` as variables, shares one namespace with all requests
before it, and leaves its answer in `result`.
"""

import contextlib
import errno
import json
import os
import select
import socket
import struct
import sys
import time
import traceback

from tests.kernel import puppet_lasting
from tests.kernel.puppet_words import family, word

RAW = {"UDP": 17, "ICMP": 1, "ICMPV6": 58, "SCTP": 132}
_ears: list[socket.socket] = []
_heard: set[str] = set()


def listen_to_all() -> None:
    """Hear every datagram that reaches this network namespace, whatever its port."""
    for name, proto in RAW.items():
        for version in (socket.AF_INET, socket.AF_INET6):
            if (name == "ICMP" and version == socket.AF_INET6) or (name == "ICMPV6" and version == socket.AF_INET):
                continue
            ear = socket.socket(version, socket.SOCK_RAW, proto)
            ear.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            ear.setblocking(False)
            _ears.append(ear)


def heard() -> list[str]:
    """Return the tokens of all datagrams heard so far."""
    for ear in _ears:
        with contextlib.suppress(BlockingIOError):
            while True:
                data = ear.recv(65535)
                at = data.find(b"token:")
                # An ICMP error quotes the packet that it is about: that is not an arrival.
                if at >= 0 and not (ear.proto == RAW["ICMP"] and data[20] in (3, 11)):
                    _heard.add(data[at + 6 :].split(b";")[0].decode())
    return sorted(_heard)


def datagram(name: str, port: int, number: int, token: str) -> bytes:
    body = f"token:{token};".encode()
    if name in ("ICMP", "ICMPV6"):
        head = struct.pack("!BBHHH", port, 0, 0, number & 0xFFFF, 1)
        return struct.pack("!BBHHH", port, 0, checksum(head + body), number & 0xFFFF, 1) + body
    if name == "SCTP":
        return struct.pack("!HHII", 30000 + number % 30000, port, 0, 0) + body
    return body


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def send(attempt: dict[str, object], number: int) -> str:
    name, source, target = str(attempt["proto"]), str(attempt["source"]), str(attempt["target"])
    port = int(str(attempt["port"]))
    raw = name != "UDP"
    with socket.socket(family(target), socket.SOCK_RAW if raw else socket.SOCK_DGRAM, RAW[name] if raw else 0) as s:
        s.bind((source, 0))
        try:
            s.sendto(datagram(name, port, number, str(attempt["token"])), (target, 0 if raw else port))
        except OSError as error:
            return word(error.errno or 0)
    return "ok"


def call(attempts: list[dict[str, object]], wait: float) -> list[str]:
    """Make every call at once; say of each "ok" (datagrams: sent), the errno's name, or "timeout"."""
    out: list[str] = []
    waiting: dict[socket.socket, int] = {}
    for number, attempt in enumerate(attempts):
        if attempt["proto"] != "TCP":
            out.append(send(attempt, number + (os.getpid() << 8)))
            continue
        source, target = str(attempt["source"]), str(attempt["target"])
        s = socket.socket(family(target))
        s.setblocking(False)
        s.bind((source, 0))
        reason = s.connect_ex((target, int(str(attempt["port"]))))
        out.append("timeout" if reason == errno.EINPROGRESS else word(reason))
        if reason == errno.EINPROGRESS:
            waiting[s] = number
        else:
            s.close()
    deadline = time.monotonic() + wait
    while waiting and (left := deadline - time.monotonic()) > 0:
        poll = select.poll()
        by_fd = {s.fileno(): s for s in waiting}
        for fd in by_fd:
            poll.register(fd, select.POLLOUT)
        for fd, _ in poll.poll(left * 1000):
            done = by_fd[fd]
            out[waiting.pop(done)] = word(done.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            done.close()
    for s in waiting:
        s.close()
    return out


def connect(ip: str, port: int, wait: float = 5.0, kind: int = socket.SOCK_STREAM) -> tuple[str, float]:
    """Try a connection; return how it ended and how long that took."""
    with socket.socket(family(ip), kind) as s:
        s.settimeout(wait)
        before = time.monotonic()
        try:
            s.connect((ip, port))
            how = "ok"
        except TimeoutError:
            how = "timeout"
        except OSError as error:
            how = word(error.errno or 0)
        return how, time.monotonic() - before


def say(ip: str, port: int, token: str, size: int = 0, source: str = "") -> tuple[str, float]:
    """Send a datagram of at least `size` bytes; return how that ended and how long it took."""
    with socket.socket(family(ip), socket.SOCK_DGRAM) as s:
        if source:
            s.bind((source, 0))
        before = time.monotonic()
        try:
            s.sendto(f"token:{token};".encode().ljust(size, b"."), (ip, port))
        except OSError as error:
            return word(error.errno or 0), time.monotonic() - before
        return "ok", time.monotonic() - before


def udp_packet(source: str, target: str, sport: int, dport: int, token: str) -> bytes:
    """Return a whole IP packet, as only a raw socket can send it."""
    body = f"token:{token};".encode()
    a, b = (socket.inet_pton(family(ip), ip) for ip in (source, target))
    length = 8 + len(body)
    udp = struct.pack("!HHHH", sport, dport, length, 0) + body
    if ":" in source:
        pseudo = a + b + struct.pack("!II", length, 17)
        udp = struct.pack("!HHHH", sport, dport, length, checksum(pseudo + udp)) + body
        return struct.pack("!IHBB", 0x60000000, length, 17, 64) + a + b + udp
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, 17, 0) + a + b
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + udp


def send_packet(packet: bytes, target: str) -> None:
    with socket.socket(family(target), socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
        if ":" in target:
            s.setsockopt(socket.IPPROTO_IPV6, 36, 1)  # IPV6_HDRINCL
        s.sendto(packet, (target, 0))


def main() -> None:
    scope: dict[str, object] = {**globals(), **vars(puppet_lasting)}
    for line in sys.stdin:
        request = json.loads(line)
        scope.update(request["args"])
        scope["result"] = None
        try:
            exec(request["code"], scope)
            answer: dict[str, object] = {"result": scope["result"]}
        except OSError as error:
            answer = {"errno": error.errno or -1, "error": repr(error)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
