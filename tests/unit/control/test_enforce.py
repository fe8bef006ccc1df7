"""Whom a reset meets, and how many of them it counts."""

import dataclasses
import errno
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from control import compile as compiler
from control import evaluate, names
from control.agent import enforce, resets
from loader import abi, bpf, sockdiag
from loader.errors import FeatureUnsupported
from loader.record import pack_addr
from tests.unit.conns import conn

WEB = names.EndpointName(1, "shop", "web", 256, netns="web")
DB = names.EndpointName(2, "shop", "db", 257, netns="db")
KNOWN = names.Names(endpoints={1: WEB, 2: DB})
CALL = enforce.Doomed(pack_addr("10.0.0.1"), pack_addr("10.0.0.2"), 40001, 6379, 1, 2, None)


def test_a_connection_counts_once_whichever_of_its_ends_are_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {("web", 40002), ("web", 40003), ("db", 40003)}
    asked: list[tuple[str, int, int]] = []

    def destroy(netns: str, sockets: Sequence[sockdiag.SocketName]) -> sockdiag.Destroyed:
        asked.extend((netns, local, remote) for _, local, _, remote, _ in sockets)
        here = [name for name in sockets if (netns, name[1] if netns == "web" else name[3]) not in gone]
        return sockdiag.Destroyed(here, {})

    monkeypatch.setattr(sockdiag, "destroy", destroy)
    both_ends, one_end, no_end = (dataclasses.replace(CALL, sport=port) for port in (40001, 40002, 40003))
    outside = dataclasses.replace(CALL, sport=40004, src_endpoint=0)
    unknown = dataclasses.replace(CALL, sport=40005, src_endpoint=0, dst_endpoint=9)
    assert enforce.reset([both_ends, one_end, no_end, outside, unknown], KNOWN) == (
        {0, 1, 3},
        {4: unknown},
        {"9": "endpoint 9: its network namespace is not known"},
    )
    callers = [("web", port, 6379) for port in (40001, 40002, 40003)]
    assert sorted(asked) == [*(("db", 6379, port) for port in (40001, 40002, 40003, 40004)), *callers]


def test_sockets_are_named_by_their_cookies_as_far_as_they_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the kernel has to be asked for each first."""
    asked: dict[str, int] = {}

    def destroy(netns: str, sockets: Sequence[sockdiag.SocketName]) -> sockdiag.Destroyed:
        asked[netns] = sockets[0][4]
        return sockdiag.Destroyed([*sockets], {})

    monkeypatch.setattr(sockdiag, "destroy", destroy)
    enforce.reset([dataclasses.replace(CALL, sockets=(7, 0))], KNOWN)
    assert asked == {"web": 7, "db": 0}


class Kernel:
    """Resets what it is asked to, but in namespaces that cannot be entered, and single sockets that it refuses."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken: dict[str, OSError] = {}
        self.refused: dict[tuple[str, int], OSError] = {}
        self.asked: list[tuple[str, int]] = []
        monkeypatch.setattr(sockdiag, "destroy", self.destroy)
        monkeypatch.setattr(resets, "_PAUSE_S", 0.0)

    def destroy(self, netns: str, sockets: Sequence[sockdiag.SocketName]) -> sockdiag.Destroyed:
        self.asked += [(netns, name[1]) for name in sockets]
        if error := self.broken.get(netns):
            raise error
        failed = {name: self.refused[netns, name[1]] for name in sockets if (netns, name[1]) in self.refused}
        return sockdiag.Destroyed([name for name in sockets if name not in failed], failed)

    def take(self) -> list[tuple[str, int]]:
        asked, self.asked = sorted(self.asked), []
        return asked


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


STALE = OSError(errno.EINVAL, "not a network namespace")


