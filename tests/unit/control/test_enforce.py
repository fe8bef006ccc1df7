"""Whom a reset meets, and how many of them it counts."""

import dataclasses
from collections.abc import Sequence

import pytest

from control import names
from control.agent import enforce
from loader import sockdiag
from loader.record import pack_addr

WEB = names.EndpointName(1, "shop", "web", 256, netns="web")
DB = names.EndpointName(2, "shop", "db", 257, netns="db")
KNOWN = names.Names(endpoints={1: WEB, 2: DB})
CALL = enforce.Doomed(pack_addr("10.0.0.1"), pack_addr("10.0.0.2"), 40001, 6379, 1, 2, None)


def test_a_connection_counts_once_whichever_of_its_ends_are_still_there(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = {("web", 40002), ("web", 40003), ("db", 40003)}
    asked: list[tuple[str, int, int]] = []

    def destroy(netns: str, sockets: Sequence[sockdiag.SocketName]) -> list[sockdiag.SocketName]:
        asked.extend((netns, local, remote) for _, local, _, remote, _ in sockets)
        return [name for name in sockets if (netns, name[1] if netns == "web" else name[3]) not in gone]

    monkeypatch.setattr(sockdiag, "destroy", destroy)
    both_ends, one_end, no_end = (dataclasses.replace(CALL, sport=port) for port in (40001, 40002, 40003))
    outside = dataclasses.replace(CALL, sport=40004, src_endpoint=0)
    unknown = dataclasses.replace(CALL, sport=40005, src_endpoint=0, dst_endpoint=9)
    assert enforce.reset([both_ends, one_end, no_end, outside, unknown], KNOWN) == 3
    callers = [("web", port, 6379) for port in (40001, 40002, 40003)]
    assert sorted(asked) == [*(("db", 6379, port) for port in (40001, 40002, 40003, 40004)), *callers]
