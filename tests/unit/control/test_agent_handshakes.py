"""What workers count of handshakes, added up: over their deaths, and whatever one says."""

from typing import Any

import pytest

from control.agent.handshakes import Handshakes, Tally


def said(
    worker: int, ok: int = 0, refused: dict[str, int] | None = None, pool: int = 0, idle: int = 0
) -> dict[str, Any]:
    return {
        "worker": worker, "ok": ok, "refused": refused or {}, "pool_open": pool, "pool_idle": idle,
        "seconds_sum": ok / 4,
    }  # fmt: skip


def test_the_last_word_of_each_worker_counts() -> None:
    tally = Tally()
    tally.take("one", said(7, 2, {"expired": 1}, 3, 1))
    tally.take("one", said(7, 4, {"expired": 2}, 2, 1))
    tally.take("one", said(8, 4, {"wrong SAN": 1}, 1))
    assert tally.total() == Handshakes(8, {"expired": 2, "wrong SAN": 1}, 2.0, 3, 1)


def test_what_the_dead_counted_stays_and_their_connections_do_not() -> None:
    tally = Tally()
    tally.take("one", said(7, 4, {"expired": 2}, 2, 2))
    tally.take("one", said(8, 4, {}, 1, 1))
    tally.keep("one", 2)
    assert tally.total() == Handshakes(8, {"expired": 2}, 2.0, 3, 3)
    tally.take("one", said(9))
    tally.take("one", said(8, 5, {}, 1, 1))
    tally.keep("one", 2)
    assert tally.total() == Handshakes(9, {"expired": 2}, 2.25, 1, 1)
    tally.take("two", said(10, 1, {}, 5))
    tally.keep("one", 0)
    assert tally.total() == Handshakes(10, {"expired": 2}, 2.5, 5, 0)


def test_another_process_of_the_same_number_begins_anew() -> None:
    tally = Tally()
    tally.take("one", said(7, 4, {}, 2))
    tally.take("one", said(7, 1, {}, 1))
    assert tally.total() == Handshakes(5, {}, 1.25, 1)


def test_reasons_and_workers_are_bounded() -> None:
    tally = Tally()
    for number in range(1000):
        tally.take("one", said(number, 1, {f"{number}-{n}" * 40: 1 for n in range(100)}))
    total = tally.total()
    assert total.ok == 1000 and sum(total.refused.values()) == 100_000 and len(total.refused) <= 65
    assert max(map(len, total.refused)) <= 64


@pytest.mark.parametrize(
    "wrong",
    [
        [], {}, 1, "x", {"worker": 1}, said(1) | {"ok": -1}, said(1) | {"ok": 1.5}, said(1) | {"ok": True},
        said(1) | {"refused": [1]}, said(1) | {"seconds_sum": float("nan")}, said(1) | {"pool_idle": 1 << 60},
    ],
)  # fmt: skip
def test_what_no_worker_says_changes_nothing(wrong: Any) -> None:
    tally = Tally()
    with pytest.raises((TypeError, ValueError, KeyError)):
        tally.take("one", wrong)
    assert tally.total() == Handshakes()
