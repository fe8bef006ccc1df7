"""A row of the table: samples by way, ratios of the ways with their range, and what must be reached."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.proxy.ways import ENVOY, NO_MESH, SOCKMESH
from bench.result import Goal

PAIRS = ((SOCKMESH, ENVOY), (SOCKMESH, NO_MESH), (ENVOY, NO_MESH))


@dataclass(frozen=True)
class Ratio:
    """One way's median over another's, and the smallest and largest ratio of samples of the same round."""

    of_medians: float
    low: float
    high: float


@dataclass
class Row:
    """Goals are sockmesh's; a way that was not there has no samples, and a goal that needs it is not judged."""

    key: str
    title: str
    unit: str
    goals: Sequence[Goal] = ()
    samples: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def add(self, way: str, value: float) -> None:
        self.samples.setdefault(way, []).append(value)

    def note(self, name: str, way: str, value: object) -> None:
        self.notes.setdefault(name, {}).setdefault(way, []).append(value)

    def median(self, way: str) -> float:
        return statistics.median(self.samples[way])

    def ratio(self, way: str, base: str) -> Ratio | None:
        """Return how many times `base` a way is; None if one of them was not measured, or took nothing."""
        mine, theirs = self.samples.get(way), self.samples.get(base)
        if not mine or not theirs or min(theirs) <= 0:
            return None
        pairs = [one / other for one, other in zip(mine, theirs, strict=True)]
        return Ratio(self.median(way) / self.median(base), min(pairs), max(pairs))

    def found(self, goal: Goal) -> float | None:
        ratio = self.ratio(SOCKMESH, goal.base)
        return None if ratio is None else ratio.of_medians

    def reached(self, goal: Goal) -> bool | None:
        found = self.found(goal)
        if found is None:
            return None
        return found <= goal.value if goal.most else found >= goal.value

    def as_json(self) -> dict[str, Any]:
        ratios = {f"{way} / {base}": self.ratio(way, base) for way, base in PAIRS}
        return {
            "title": self.title,
            "unit": self.unit,
            "median": {way: self.median(way) for way in self.samples},
            "ratio": {
                name: {"of_medians": ratio.of_medians, "pairs": [ratio.low, ratio.high]}
                for name, ratio in ratios.items()
                if ratio is not None
            },
            "goals": [
                {
                    "against": goal.base,
                    "at_most" if goal.most else "at_least": goal.value,
                    "found": self.found(goal),
                    "reached": self.reached(goal),
                }
                for goal in self.goals
            ],
            "samples": self.samples,
            **({"notes": self.notes} if self.notes else {}),
        }