def test_a_pod_that_cannot_be_reached_keeps_no_other_from_being_reset(kernel: Kernel) -> None:
    kernel.broken["web"] = STALE
    kernel.refused["db", 80] = OSError(errno.ENOBUFS, "No buffer space available")
    local = dataclasses.replace(CALL, src_endpoint=2, sport=40002, dport=80)
    inside = dataclasses.replace(CALL, src_endpoint=2, sport=40003)
    assert enforce.reset([CALL, local, inside], KNOWN) == (
        {0, 1, 2},
        {0: dataclasses.replace(CALL, dst_endpoint=0), 1: dataclasses.replace(local, src_endpoint=0)},
        {
            "web": "network namespace web: not a network namespace",
            "db": "network namespace db: No buffer space available",
        },
    )


def test_what_failed_is_tried_again_for_a_while_and_counted_once(
    kernel: Kernel, caplog: pytest.LogCaptureFixture
) -> None:
    book = resets.Resets()
    only = dataclasses.replace(CALL, sport=40002, dst_endpoint=0)
    kernel.broken["web"] = STALE
    book.reset([CALL, only], KNOWN)
    assert (kernel.take(), book.count) == ([("db", 6379), ("web", 40001), ("web", 40002)], 1)
    book.again(KNOWN)
    assert (kernel.take(), book.count) == ([("web", 40001), ("web", 40002)], 1)
    kernel.broken.clear()
    book.again(KNOWN)
    assert (kernel.take(), book.count) == ([("web", 40001), ("web", 40002)], 2)
    book.again(KNOWN)
    assert kernel.take() == []
    assert [record.getMessage() for record in caplog.records] == [
        "connections cannot be reset in network namespace web: not a network namespace: they stall instead"
    ]


def test_what_fails_for_ever_is_given_up(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    book = resets.Resets()
    kernel.broken["web"] = STALE
    book.reset([CALL], KNOWN)
    for _ in range(20):
        book.again(KNOWN)
    assert kernel.take().count(("web", 40001)) == 10
    assert [record.getMessage() for record in caplog.records][1:] == ["1 connection could not be reset in 10 attempts"]


def test_another_policy_asks_anew_but_the_stuck_are_stuck_under_any(kernel: Kernel) -> None:
    book = resets.Resets()
    kernel.broken["web"] = STALE
    denied = dataclasses.replace(CALL, sport=40002, pair=evaluate.Pair(None, None, 1, 2))
    book.reset([CALL, denied], KNOWN)
    book.forget()
    kernel.take()
    book.again(KNOWN)
    assert kernel.take() == [("web", 40001)]


def test_a_kernel_that_cannot_reset_is_told_of_once(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    def destroy(netns: str, sockets: object) -> sockdiag.Destroyed:
        raise FeatureUnsupported("SOCK_DESTROY: this kernel cannot reset connections")

    book = resets.Resets()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sockdiag, "destroy", destroy)
        book.reset([CALL], KNOWN)
        book.reset([CALL], KNOWN)
    book.again(KNOWN)
    assert (kernel.take(), book.count, len(caplog.records)) == ([], 0, 1)


def view(owners: dict[bytes, int] | None = None, pods: Sequence[int] = ()) -> evaluate.View:
    """Return a policy that allows all; who has each address, and which pods there are, of identity 100 + id."""
    want: Any = {name: {} for name in compiler.MAP_NAMES}
    want["endpoints"] = {abi.EndpointKey(id): abi.Endpoint.blank(identity=100 + id) for id in pods}
    want["endpoint_ips"] = {abi.AddrKey(addr): abi.EndpointRef(id) for addr, id in (owners or {}).items()}
    return evaluate.View(want)


def test_an_end_is_found_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The record has the endpoint that an end began with, 1; 2 is the same pod's now. 3 has lost its address, 4 all."""
    denied = evaluate.Pair(None, None, 1, 2)
    monkeypatch.setattr(enforce.Judge, "denied", lambda self, *_: denied)
    ends = CALL.saddr, CALL.daddr, CALL.sport, CALL.dport
    held: dict[Any, Any] = {}
    maps: Any = SimpleNamespace(
        endpoint_ips={abi.AddrKey(CALL.saddr): abi.EndpointRef(2)},
        endpoints={abi.EndpointKey(id): abi.Endpoint.blank() for id in (2, 3)},
        conns=held,
        ct={},
    )
    nobody = view()
    for recorded, dst in ((3, 3), (4, 0)):
        held[abi.ConnKey(*ends)] = conn(cookie=(7, 8), endpoint=(1, recorded), stuck=(1, 0))
        found = [*enforce.doomed(maps, nobody), *enforce.stuck(maps)]
        assert [(each.src_endpoint, each.dst_endpoint) for each in found] == [(2, dst)] * 2
        assert [each.sockets for each in found] == [(7, 8)] * 2
    held.clear()
    flags = int(abi.CtFlag.SEEN_REPLY)
    for endpoint, direction in ((1, abi.Direction.EGRESS), (3, abi.Direction.INGRESS)):
        key = abi.CtKey(ends[0], ends[1], endpoint, ends[2], ends[3], int(abi.Proto.TCP), int(direction))
        maps.ct = {key: abi.CtEntry.blank(flags=flags)}
        (only,) = enforce.doomed(maps, nobody)
        assert only.src_endpoint == 2 and only.dst_endpoint == (3 if endpoint == 3 else 0)


class Held(dict[Any, Any]):
    """A map in which what is put must be there."""

    def put(self, key: Any, value: Any, flags: int) -> None:
        assert flags == bpf.BPF_EXIST and key in self
        self[key] = value


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, evaluate.View]:
    """Pods 1 and 2 had the addresses of CALL; pod 3 has that of 1 now. Policy allows all."""
    monkeypatch.setattr(enforce.Judge, "denied", lambda self, *_: None)
    owners = {CALL.saddr: 3, CALL.daddr: 2}
    seen = view(owners, pods=(1, 2, 3))
    maps = SimpleNamespace(endpoints=seen.endpoints, endpoint_ips=seen.endpoint_ips, conns={}, ct=Held())
    return maps, seen


