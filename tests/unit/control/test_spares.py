"""An element of the map that programs may be at work on is another connection's only after they have ended."""

import itertools
import os
from typing import Any

import pytest

from control.agent import spares
from loader import abi, bpf
from loader.errors import MapFull
from loader.maps import Maps
from loader.record import pack_addr
from tests.unit.conns import conn

KEYS = [abi.ConnKey(pack_addr("10.0.0.1"), pack_addr("10.0.0.2"), port, 80) for port in range(1, 601)]


class Conns:
    """The map as the kernel keeps it: elements by key, and the one that takes the next value of a key that is there."""

    def __init__(self, keys: list[abi.ConnKey], room: int = 10_000) -> None:
        self._numbers = itertools.count()
        self.elements = {key: next(self._numbers) for key in keys}
        self.values: dict[abi.ConnKey, abi.Conn] = {}
        self._extra = next(self._numbers)
        self._room = room
        self.in_use: dict[int, abi.ConnKey] = {}  # elements that programs are at, and of whom these take them to be

    def put(self, key: abi.ConnKey, value: abi.Conn, flags: int = bpf.BPF_ANY) -> None:
        if key in self.elements:
            self.elements[key], self._extra = self._extra, self.elements[key]
        elif flags == bpf.BPF_EXIST:
            raise FileNotFoundError
        elif len(self.elements) == self._room:
            raise MapFull("map conns is full")
        else:
            self.elements[key] = next(self._numbers)
        self.values[key] = value
        if key in KEYS:
            assert self.in_use.get(self.elements[key], key) == key, "a program is at it"
            self.in_use[self._extra] = key

    def delete(self, key: abi.ConnKey) -> bool:
        assert not self.in_use, "its element can be anybody's next"
        return self.elements.pop(key, None) is not None


@pytest.fixture
def conns(monkeypatch: pytest.MonkeyPatch) -> Conns:
    return made(monkeypatch, Conns(KEYS))


def made(monkeypatch: pytest.MonkeyPatch, conns: Conns) -> Conns:
    monkeypatch.setattr(bpf, "await_programs", conns.in_use.clear)
    return conns


def replace(conns: Any, keys: list[abi.ConnKey]) -> None:
    maps = Maps.__new__(Maps)
    maps.conns = conns
    with spares.Replacing(maps) as replacing:
        for port, key in enumerate(keys):
            replacing.put(key, conn(opened=port))


def test_of_many_none_gets_what_was_anothers(conns: Conns) -> None:
    cpus = os.sched_getaffinity(0)
    replace(conns, KEYS)
    assert [conns.values[key].opened for key in KEYS] == list(range(len(KEYS)))
    assert conns.elements.keys() == set(KEYS)  # no spare one stays
    assert os.sched_getaffinity(0) == cpus


def test_one_that_has_closed_is_not_made_again(conns: Conns) -> None:
    del conns.elements[KEYS[0]]
    with pytest.raises(FileNotFoundError):
        replace(conns, KEYS[:1])
    assert conns.elements.keys() == set(KEYS[1:])


@pytest.mark.parametrize("room", [len(KEYS), len(KEYS) + 3])
def test_a_full_map_has_room_for_that(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    conns = made(monkeypatch, Conns(KEYS, room))
    replace(conns, KEYS)
    assert [conns.values[key].opened for key in KEYS] == list(range(len(KEYS)))
    assert conns.elements.keys() == set(KEYS)
