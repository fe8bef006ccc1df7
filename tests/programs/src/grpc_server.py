"""A gRPC server, every kind of call: `grpc_server.py PORT SHORT_PORT`; at the latter no connection lives long.

`/shop.Orders/Ended` says how the calls of `Slow` and `Endless` ended, and what was called of `/shop.Admin`.
"""

import hashlib
import json
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent import futures
from typing import Any

import grpc

Context = Any  # grpc.ServicerContext
ended: list[list[Any]] = []


def echo(request: bytes, context: Context) -> bytes:
    """Return the request; the metadata that begins with x- comes back as trailers, and who called as metadata."""
    context.send_initial_metadata((("peer", context.peer()),))
    context.set_trailing_metadata([each for each in context.invocation_metadata() if each[0].startswith("x-")])
    return request


def down(request: bytes, context: Context) -> Iterator[bytes]:
    count, size = json.loads(request)
    for number in range(count):
        yield number.to_bytes(4) * (size // 4)


def up(requests: Iterable[bytes], context: Context) -> bytes:
    whole, count = hashlib.sha256(), 0
    for request in requests:
        whole.update(request)
        count += 1
    return json.dumps([count, whole.hexdigest()]).encode()


def both(requests: Iterable[bytes], context: Context) -> Iterator[bytes]:
    yield from requests


def _until_over(context: Context, what: str) -> threading.Event:
    over, left = threading.Event(), context.time_remaining()

    def tell() -> None:
        ended.append([what, left is not None and left < 60, context.is_active()])
        over.set()

    if not context.add_callback(tell):
        tell()
    return over


def slow(request: bytes, context: Context) -> bytes:
    _until_over(context, "slow").wait(20)
    return b"too late"


def endless(request: bytes, context: Context) -> Iterator[bytes]:
    over = _until_over(context, "endless")
    while not over.is_set():
        yield bytes(1000)


def fail(request: bytes, context: Context) -> bytes:
    context.set_trailing_metadata((("x-order", "7"),))
    context.abort(grpc.StatusCode.NOT_FOUND, "no such order: größer % 7")
    return b""


def admin(request: bytes, context: Context) -> bytes:
    ended.append(["admin"])
    return b"nobody may see this"


def die(request: bytes, context: Context) -> bytes:
    os._exit(0)


def handlers() -> list[Any]:
    unary = grpc.unary_unary_rpc_method_handler
    orders = {
        "Echo": unary(echo),
        "Down": grpc.unary_stream_rpc_method_handler(down),
        "Up": grpc.stream_unary_rpc_method_handler(up),
        "Both": grpc.stream_stream_rpc_method_handler(both),
        "Slow": unary(slow),
        "Endless": grpc.unary_stream_rpc_method_handler(endless),
        "Fail": unary(fail),
        "Die": unary(die),
        "Ended": unary(lambda request, context: json.dumps(ended).encode()),
    }
    generic = grpc.method_handlers_generic_handler
    return [generic("shop.Orders", orders), generic("shop.Admin", {"Delete": unary(admin)})]


def main(port: str, short: str) -> None:
    servers = []
    age = (("grpc.max_connection_age_ms", 200), ("grpc.max_connection_age_grace_ms", 5000))
    for number, options in ((port, ()), (short, age)):
        server = grpc.server(
            futures.ThreadPoolExecutor(32), options=(*options, ("grpc.max_receive_message_length", -1))
        )
        server.add_generic_rpc_handlers(handlers())
        server.add_insecure_port(f"[::]:{number}")
        server.start()
        servers.append(server)
    for server in servers:
        server.wait_for_termination()


main(*sys.argv[1:])
