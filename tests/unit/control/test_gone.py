"""Who waits for the last word of a pod that is gone, and what must be sure before he is told."""

import time
from types import SimpleNamespace
from typing import Any

import pytest

from control import names
from control.agent import gone, host
from loader import abi, sockdiag
from loader.record import pack_addr

KEY = abi.ConnKey(pack_addr("10.0.0.1"), pack_addr("10.0.0.2"), 40001, 6379)
READER, PEER = (KEY.addr0, KEY.port0, KEY.addr1, KEY.port1, 7), (KEY.addr1, KEY.port1, KEY.addr0, KEY.port0, 8)
ESTABLISHED, CLOSE_WAIT = 1, 8
KNOWN = names.Names(
    endpoints={id: names.EndpointName(id, "shop", name, 256, netns=name) for id, name in ((1, "web"), (2, "db"))}
)


class Conns(dict[abi.ConnKey, abi.Conn]):
    def put(self, key: abi.ConnKey, value: abi.Conn, flags: int = 0) -> None:
        self[key] = value

    def delete(self, key: abi.ConnKey) -> bool:
        return self.pop(key, None) is not None

    def raw_items(self) -> list[tuple[bytes, bytes]]:
        return [(key.pack(), value.pack()) for key, value in self.items()]


class Place:
    """A connection of web, whose end waits, to db, which is gone with its interface."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.interfaces = {5: "v-web"}
        self.sockets: dict[str, Any] = {"web": {READER: ESTABLISHED}, "db": {}}
        self.reader = abi.End.blank(cookie=7, endpoint=1, enrolled=1, held=1)
        self.peer = abi.End.blank(cookie=8, endpoint=2, enrolled=1, closed=int(abi.Closed.CUT))
        self.flags = 0
        self.endpoints = {abi.EndpointKey(1): abi.Endpoint.blank(ifindex=5)}
        self.conns = Conns()
        maps: Any = SimpleNamespace(conns=self.conns, endpoints=self.endpoints)
        self.gone = gone.Gone(maps)
        monkeypatch.setattr(host, "name", lambda ifindex: self.interfaces.get(ifindex, ""))
        monkeypatch.setattr(sockdiag, "states", self.states)

    def states(self, netns: str) -> Any:
        if isinstance(found := self.sockets[netns], OSError):
            raise found
        return found

    def look(self) -> int:
        """Return how many are told."""
        self.conns[KEY] = abi.Conn.blank(end=(self.reader, self.peer), flags=self.flags)
        told = list(self.gone.look(KNOWN))
        assert [event.reason for event in told] == [abi.AccelReason.ABANDONED] * self.conns[KEY].end[0].stuck
        assert not list(self.gone.look(KNOWN))  # once
        return len(told)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(monkeypatch)


def test_who_waits_is_told(place: Place) -> None:
    assert place.look() == 1


@pytest.mark.parametrize("netns", ["web", "db"])
def test_where_nobody_can_tell_nobody_is(place: Place, netns: str) -> None:
    place.sockets[netns] = OSError(24, "Too many open files")
    assert place.look() == 0


def test_while_the_other_socket_is_there_tcp_may_go_on(place: Place) -> None:
    place.sockets["db"] = {PEER: ESTABLISHED}
    assert place.look() == 0 and place.conns[KEY].end[1].closed == abi.Closed.CUT
    assert place.gone.living == {KEY}
    place.sockets["db"] = {(*PEER[:3], 1, 8): ESTABLISHED}  # in another connection
    assert place.look() == 1 and not place.gone.living


def test_who_has_heard_the_end_does_not_wait(place: Place) -> None:
    place.sockets["web"] = {READER: CLOSE_WAIT}
    assert place.look() == 0


def test_the_node_proxys_socket_does_not_go_with_the_pod(place: Place) -> None:
    place.flags = int(abi.ConnFlag.TO_PROXY)
    assert place.look() == 0
    place.flags = int(abi.ConnFlag.FROM_PROXY)  # it stands for the other
    assert place.look() == 1


@pytest.mark.parametrize("closed", [abi.Closed.POD, abi.Closed.CUT])
def test_an_end_that_is_back_is_open(place: Place, closed: abi.Closed) -> None:
    place.sockets["db"] = {PEER: ESTABLISHED}
    place.peer = abi.End.blank(cookie=8, endpoint=2, enrolled=1, closed=int(closed))
    place.endpoints[abi.EndpointKey(2)] = abi.Endpoint.blank(ifindex=6)
    assert place.look() == 0 and place.conns[KEY].end[1].closed == closed  # in force, and without its interface
    place.interfaces[6] = "v-db"
    assert place.look() == 0
    assert not place.conns[KEY].end[1].closed and {end.busy for end in place.conns[KEY].end} == {1}


def test_one_that_was_withdrawn_is_gone_when_its_interface_is(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    place.peer = abi.End.blank(cookie=8, endpoint=2, enrolled=1, closed=int(abi.Closed.POD))
    place.interfaces[6] = "v-db"
    assert not place.gone.is_due()
    place.gone.went({2: abi.Endpoint.blank(ifindex=6)}, KNOWN)
    assert not place.gone.is_due() and place.look() == 0
    del place.interfaces[6]
    clock[0] += 1
    assert place.gone.is_due() and not place.gone.is_due()  # not in each turn of the loop
    assert place.look() == 1
    clock[0] += 20
    assert not place.gone.is_due()
    place.conns.clear()
    assert not list(place.gone.look(KNOWN)) and not place.gone._pods


def test_one_whose_id_another_had_after_it_is_not_gone_with_that(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its Workload was edited to lead to another pod, which goes; the first one is none of ours, and talks on."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    place.sockets = {"web": {READER: ESTABLISHED}, "db": {PEER: ESTABLISHED}, "another": {}}
    place.peer = abi.End.blank(cookie=8, endpoint=2, enrolled=1, closed=int(abi.Closed.POD))
    place.interfaces[6] = "v-db"
    place.gone.went({2: abi.Endpoint.blank(ifindex=6)}, KNOWN)
    assert not place.gone.is_due() and place.look() == 0
    another = names.Names(endpoints={2: names.EndpointName(2, "shop", "db", 256, netns="another")})
    for ifindex in (7, 8, 9):  # made again and again, and gone
        clock[0] += 1
        place.gone.went({2: abi.Endpoint.blank(ifindex=ifindex)}, another)
        assert place.gone.is_due() and place.look() == 0
    assert len(place.gone._pods[2]) == 1
    del place.interfaces[6]
    clock[0] += 1
    assert place.gone.is_due() and place.look() == 0 and place.gone.living == {KEY}
    place.sockets["db"] = {}
    clock[0] += 1
    assert place.gone.is_due() and place.look() == 1
