"""`python -m bench`: the table on standard output, bench.json and bench.png in bench/out."""

import statistics
import sys
from pathlib import Path

import click
from rich.console import Console

from bench import picture, report, run
from bench.result import Result
from control.cli.finite import FiniteRange
from loader.errors import MeshError

OUT = Path(__file__).resolve().parent / "out"


@click.command()
@click.option("--quick", is_flag=True, help="One round of short samples: does it still work?")
@click.option("--only", multiple=True, type=click.Choice(run.KEYS), help="Only this row; may be given again.")
@click.option("--rounds", type=click.IntRange(1, 100), help="Rounds (9; quick: 1).")
@click.option("--seconds", type=FiniteRange(0.1, 30), help="Length of a sample (1; quick: 0.3).")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=OUT, help="Where the files go.")
def main(quick: bool, only: tuple[str, ...], rounds: int | None, seconds: float | None, out: Path) -> None:
    """Measure plain veth, the mesh and a Unix socket in turns. What is not reached does not change the exit status."""
    plan = run.Plan(rounds or (1 if quick else 9), seconds or (0.3 if quick else 1.0), only)
    console = Console(width=160)
    progress = Console(stderr=True, highlight=False)
    try:
        results, about = run.run(plan, lambda words: progress.print(f"bench: {words}", style="dim"))
    except (MeshError, AssertionError, TimeoutError) as error:
        progress.print(f"bench: {error}", markup=False)
        sys.exit(1)
    about["quick"] = quick
    console.print(report.as_table(results, quick))
    _footnotes(console, results)
    report.write(out / "bench.json", results, about)
    (out / "bench.md").write_text(report.as_markdown(results))
    drawn = picture.draw(out / "bench.png", results, about)
    written = ["bench.json", "bench.md", *(["bench.png"] if drawn else [])]
    console.print(", ".join(str(out / name) for name in written), highlight=False)


def _footnotes(console: Console, results: dict[str, Result]) -> None:
    for result in results.values():
        if times := result.notes.get("p50_us"):
            each = ", ".join(f"{side} {statistics.median(values):.1f}" for side, values in times.items())
            console.print(f"{result.title}: median time of one in us: {each}.")
        ratio = run.alone_ratio(result)
        if ratio is not None:
            console.print(f"{result.title}: plain veth takes {ratio:.2f}x what it took before the mesh was loaded.")
        found = [used for used in result.notes.get("agent", []) if used["records"]]
        if result.key.startswith("connect") and found:
            worst = max(found, key=lambda used: used["cores"])
            lost = sum(used["lost"] for used in found)
            console.print(f"{result.title}: the agent at most {worst['cores']:.0%} of a core, records lost: {lost}.")


if __name__ == "__main__":
    main()
