"""The results as a table and as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box, table

from bench.result import MESH, PLAIN, UNIX, Result, as_json


def number(value: float) -> str:
    """Return a figure with as many digits as it deserves.

    >>> number(93211.4), number(12.345), number(0.4567)
    ('93,211', '12.3', '0.457')
    """
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _cell(result: Result, side: str) -> str:
    if side not in result.samples:
        return ""
    low, high = result.span(side)
    spread = f"\n[dim]{number(low)}-{number(high)}[/dim]" if len(result.samples[side]) > 1 else ""
    return number(result.median(side)) + spread


def _base(result: Result) -> str:
    return next((side for side in result.samples if side not in (MESH, UNIX)), PLAIN)


def _against(result: Result) -> str:
    base = _base(result)
    if base not in result.samples:
        return ""
    low, high = result.ratio_span(base)
    spread = f"\n[dim]{low:.2f}-{high:.2f}[/dim]" if len(result.samples[base]) > 1 else ""
    return f"{result.ratio(base):.2f}x{spread}"


QUICK = "A quick run: it shows that the bench works, not how fast anything is."


def as_table(results: Mapping[str, Result], quick: bool = False) -> table.Table:
    """Return the table; that of a quick run says so, and judges nothing."""
    out = table.Table(box=box.SIMPLE_HEAD, show_lines=False, pad_edge=False, title=QUICK if quick else None)
    out.title_justify = "left"
    out.add_column("work")
    for name in (PLAIN, MESH, UNIX, "mesh / plain", *(() if quick else ("required", "found", "reached"))):
        out.add_column(name, justify="left" if name == "required" else "right")
    for result in results.values():
        words = [] if quick else _judged(result)
        title = f"{result.title} [dim]({result.unit})[/dim]"
        base = _base(result)
        out.add_row(title, _cell(result, base), _cell(result, MESH), _cell(result, UNIX), _against(result), *words)
    return out


def _judged(result: Result) -> list[str]:
    return [
        "\n".join(map(str, result.goals)),
        "\n".join(number(result.value(goal)) for goal in result.goals),
        "\n".join("yes" if result.reached(goal) else "[bold red]no[/]" for goal in result.goals),
    ]


def write(path: Path, results: Mapping[str, Result], about: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"about": about, "rows": as_json(results)}, indent=1) + "\n")


def as_markdown(results: Mapping[str, Result]) -> str:
    """Return the table for a page of documentation: medians, and of the ratio the smallest and largest pair, too."""
    lines = ["| work | plain veth | mesh | Unix socket | mesh / plain | required |", "|---|---|---|---|---|---|"]
    for result in results.values():
        base = _base(result)
        medians = [number(result.median(side)) if side in result.samples else "" for side in (base, MESH, UNIX)]
        against = ""
        if base in result.samples:
            low, high = result.ratio_span(base)
            spread = f" ({low:.2f} to {high:.2f})" if len(result.samples[base]) > 1 else ""
            against = f"**{result.ratio(base):.2f}x**{spread}"
        goals = ", ".join(f"{goal}{'' if result.reached(goal) else ': **missed**'}" for goal in result.goals)
        lines.append(f"| {result.title} ({result.unit}) | {' | '.join(medians)} | {against} | {goals} |")
    return "\n".join(lines) + "\n"
