"""Counts requests as their records pass, for Prometheus: by workload at both ends, class of method and of status.

However many names pods have and whatever clients make up, there is a bounded number of series: beyond it both ends are
"other". A workload is what its pods' labels say, as for a service's canonical name elsewhere; else the pod's own name.
"""

import dataclasses
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from typing import Any

from control.flow import directory, requests
from control.flow.told import Alike, Batch

BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BOUNDS = tuple(round(bound * 1_000_000_000) for bound in BOUNDS_S)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"))
_NAMES = ("k8s:app.kubernetes.io/name=", "k8s:app=")
_OURS = {400: "bad_request", 431: "too_large", 502: "bad_gateway", 503: "unavailable", 504: "timeout", 0: "gone"}
_ELSE = "broken"  # off, in the middle of an answer
REASONS = ("policy", *_OURS.values(), _ELSE)
_PAIRS, _SERIES = 512, 4096
OTHER = "other"
Ends = tuple[str, str]  # source and destination: "namespace/workload", "world"


@dataclasses.dataclass(frozen=True)
class RequestCounts:
    """`served`: by ends, class of method, class of status. `latency`: by ends, how many fell between two of BOUNDS_S,
    and the sum in nanoseconds. `refused`: by reason, what the proxy itself answered or ended."""

    served: Mapping[tuple[Ends, str, str], int] = dataclasses.field(default_factory=dict)
    latency: Mapping[Ends, tuple[tuple[int, ...], int]] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, int] = dataclasses.field(default_factory=dict)


class Counts:
    """One thread counts, any may ask for a snapshot."""

    def __init__(self) -> None:
        self._served: dict[tuple[Ends, str, str], int] = {}
        self._latency: dict[Ends, list[int]] = {}  # a count for each bucket, and the sum at the end
        self._refused: Counter[str] = Counter()

    def add(self, batch: Batch, known: directory.Directory) -> None:
        """Count a batch."""
        buckets = []
        numbers = Counter(batch.kind)
        for index, alike in enumerate(batch.kinds):
            ends = self._ends(alike, known)
            buckets.append(self._latency[ends])
            key = ends, method_class(alike.method), status_class(alike.status)
            if key not in self._served and len(self._served) >= _SERIES:
                key = (OTHER, OTHER), OTHER, OTHER
            self._served[key] = self._served.get(key, 0) + numbers[index]
            if reason := refusal(alike):
                self._refused[reason] += numbers[index]
        for index, latency in zip(batch.kind, batch.latency, strict=True):
            found = buckets[index]
            found[bisect_left(_BOUNDS, latency)] += 1
            found[-1] += latency

    def _ends(self, alike: Alike, known: directory.Directory) -> Ends:
        ends = (
            workload(known.side(alike.source_endpoint, alike.source_identity, alike.client)),
            workload(known.side(alike.target_endpoint, alike.target_identity, alike.server)),
        )
        if ends not in self._latency:
            if len(self._latency) >= _PAIRS:
                ends = OTHER, OTHER
            self._latency.setdefault(ends, [0] * (len(_BOUNDS) + 2))
        return ends

    def snapshot(self) -> RequestCounts:
        latency = {ends: (tuple(row[:-1]), row[-1]) for ends, row in self._latency.copy().items()}
        return RequestCounts(self._served.copy(), latency, self._refused.copy())


def workload(side: Mapping[str, Any]) -> str:
    """Return what one end of a flow belongs to."""
    labels = side.get("labels") or ()
    own = next((label[len(name) :] for name in _NAMES for label in labels if label.startswith(name)), "")
    if name := own or side.get("pod_name"):
        return f"{side['namespace']}/{name}" if side.get("namespace") else str(name)
    return next((label.removeprefix("reserved:") for label in labels if label.startswith("reserved:")), "unknown")


def method_class(method: str) -> str:
    """Return a method that RFC 9110 knows, or PATCH, as it is.

    >>> method_class("GET"), method_class("PROPFIND")
    ('GET', 'other')
    """
    return method if method in METHODS else OTHER


def status_class(status: int) -> str:
    """Return the first digit's class, "none" where nobody answered.

    >>> status_class(404), status_class(0)
    ('4xx', 'none')
    """
    return f"{status // 100}xx" if 100 <= status <= 599 else "none"


def refusal(alike: Alike) -> str:
    """Return why the proxy answered in the server's place, or ended it; "" where the server answered."""
    if requests.verdict(alike) == "DROPPED":
        return "policy"
    return _OURS.get(alike.status, _ELSE) if alike.why or not alike.allowed else ""
