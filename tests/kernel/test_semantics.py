"""Each behaviour of a TCP connection, told by one script with and without the short cut: the words must be equal.

Where sockmap cannot do as TCP does, they must differ in exactly the lines that scenarios/known.py names.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest

from loader.maps import Maps
from tests.hosts import Mesh, Node
from tests.kernel import scenarios
from tests.kernel.pairs import Maker, connect
from tests.kernel.scenarios import ends, reading, sending, telling, urgent
from tests.kernel.scenarios.known import KNOWN, UNCOUNTED, Known, known_here

__all__ = ["ends", "reading", "sending", "telling", "urgent"]  # they fill scenarios.ALL
pytestmark = pytest.mark.kernel
LIMITS = Path(__file__).resolve().parents[2] / "docs" / "limits.md"


@dataclass
class Host:
    maps: Maps
    fast: tuple[Maker, Maker]
    plain: tuple[Maker, Maker]
    known: dict[str, Known]


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Node("semantics") as node:
        fast = node.pod("fast-a"), node.pod("fast-b")
        plain = node.pod("plain-a", accelerate=False), node.pod("plain-b", accelerate=False)
        with Mesh(node) as mesh, mesh.open_maps() as maps:
            makers = [Maker(pod) for pod in (*fast, *plain)]
            yield Host(maps, (makers[0], makers[1]), (makers[2], makers[3]), known_here())
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


def differences(plain: list[str], short_cut: list[str]) -> dict[int, tuple[str, str]]:
    """Return the lines that differ, by number; a line that is missing is empty."""
    both = zip_longest(plain, short_cut, fillvalue="")
    return {number: lines for number, lines in enumerate(both) if lines[0] != lines[1]}


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])
@pytest.mark.parametrize("which", scenarios.ALL)
def test_the_same_with_and_without_the_short_cut(host: Host, which: str, family: int) -> None:
    short_cut, plain = (told(host, which, family, accelerated) for accelerated in (True, False))
    if which in host.known:
        assert differences(plain, short_cut) == host.known[which].lines, host.known[which].why
    else:
        assert "\n".join(short_cut) == "\n".join(plain)


def test_known_differences_are_those_that_the_limits_tell() -> None:
    section = LIMITS.read_text().split("\n## What a program can notice\n")[1].split("\n## ")[0]
    rows = {line.split(" | ")[0].removeprefix("| ") for line in section.splitlines() if line.startswith("| ")}
    assert {*KNOWN, *UNCOUNTED} <= set(scenarios.ALL)
    told_of = {row for known in (*KNOWN.values(), *UNCOUNTED.values()) for row in known.rows}
    assert told_of == rows - {"a program that"}
