"""What the node proxies' workers count of TLS between nodes, added up for /metrics.

A worker says all that it has counted since it began; the last word of each counts. One that is gone has counted what it
has, and holds no connection any more: it is known by others having spoken since, where there are fewer of them.
"""

import dataclasses
import threading
from collections import Counter
from collections.abc import Hashable, Mapping
from typing import Any

_MOST_WORKERS, _MOST_REASONS, _LONGEST = 256, 64, 64


@dataclasses.dataclass(frozen=True)
class Handshakes:
    """`refused` is by reason; `seconds`: that the successful ones took, all together."""

    ok: int = 0
    refused: Mapping[str, int] = dataclasses.field(default_factory=dict)
    seconds: float = 0.0
    pool_open: int = 0  # connections that are in use
    pool_idle: int = 0


def read(content: Any) -> tuple[int, Handshakes]:
    """Return a worker's process number and what it says: {"worker", "ok", "refused", "pool_open", "pool_idle",
    "seconds_sum"}. Raises TypeError, ValueError, KeyError for what no worker says."""
    refused: dict[str, int] = {}
    for reason, count in dict(content["refused"]).items():
        known = str(reason)[:_LONGEST] if len(refused) < _MOST_REASONS else "other"
        refused[known] = refused.get(known, 0) + _count(count)
    seconds = float(content["seconds_sum"])
    if not 0 <= seconds < 1e12:
        raise ValueError("a time that cannot be")
    return int(content["worker"]), Handshakes(
        _count(content["ok"]), refused, seconds, _count(content["pool_open"]), _count(content["pool_idle"])
    )


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError("a count that cannot be")
    return value


class Tally:
    """Adds up; may be asked and told by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[tuple[Hashable, int], Handshakes] = {}  # who spoke last is last
        self._gone = Handshakes()

    def take(self, caller: Hashable, content: Any) -> None:
        """Take a worker's word; raises as `read`."""
        worker, said = read(content)
        with self._lock:
            before = self._last.pop((caller, worker), None)
            if before is not None and said.ok + sum(said.refused.values()) < before.ok + sum(before.refused.values()):
                self._gone = _sum([self._gone, before])  # another process of the same number
            self._last[caller, worker] = said
            while len(self._last) > _MOST_WORKERS:
                self._let_go(next(iter(self._last)))

    def keep(self, caller: Hashable, workers: int) -> None:
        """So many workers of a proxy are there: those that spoke last."""
        with self._lock:
            mine = [each for each in self._last if each[0] == caller]
            for each in mine[: max(0, len(mine) - workers)]:
                self._let_go(each)

    def total(self) -> Handshakes:
        with self._lock:
            there = _sum([*self._last.values()])
            return dataclasses.replace(_sum([there, self._gone]), pool_open=there.pool_open, pool_idle=there.pool_idle)

    def _let_go(self, who: tuple[Hashable, int]) -> None:
        self._gone = _sum([self._gone, self._last.pop(who)])


def _sum(each: list[Handshakes]) -> Handshakes:
    refused: Counter[str] = Counter()
    for one in each:
        for reason, count in one.refused.items():
            refused[reason if reason in refused or len(refused) < _MOST_REASONS else "other"] += count
    return Handshakes(
        sum(one.ok for one in each), dict(refused), sum(one.seconds for one in each),
        sum(one.pool_open for one in each), sum(one.pool_idle for one in each),
    )  # fmt: skip