ENDS = CALL.saddr, CALL.daddr, CALL.sport, CALL.dport


@pytest.mark.parametrize("lost", abi.Direction)
def test_a_connection_without_its_address_is_condemned_as_that_of_the_pod_that_had_it(
    lost: abi.Direction, passed: tuple[Any, evaluate.View]
) -> None:
    maps, seen = passed
    ends = ENDS if lost == abi.Direction.EGRESS else (ENDS[1], ENDS[0], ENDS[3], ENDS[2])
    flags = 0 if lost == abi.Direction.EGRESS else int(abi.ConnFlag.INITIATOR_1)
    maps.conns[abi.ConnKey(*ENDS)] = conn(cookie=(7, 8), endpoint=(1, 2), flags=flags)
    (only,) = enforce.doomed(maps, seen)
    assert (only.saddr, only.daddr, only.lost) == (*ends[:2], lost)
    pods = [1, 2] if lost == abi.Direction.EGRESS else [2, 1]
    assert [only.src_endpoint, only.dst_endpoint] == pods
    (event,) = enforce.reset_events([only])
    assert (event.reason, event.direction) == (abi.DropReason.INVALID_SOURCE_IP, lost)
    assert [event.src_identity, event.dst_identity] == [100 + id for id in pods]


def test_an_end_of_a_pod_that_was_made_anew_has_lost_nothing(passed: tuple[Any, evaluate.View]) -> None:
    maps, seen = passed
    maps.conns[abi.ConnKey(*ENDS)] = conn(cookie=(7, 8), endpoint=(1, 2), closed=(1, 0))
    assert enforce.doomed(maps, seen) == []
    maps.conns[abi.ConnKey(*ENDS)] = conn(cookie=(7, 8), endpoint=(9, 2))  # 9 is 3 now
    assert enforce.doomed(maps, seen) == []


