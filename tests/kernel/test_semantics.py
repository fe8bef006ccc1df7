"""Each behaviour of a TCP connection, told by one script with and without the short cut: the words must be equal."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from loader.maps import Maps
from tests.hosts import Mesh, Node
from tests.kernel import scenarios
from tests.kernel.pairs import Maker, connect
from tests.kernel.scenarios import ends, reading, sending, telling, urgent

__all__ = ["ends", "reading", "sending", "telling", "urgent"]  # they fill scenarios.ALL
pytestmark = pytest.mark.kernel


@dataclass
class Host:
    maps: Maps
    fast: tuple[Maker, Maker]
    plain: tuple[Maker, Maker]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Node("semantics") as node:
        fast = node.pod("fast-a"), node.pod("fast-b")
        plain = node.pod("plain-a", accelerate=False), node.pod("plain-b", accelerate=False)
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            makers = [Maker(pod) for pod in (*fast, *plain)]
            yield Host(maps, (makers[0], makers[1]), (makers[2], makers[3]))
            for maker in makers:
                maker.close()


def told(host: Host, which: str, family: int, accelerated: bool) -> list[str]:
    """Run a scenario on one connection and return what was seen."""
    for key, _ in list(host.maps.caught.items()):
        host.maps.caught.delete(key)  # a scenario may have put this very pod off the short cut
    makers = host.fast if accelerated else host.plain
    this = scenarios.ALL[which]
    pair = connect(*makers, host.maps, family, this.prepare)
    words: list[str] = []
    try:
        short_cut = not this.cold and pair.warm_up()
        assert short_cut == accelerated or this.barred or this.cold, (
            f"{which}: not as the test needs it: {pair.record()}"
        )
        this.script(pair, lambda what, value: words.append(f"{what}: {value}"))
    except TimeoutError as error:
        words.append(f"gave up: {error}")
    finally:
        pair.close()
    return words


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])
@pytest.mark.parametrize("which", scenarios.ALL)
def test_the_same_with_and_without_the_short_cut(host: Host, which: str, family: int) -> None:
    short_cut, plain = (told(host, which, family, accelerated) for accelerated in (True, False))
    assert "\n".join(short_cut) == "\n".join(plain)
