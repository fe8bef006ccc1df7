"""A gRPC client: `grpc_client.py ADDRESS WHAT` does so over one channel, and prints what came of it as JSON."""

import hashlib
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc

Json = dict[str, Any]
METADATA = (("x-order", "seven"), ("x-key-bin", bytes(range(256))), ("authorization", "Bearer hush"))
PIECES, SIZE = 500, 20_000
_AS_THEY_ARE = {"request_serializer": None, "response_deserializer": None}


class Shop:
    def __init__(self, address: str) -> None:
        options = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1))
        self.channel = grpc.insecure_channel(address, options)
        grpc.channel_ready_future(self.channel).result(20)

    def unary(self, method: str) -> Any:
        return self.channel.unary_unary(f"/shop.{method}", **_AS_THEY_ARE)

    def down(self, method: str) -> Any:
        return self.channel.unary_stream(f"/shop.{method}", **_AS_THEY_ARE)

    def up(self, method: str) -> Any:
        return self.channel.stream_unary(f"/shop.{method}", **_AS_THEY_ARE)

    def both(self, method: str) -> Any:
        return self.channel.stream_stream(f"/shop.{method}", **_AS_THEY_ARE)

    def peer(self) -> str:
        """Return from where the server is called over this channel now."""
        _, call = self.unary("Orders/Echo").with_call(b"", timeout=20)
        return str(dict(call.initial_metadata())["peer"])

    def ended(self, count: int) -> list[Any]:
        """Return how so many calls ended, as the server says when it has heard of them."""
        by = time.monotonic() + 10
        while True:
            found = json.loads(self.unary("Orders/Ended")(b"", timeout=20))
            if len(found) >= count or time.monotonic() > by:
                return list(found)
            time.sleep(0.02)


def status(call: Any) -> str:
    """Return what comes of a call, or of the answers to it."""
    try:
        answer = call()
        if not isinstance(answer, bytes):
            list(answer)
    except grpc.RpcError as error:
        return f"{error.code().name}: {error.details()}"
    return "OK"


def pieces() -> Iterator[bytes]:
    for number in range(PIECES):
        yield number.to_bytes(4) * (SIZE // 4)


def digest() -> str:
    return hashlib.sha256(b"".join(pieces())).hexdigest()


def unary(shop: Shop) -> Json:
    sizes = (0, 1, 16_384, 65_536, 3_000_000)
    same = []
    for compression in (None, grpc.Compression.Gzip):
        for size in sizes:
            answer, call = shop.unary("Orders/Echo").with_call(
                bytes(size), timeout=20, metadata=METADATA, compression=compression
            )
            same.append(answer == bytes(size) and tuple(call.trailing_metadata()) == METADATA[:2])
    return {"same": sum(same), "of": len(same)}


def streams(shop: Shop) -> Json:
    down = hashlib.sha256(b"".join(shop.down("Orders/Down")(json.dumps([PIECES, SIZE]).encode(), timeout=30)))
    count, up = json.loads(shop.up("Orders/Up")(pieces(), timeout=30))
    both = hashlib.sha256(b"".join(shop.both("Orders/Both")(pieces(), timeout=30)))
    return {"down": down.hexdigest() == digest(), "up": up == digest(), "both": both.hexdigest() == digest()} | {
        "count": count == PIECES
    }


def turns(shop: Shop) -> Json:
    """Say something only when the last thing has been answered."""
    said, may_go_on = 0, threading.Semaphore(1)

    def requests() -> Iterator[bytes]:
        for number in range(200):
            may_go_on.acquire()
            yield b"%d" % number

    for answer in shop.both("Orders/Both")(requests(), timeout=30):
        said += int(answer) == said
        may_go_on.release()
    return {"said": said}


def deadline(shop: Shop) -> Json:
    peer = shop.peer()
    found = status(lambda: shop.unary("Orders/Slow")(b"", timeout=0.3))
    return {"status": found, "ended": shop.ended(1), "same connection": shop.peer() == peer}


def cancel(shop: Shop) -> Json:
    peer = shop.peer()
    call = shop.down("Orders/Endless")(b"", timeout=30)
    got = [len(next(call)) for _ in range(3)]
    call.cancel()
    found = status(lambda: call)
    return {"got": got, "status": found, "ended": shop.ended(1), "same connection": shop.peer() == peer}


def fail(shop: Shop) -> Json:
    try:
        shop.unary("Orders/Fail")(b"", timeout=20)
    except grpc.RpcError as error:
        return {"code": error.code().name, "said": error.details(), "trailers": dict(error.trailing_metadata())}
    return {}


def refused(shop: Shop) -> Json:
    peer = shop.peer()
    calls = {
        "unary": lambda: shop.unary("Admin/Delete")(bytes(100_000), timeout=20),
        "down": lambda: shop.down("Admin/Delete")(b"", timeout=20),
        "up": lambda: shop.up("Admin/Delete")(pieces(), timeout=20),
        "both": lambda: shop.both("Admin/Delete")(pieces(), timeout=20),
    }
    found = {name: Counter(status(call) for _ in range(20)) for name, call in calls.items()}
    return {"statuses": found, "ended": shop.ended(0), "same connection": shop.peer() == peer}


def crowd(shop: Shop) -> Json:
    """Sixteen threads, each with calls that are let through and calls that are not, while a stream goes on."""
    stream = shop.down("Orders/Endless")(b"", timeout=60)
    found = Counter[str]()
    lock = threading.Lock()

    def work() -> None:
        for _ in range(20):
            for method in ("Orders/Echo", "Admin/Delete"):
                said = status(lambda method=method: shop.unary(method)(bytes(1000), timeout=20))
                with lock:
                    found[f"{method} {said}"] += 1

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = len(next(stream))
    stream.cancel()
    return {"answers": found, "stream": got}


def short(shop: Shop) -> Json:
    """Go on for so long that the server has bidden farewell to several connections."""
    found, peers = Counter[str](), set[str]()
    by = time.monotonic() + 20
    while len(peers) < 4 and time.monotonic() < by:
        found[status(lambda: shop.unary("Orders/Echo")(bytes(1000), timeout=20))] += 1
        peers.add(shop.peer())
    return {"statuses": list(found), "connections": len(peers) >= 4}


def die(shop: Shop) -> Json:
    """Have the server die in the middle of a stream."""
    stream = shop.down("Orders/Endless")(b"", timeout=30)
    got = len(next(stream))
    found = [status(lambda: shop.unary("Orders/Die")(b"", timeout=20)), status(lambda: stream)]
    return {"got": got, "statuses": [each.partition(":")[0] for each in found], "said": found}


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[2]](Shop(sys.argv[1]))))
