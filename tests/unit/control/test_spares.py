"""An element of the map that programs may be at work on is another connection's only after they have ended."""

import dataclasses
import itertools
import os
from typing import Any, cast

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
        self.values = {key: conn(opened=at) for at, key in enumerate(keys)}
        self._extra = next(self._numbers)
        self._room = room
        self.in_use: dict[int, abi.ConnKey] = {}  # elements that programs are at, and of whom these take them to be

    def get(self, key: abi.ConnKey) -> abi.Conn | None:
        return self.values[key] if key in self.elements else None

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


def replace(conns: Any, keys: list[abi.ConnKey], cookie: int | None = None) -> list[abi.Conn | None]:
    maps = Maps.__new__(Maps)
    maps.conns = conns
    with spares.Replacing(maps) as replacing:
        return [replacing.change(key, seen(at, cookie), counted) for at, key in enumerate(keys)]


def seen(at: int, cookie: int | None = None) -> abi.Conn:
    here = conn(opened=at)
    left, right = here.end
    return here if cookie is None else dataclasses.replace(here, end=(dataclasses.replace(left, cookie=cookie), right))


def counted(here: abi.Conn) -> tuple[abi.End, abi.End]:
    left, right = here.end
    return dataclasses.replace(left, tcp_received=here.opened), right


def are_all_changed(conns: Conns) -> bool:
    return [(conns.values[key].opened, conns.values[key].end[0].tcp_received) for key in KEYS] == [
        (at, at) for at in range(len(KEYS))
    ]


def test_of_many_none_gets_what_was_anothers(conns: Conns) -> None:
    cpus = os.sched_getaffinity(0)
    replace(conns, KEYS)
    assert are_all_changed(conns)
    assert conns.elements.keys() == set(KEYS)  # no spare one stays
    assert os.sched_getaffinity(0) == cpus


def test_one_that_has_closed_is_not_made_again(conns: Conns) -> None:
    del conns.elements[KEYS[0]]
    assert replace(conns, KEYS[:1]) == [None]
    assert conns.elements.keys() == set(KEYS[1:])


def test_one_that_closes_meanwhile_is_not_made_again(conns: Conns) -> None:
    def closing(here: abi.Conn) -> tuple[abi.End, abi.End]:
        conns.elements.pop(KEYS[0])
        return here.end

    maps = Maps.__new__(Maps)
    maps.conns = cast(Any, conns)
    with spares.Replacing(maps) as replacing:
        assert replacing.change(KEYS[0], seen(0), closing) is None
    assert conns.elements.keys() == set(KEYS[1:])


def test_another_connection_between_the_same_ends_is_left_alone(conns: Conns) -> None:
    before = dict(conns.values)
    assert replace(conns, KEYS[:2], cookie=99) == [None, None]
    assert conns.values == before


def test_what_is_changed_is_taken_for_busy(conns: Conns) -> None:
    (changed,) = replace(conns, KEYS[:1])
    assert changed is not None
    assert [end.busy for end in changed.end] == [1, 1]
    assert changed == conns.values[KEYS[0]]


@pytest.mark.parametrize("room", [len(KEYS), len(KEYS) + 3])
def test_a_full_map_has_room_for_that(monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    conns = made(monkeypatch, Conns(KEYS, room))
    replace(conns, KEYS)
    assert are_all_changed(conns)
    assert conns.elements.keys() == set(KEYS)
