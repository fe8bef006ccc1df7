"""What a puppet does for longer than one order: it serves, keeps connections, or hammers at a closed door."""

import contextlib
import errno
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable

from tests.kernel.puppet_words import family, word


def in_background(step: Callable[[], None]) -> None:
    """Repeat a step for ever, whatever OSErrors it meets."""

    def body() -> None:
        while True:
            with contextlib.suppress(OSError):
                step()

    threading.Thread(target=body, daemon=True).start()


def echo_tcp(ip: str, port: int) -> None:
    """Send back what one caller after the other says."""
    listener = socket.create_server((ip, port), family=family(ip))

    def step() -> None:
        with listener.accept()[0] as s:
            while data := s.recv(1000):
                s.sendall(data)

    in_background(step)


def echo_udp(ip: str, port: int) -> None:
    """Answer every datagram, over a socket that is not connected, as servers do."""
    bound = socket.socket(family(ip), socket.SOCK_DGRAM)
    bound.bind((ip, port))

    def step() -> None:
        data, who = bound.recvfrom(65535)
        bound.sendto(data, who)

    in_background(step)


def pump(s: socket.socket, ends: list[tuple[str, float]]) -> None:
    """Send back what comes, in non-blocking mode, until the connection ends; note how and when."""
    how = "end"
    try:
        while True:
            select.select([s], [], [])
            data = s.recv(65536)
            if not data:
                break
            while data:
                select.select([], [s], [])
                data = data[s.send(data) :]
    except OSError as error:
        how = word(error.errno or 0)
    ends.append((how, time.monotonic()))
    s.close()


def echo_unblocked(ip: str, port: int, ends: list[tuple[str, float]]) -> None:
    """Serve any number of callers at once, every socket in non-blocking mode."""
    listener = socket.create_server((ip, port), family=family(ip))

    def step() -> None:
        s = listener.accept()[0]
        s.setblocking(False)
        threading.Thread(target=pump, args=(s, ends), daemon=True).start()

    in_background(step)


def exchange(s: socket.socket, rounds: int, wait: float = 10.0) -> None:
    """Send and get back a few bytes, again and again; raises OSError when the connection breaks."""
    for _ in range(rounds):
        s.send(b"ping")
        got = 0
        while got < 4:
            if not select.select([s], [], [], wait)[0]:
                raise TimeoutError
            data = s.recv(4 - got)
            if not data:
                raise ConnectionAbortedError(errno.ECONNABORTED, "ended")
            got += len(data)


def watch(s: socket.socket, busy: bool, wait: float) -> tuple[str, float]:
    """Use a connection, or only look at it, until it breaks; return how and when (CLOCK_MONOTONIC)."""
    deadline = time.monotonic() + wait
    try:
        while time.monotonic() < deadline:
            if busy:
                exchange(s, 20, deadline - time.monotonic())
            elif select.select([s], [], [], deadline - time.monotonic())[0] and not s.recv(1):
                return "end", time.monotonic()
    except OSError as error:
        return word(error.errno or 0), time.monotonic()
    return "alive", time.monotonic()


def name_tcp(ip: str, port: int, name: str) -> None:
    """Tell every caller a name."""
    listener = socket.create_server((ip, port), family=family(ip))

    def step() -> None:
        with listener.accept()[0] as s:
            s.sendall(name.encode())

    in_background(step)


def name_udp(ip: str, port: int, name: str) -> None:
    bound = socket.socket(family(ip), socket.SOCK_DGRAM)
    bound.bind((ip, port))

    def step() -> None:
        bound.sendto(name.encode(), bound.recvfrom(100)[1])

    in_background(step)


def hammer(step: Callable[[], str]) -> Callable[[], dict[str, int]]:
    """Try something again and again; the answer is to be called: it stops and tells how often what came out."""
    stop = threading.Event()
    tally: Counter[str] = Counter()

    def body() -> None:
        while not stop.wait(0.0005):
            tally[step()] += 1

    thread = threading.Thread(target=body, daemon=True)
    thread.start()

    def end() -> dict[str, int]:
        stop.set()
        thread.join(10)
        return dict(tally)

    return end


def flood(packet: bytes, target: str) -> Callable[[], int]:
    """Send one IPv4 packet as often as may be; the answer is to be called: it stops and tells how often."""
    stop = threading.Event()
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sent = 0

    def body() -> None:
        nonlocal sent
        while not stop.wait(0.0002):
            for _ in range(20):
                raw.sendto(packet, (target, 0))
            sent += 20

    thread = threading.Thread(target=body, daemon=True)
    thread.start()

    def end() -> int:
        stop.set()
        thread.join(10)
        raw.close()
        return sent

    return end
