"""What a row of the bench is: samples of each side, what must be reached, and whether it was."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PLAIN, MESH, UNIX = "plain veth", "mesh", "unix socket"


@dataclass(frozen=True)
class Goal:
    """What the mesh's median must be: at least (or `most`: at most) `value` times that of `base`, or `value` itself."""

    value: float
    base: str = ""
    most: bool = False

    def __str__(self) -> str:
        sign = "≤" if self.most else "≥"
        return f"{sign} {self.value:g}x {self.base}" if self.base else f"{sign} {self.value:g}"


@dataclass
class Result:
    """The samples of one row, by side, in the order in which they were taken."""

    key: str
    title: str
    unit: str
    goals: Sequence[Goal] = ()
    samples: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def add(self, side: str, value: float) -> None:
        self.samples.setdefault(side, []).append(value)

    def median(self, side: str) -> float:
        return statistics.median(self.samples[side])

    def span(self, side: str) -> tuple[float, float]:
        return min(self.samples[side]), max(self.samples[side])

    def ratio(self, base: str) -> float:
        """Return the mesh's median over that of `base`."""
        return self.median(MESH) / self.median(base)

    def ratio_span(self, base: str) -> tuple[float, float]:
        """Return the smallest and the largest ratio of two samples taken one after the other."""
        pairs = [mesh / other for mesh, other in zip(self.samples[MESH], self.samples[base], strict=False)]
        return min(pairs), max(pairs)

    def value(self, goal: Goal) -> float:
        return self.ratio(goal.base) if goal.base else self.median(MESH)

    def reached(self, goal: Goal) -> bool:
        value = self.value(goal)
        return value <= goal.value if goal.most else value >= goal.value

    def as_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "unit": self.unit,
            "median": {side: self.median(side) for side in self.samples},
            "ratio": {
                side: {"of_medians": self.ratio(side), "pairs": self.ratio_span(side)}
                for side in self.samples
                if side != MESH
            },
            "goals": [
                {
                    "against": goal.base or None,
                    "at_most" if goal.most else "at_least": goal.value,
                    "found": self.value(goal),
                    "reached": self.reached(goal),
                }
                for goal in self.goals
            ],
            "samples": dict(self.samples),
            **({"notes": self.notes} if self.notes else {}),
        }


def as_json(results: Mapping[str, Result]) -> dict[str, Any]:
    return {key: result.as_json() for key, result in results.items()}
