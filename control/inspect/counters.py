"""The datapath's counters in words: what happened, how often, on which CPU, and how fast it goes on."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from control.metrics import SERIES
from loader import abi


@dataclasses.dataclass(frozen=True)
class CounterRow:
    """One counter; `rate` is per second over the time watched, None when it was read once."""

    name: str
    total: int
    per_cpu: tuple[int, ...]
    rate: float | None
    explanation: str


FORWARDED, REFUSED = "forwarded", "refused"
OUTCOMES = (FORWARDED, REFUSED, *sorted(reason.name for reason in abi.DropReason if reason))


@dataclasses.dataclass(frozen=True)
class TrafficRow:
    """Packets that policy judged on pods' interfaces, by outcome; or the calls that got EPERM before there was one."""

    outcome: str  # one of OUTCOMES, or the number of a reason of another version
    dropped: bool
    direction: str  # whose policy decided; "" for refused calls, whose count does not tell
    packets: int
    bytes: int
    calls: int = 0


Reading = Sequence[Sequence[int]]  # by metric, then by CPU


def counters(first: Reading, then: Reading | None = None, seconds: float = 0.0) -> tuple[CounterRow, ...]:
    """Return every counter of abi.Metric. With a second reading, totals are the later ones and rates are known."""
    out = []
    for metric, began, last in zip(abi.Metric, first, then or first, strict=True):
        series = SERIES[metric]
        detail = f" ({series.label[0]}: {series.label[1]})" if series.label else ""
        rate = (sum(last) - sum(began)) / seconds if then and seconds > 0 else None
        out.append(CounterRow(metric.name.lower(), sum(last), tuple(last), rate, series.help.rstrip(".") + detail))
    return tuple(out)


def traffic(
    entries: Iterable[tuple[abi.TrafficKey, abi.TrafficValue]], counted: Callable[[abi.Metric], int]
) -> tuple[TrafficRow, ...]:
    """Return what was forwarded and refused, from the counters, then the drops of the traffic map by how many."""
    metric = abi.Metric
    out = [
        TrafficRow(FORWARDED, False, direction, counted(packets), counted(octets))
        for direction, packets, octets in (
            ("ingress", metric.FORWARDED_INGRESS_PACKETS, metric.FORWARDED_INGRESS_BYTES),
            ("egress", metric.FORWARDED_EGRESS_PACKETS, metric.FORWARDED_EGRESS_BYTES),
        )
        if counted(packets)
    ]
    out += [_refused(calls)] if (calls := counted(metric.REFUSED_CALLS)) else []
    out += [
        TrafficRow(
            outcome=_reason(key.reason),
            dropped=True,
            direction="egress" if key.direction == abi.Direction.EGRESS else "ingress",
            packets=value.packets,
            bytes=value.bytes,
        )
        for key, value in entries
    ]
    return tuple(sorted(out, key=lambda r: (r.dropped, -r.calls, -r.packets, r.outcome, r.direction)))


def _refused(calls: int) -> TrafficRow:
    return TrafficRow(REFUSED, True, "", 0, 0, calls)


def of(found: Iterable[TrafficRow], wanted: str) -> tuple[TrafficRow, ...]:
    """Return the rows of one outcome, however it is spelt; zeros for one that has not happened, none for no outcome."""
    spelt = wanted.lower().replace("-", "_")
    rows = tuple(row for row in found if row.outcome.lower() == spelt)
    known = [name for name in OUTCOMES if name.lower() == spelt]
    if not rows and known == [REFUSED]:
        return (_refused(0),)
    return rows or tuple(
        TrafficRow(name, name != FORWARDED, direction, 0, 0) for name in known for direction in ("ingress", "egress")
    )


def _reason(number: int) -> str:
    try:
        return abi.DropReason(number).name
    except ValueError:
        return str(number)
