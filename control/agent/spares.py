"""Replaces records of connections under the programs that are at work on them.

The kernel puts the new value into another element of the map, and keeps the old one for the next record that is
replaced on that CPU, also while a program is still at it: one that waits for room at a reader (bpf/skmsg.c) would then
go by another connection's record, and send its message there. So an old element goes to a spare record first, which
leads nowhere, and to another connection only after every such program has ended.
"""

import contextlib
import dataclasses
import os
from collections.abc import Callable
from types import TracebackType
from typing import Self

from loader import abi, bpf, numbers
from loader.errors import MapFull
from loader.maps import Maps

_AT_ONCE = 256  # records between two waits, each of which takes some milliseconds
# What a killed agent leaves of them goes with what is left of a self-test.
_SPARE = abi.Conn.blank(end=(abi.End.blank(endpoint=numbers.FIRST_ENDPOINT + 255), abi.End.blank()))


class Replacing:
    """Replaces any number of records within a `with` block. Nothing is done in one that replaces none."""

    def __init__(self, opened: Maps) -> None:
        self._conns = opened.conns
        self._spares: list[abi.ConnKey] = []
        self._cpus: set[int] | None = None  # that this thread may use: the old element is kept for that CPU

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._let_go()
        if self._cpus is not None:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(0, self._cpus)

    def change(
        self, key: abi.ConnKey, seen: abi.Conn, to: Callable[[abi.Conn], tuple[abi.End, abi.End] | None]
    ) -> abi.Conn | None:
        """Change the ends of the connection that was `seen` as `to` says of its record now, and return that; None where
        the connection has ended, another has its place, or `to` gave none.

        One that asks for a message's way meanwhile may be among what is lost, so both ends are taken for busy (at_rest
        of bpf/enrol.h).
        """
        conn = self._conns.get(key)  # as late as can be: what hooks write from here on is lost
        if conn is None or [end.cookie for end in conn.end] != [end.cookie for end in seen.end]:
            return None
        ends = to(conn)
        if ends is None:
            return None
        left, right = (dataclasses.replace(end, busy=1) for end in ends)
        changed = dataclasses.replace(conn, end=(left, right))
        try:
            self._put(key, changed)
        except FileNotFoundError:  # it ended just now
            return None
        return changed

    def _put(self, key: abi.ConnKey, conn: abi.Conn) -> None:
        if self._cpus is None:
            self._stay()
        if len(self._spares) == _AT_ONCE:
            self._let_go()
        spare = abi.ConnKey(bytes(16), bytes(16), len(self._spares), 0)
        try:
            self._conns.put(spare, _SPARE)
        except MapFull:
            if self._spares:
                self._let_go()
                self._put(key, conn)
                return
            self._conns.put(key, conn, bpf.BPF_EXIST)
            bpf.await_programs()
            return
        self._spares.append(spare)
        self._conns.put(key, conn, bpf.BPF_EXIST)
        self._conns.put(spare, _SPARE)

    def _stay(self) -> None:
        cpus = os.sched_getaffinity(0)
        self._cpus = set(cpus)
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {min(cpus)})

    def _let_go(self) -> None:
        if self._spares:
            bpf.await_programs()
        for spare in self._spares:
            self._conns.delete(spare)
        self._spares.clear()
