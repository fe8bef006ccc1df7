"""Packets that are held for a reader on the short cut come through though policy is edited all the time."""

import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from loader import abi
from tests.hosts import Mesh, Node
from tests.kernel.look import data
from tests.kernel.pairs import Maker, connect

pytestmark = pytest.mark.kernel
_EVERY_S = 0.3


@pytest.fixture(scope="module")
def makers() -> Iterator[tuple[Maker, Maker, Mesh]]:
    with Node("storm") as node:
        client, server = node.pod("client"), node.pod("server")
        node.pod("third")
        with Mesh(node) as mesh:
            yield Maker(client), Maker(server), mesh


@contextlib.contextmanager
def edits(mesh: Mesh) -> Iterator[None]:
    """Rewrite a policy that selects neither end, again and again."""
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.wait(_EVERY_S):
            number += 1
            ports = [{"port": 1000 + number % 50, "protocol": "TCP"}]
            spec = {"podSelector": {"matchLabels": {"app": "third"}}, "ingress": [{"ports": ports}]}
            meta = {"name": "third", "namespace": "default"}
            api = "networking.k8s.io/v1"
            mesh.apply("third", {"apiVersion": api, "kind": "NetworkPolicy", "metadata": meta, "spec": spec})

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("how", ["stays", "closes"])
def test_a_reader_that_comes_back_gets_all_under_edits(makers: tuple[Maker, Maker, Mesh], how: str) -> None:
    client, server, mesh = makers
    with mesh.open_maps() as maps, edits(mesh):
        pair = connect(client, server, maps)
        pair.warm_up(100)
        pair.a.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        content, sent = data(16_000), 0
        with contextlib.suppress(BlockingIOError):
            while sent < len(content):
                sent += pair.a.send(content[sent : sent + 1])  # of small ones few may wait: the rest goes over TCP
        held = maps.counter(abi.Metric.HELD_PACKETS)
        if how == "closes":
            pair.a.close()
        time.sleep(1.4)  # the reader is away: packets are held, and sent again ever later
        assert maps.counter(abi.Metric.HELD_PACKETS) > held
        got = b""
        while len(got) < sent:
            try:
                got += pair.b.recv(65536) or pytest.fail(f"the end came after {len(got)} of {sent} bytes")
            except BlockingIOError:
                assert select.select([pair.b], [], [], 5)[0], f"{len(got)} of {sent} bytes came, and none for 5 s"
        assert got == content[:sent]
        pair.close()
