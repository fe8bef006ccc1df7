"""The table as a picture: how many times plain veth's figure each row reaches, and what it must reach."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from bench.result import PLAIN, UNIX, Goal, Result
from control.flow.summary import counted

matplotlib.use("Agg")  # there is no screen; chosen before pyplot is imported
from matplotlib import pyplot

_MESH, _MISSED, _UNIX, _MARK = "#2a78b5", "#d1702d", "#c9ced4", "#1c1c1c"


def draw(path: Path, results: Mapping[str, Result], about: Mapping[str, Any]) -> bool:
    """Draw the rows that have a plain side; return False, and draw nothing, if there is none."""
    rows = [result for result in results.values() if PLAIN in result.samples]
    if not rows:
        return False
    figure, axes = pyplot.subplots(figsize=(10, 0.75 * len(rows) + 1.6), constrained_layout=True)
    for place, result in enumerate(rows):
        _row(axes, len(rows) - 1 - place, result, () if about["quick"] else result.goals)
    axes.axvline(1, color=_MARK, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [f"{result.title}\n({result.unit})" for result in reversed(rows)], fontsize=8)
    axes.set_xlim(left=0)
    axes.set_xlabel("times plain veth; whiskers: smallest and largest pair of samples")
    axes.set_title(
        ("a quick run, whose figures mean little; blue: with the mesh, grey: Unix socket\n" if about["quick"] else
         "blue: with the mesh, orange: goal missed, grey: Unix socket, black mark: required\n")
        + f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}, "
        f"medians of {counted(about['rounds'], 'round')}",
        fontsize=9,
    )  # fmt: skip
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return True


def _row(axes: Any, height: int, result: Result, goals: Sequence[Goal]) -> None:
    ratio, (low, high) = result.ratio(PLAIN), result.ratio_span(PLAIN)
    missed = any(not result.reached(goal) for goal in goals)
    axes.barh(height, ratio, 0.42, color=_MISSED if missed else _MESH)
    axes.hlines(height, low, high, color=_MARK, linewidth=1, alpha=0.6)
    axes.annotate(
        f"{ratio:.2f}x", (max(ratio, high), height), (5, 0), textcoords="offset points", va="center", fontsize=8
    )
    if UNIX in result.samples:
        axes.barh(height - 0.31, result.median(UNIX) / result.median(PLAIN), 0.16, color=_UNIX)
    for goal in goals:
        if goal.base == PLAIN:
            axes.vlines(goal.value, height - 0.3, height + 0.3, color=_MARK, linewidth=2)
            arrow = "\u25c2" if goal.most else "\u25b8"
            axes.annotate(arrow, (goal.value, height + 0.36), fontsize=7, ha="center", va="center", color=_MARK)
