"""The rows as a table and as JSON."""

import json
from pathlib import Path
from typing import Any

from rich import box, table

from bench.proxy.result import PAIRS, Row
from bench.proxy.run import Outcome
from bench.proxy.ways import ENVOY, NO_MESH, SOCKMESH
from bench.report import QUICK, number


def _cell(row: Row, way: str) -> str:
    values = row.samples.get(way)
    if not values:
        return ""
    spread = f"\n[dim]{number(min(values))}-{number(max(values))}[/dim]" if len(values) > 1 else ""
    return number(row.median(way)) + spread


def _against(row: Row, way: str, base: str) -> str:
    ratio = row.ratio(way, base)
    if ratio is None:
        return ""
    spread = f"\n[dim]{ratio.low:.2f}-{ratio.high:.2f}[/dim]" if len(row.samples[way]) > 1 else ""
    return f"{ratio.of_medians:.2f}x{spread}"


def _judged(row: Row) -> list[str]:
    words = {True: "yes", False: "[bold red]no[/]", None: ""}
    return ["\n".join(map(str, row.goals)), "\n".join(words[row.reached(goal)] for goal in row.goals)]


def as_table(outcome: Outcome, quick: bool) -> table.Table:
    """Return the table; that of a quick run says so, and judges nothing."""
    out = table.Table(box=box.SIMPLE_HEAD, pad_edge=False, title=QUICK if quick else None, title_justify="left")
    out.add_column("work")
    names = (NO_MESH, ENVOY, SOCKMESH, *(f"{way} / {base}" for way, base in PAIRS))
    for name in (*names, *(() if quick else ("required", "reached"))):
        out.add_column(name, justify="left" if name == "required" else "right")
    for row in outcome.rows.values():
        cells = [_cell(row, way) for way in (NO_MESH, ENVOY, SOCKMESH)]
        ratios = [_against(row, way, base) for way, base in PAIRS]
        out.add_row(f"{row.title} [dim]({row.unit})[/dim]", *cells, *ratios, *([] if quick else _judged(row)))
    return out


def as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "about": outcome.about,
        "skipped": outcome.skipped,
        "rows": {key: row.as_json() for key, row in outcome.rows.items()},
    }


def write(path: Path, outcome: Outcome) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(outcome), indent=1) + "\n")
