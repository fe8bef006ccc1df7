"""A reader that bars its socket in the middle of a stream gets every byte: a socket leaves the sockhash only when no
message is on its way to it, or the kernel would drop that one without a word."""

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from loader.maps import Maps
from tests.hosts import Mesh, Node
from tests.hosts.wait import PATIENCE
from tests.kernel.pairs import Maker, connect

CALLS, CHUNKS = ("lowat", "fcntl", "ioctl", "urgent"), (64, 512, 4096, 65536)
ROUNDS = 12 if PATIENCE == 1 else 1
SOURCE = Path(__file__).with_name("barring.c")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("barring") / "barring"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", out, SOURCE], check=True)
    return out


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Maker, Maker, Maps]]:
    with Node("barring") as node:
        client, server = node.pod("client"), node.pod("server")
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            yield Maker(client), Maker(server), maps


@pytest.mark.parametrize("call", CALLS)
def test_every_byte_comes(place: tuple[Maker, Maker, Maps], program: Path, call: str) -> None:
    client, server, maps = place
    for _, chunk in itertools.product(range(ROUNDS), CHUNKS):
        pair = connect(client, server, maps)
        assert pair.warm_up(), pair.record()
        a, b = pair.a.fileno(), pair.b.fileno()
        words = [str(program), str(a), str(b), str(chunk), call]
        done = subprocess.run(words, pass_fds=[a, b], stderr=subprocess.PIPE, text=True, timeout=60 * PATIENCE)
        assert done.returncode == 0, f"messages of {chunk}: {done.stderr}{pair.record()}"
        pair.close()