@pytest.mark.parametrize("order", [1, -1])
def test_conntrack_tells_of_an_end_without_its_address_once(order: int, passed: tuple[Any, evaluate.View]) -> None:
    """The packet hook will not see its end, because it drops what comes from that address."""
    maps, seen = passed
    flags, tcp = int(abi.CtFlag.SEEN_REPLY), int(abi.Proto.TCP)
    mine, theirs = keys = [
        abi.CtKey(*ENDS[:2], id, *ENDS[2:], tcp, int(direction))
        for id, direction in ((1, abi.Direction.EGRESS), (2, abi.Direction.INGRESS))
    ]
    maps.ct.update((key, abi.CtEntry.blank(flags=flags)) for key in keys[::order])
    (only,) = enforce.doomed(maps, seen)
    assert (only.src_endpoint, only.dst_endpoint, only.lost) == (1, 2, abi.Direction.EGRESS)
    assert (maps.ct[mine].flags, maps.ct[theirs].flags) == (flags | abi.CtFlag.CLOSING, flags)
    assert enforce.doomed(maps, seen) == []


@pytest.mark.parametrize("order", [1, -1])
def test_conntrack_names_both_ends_of_what_policy_denies(order: int, passed: tuple[Any, evaluate.View]) -> None:
    """Also where the end of which nobody speaks first has an address that is another pod's now."""
    maps, seen = passed
    denied = evaluate.Pair(None, None, 103, 102)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enforce.Judge, "denied", lambda self, *_: denied)
        for id, direction in ((1, abi.Direction.EGRESS), (2, abi.Direction.INGRESS))[::order]:
            key = abi.CtKey(*ENDS[:2], id, *ENDS[2:], int(abi.Proto.TCP), int(direction))
            maps.ct[key] = abi.CtEntry.blank(flags=int(abi.CtFlag.SEEN_REPLY))
        (only,) = enforce.doomed(maps, seen)
    assert (only.src_endpoint, only.dst_endpoint, only.lost) == (1, 2, abi.Direction.EGRESS)


@pytest.mark.parametrize("has_socket", [True, False])
@pytest.mark.parametrize(("way", "safe"), [(abi.Direction.EGRESS, abi.CtFlag.TO_PROXY),
                                           (abi.Direction.INGRESS, abi.CtFlag.FROM_PROXY)])  # fmt: skip
def test_plaintext_with_another_node_is_condemned_where_tls_is_demanded(
    way: abi.Direction, safe: abi.CtFlag, has_socket: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enforce.Judge, "denied", lambda self, *_: None)
    near, far = (CALL.saddr, CALL.daddr) if way == abi.Direction.EGRESS else (CALL.daddr, CALL.saddr)
    seen = view({near: 2}, pods=(2,))
    seen.ipcache[abi.IpcacheKey(128, far)] = abi.IpcacheValue(300, flags=int(abi.IpcacheFlag.MESH))  # type: ignore[index]
    key = abi.CtKey(*ENDS[:2], 2, *ENDS[2:], int(abi.Proto.TCP), int(way))
    maps: Any = SimpleNamespace(endpoints=seen.endpoints, endpoint_ips=seen.endpoint_ips, conns={}, ct=Held())
    if has_socket:
        ids = (2, 0) if way == abi.Direction.EGRESS else (0, 2)
        maps.conns[abi.ConnKey(*ENDS)] = conn(cookie=(7, 0), endpoint=ids)

    def found(flags: int, mode: abi.Mtls = abi.Mtls.STRICT) -> list[enforce.Doomed]:
        maps.ct[key] = abi.CtEntry.blank(flags=int(abi.CtFlag.SEEN_REPLY | flags))
        return enforce.doomed(maps, seen, mode)

    assert found(int(safe)) == found(0, abi.Mtls.PERMISSIVE) == found(0, abi.Mtls.OFF) == []
    (only,) = found(int((abi.CtFlag.TO_PROXY | abi.CtFlag.FROM_PROXY) & ~safe))
    assert (only.src_endpoint, only.dst_endpoint) == ((2, 0) if way == abi.Direction.EGRESS else (0, 2))
    (event,) = enforce.reset_events([only])
    assert (event.reason, event.direction) == (abi.DropReason.AUTH_REQUIRED, way)
    assert (event.egress_rule, event.ingress_rule) == (0, 0)
