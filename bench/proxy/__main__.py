"""`python -m bench.proxy`: the table on standard output, proxy.json in bench/out."""

import sys
from pathlib import Path

import click
from rich.console import Console

from bench.proxy import report, rows, run
from control.cli.finite import FiniteRange
from loader.errors import MeshError

OUT = Path(__file__).resolve().parents[1] / "out"


@click.command()
@click.option("--quick", is_flag=True, help="One round of short samples, few idle connections: does it still work?")
@click.option("--only", multiple=True, type=click.Choice(rows.KEYS), help="Only this work; may be given again.")
@click.option("--rounds", type=click.IntRange(1, 100), help="Rounds (5; quick: 1).")
@click.option("--seconds", type=FiniteRange(1, 30), help="Length of a sample (2; quick: 1).")
@click.option("--workers", type=click.IntRange(1, 256), help="Workers of each proxy (as many as there are cores).")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=OUT, help="Where the file goes.")
def main(
    quick: bool, only: tuple[str, ...], rounds: int | None, seconds: float | None, workers: int | None, out: Path
) -> None:
    """Measure no mesh, Envoy and sockmesh's proxy in turns, with equal duties: rules by path and method, a log line
    for each request, metrics. What is not reached does not change the exit status."""
    plan = run.Plan(
        rounds=rounds or (1 if quick else 5),
        seconds=seconds or (1.0 if quick else 2.0),
        idle=500 if quick else rows.IDLE,
        workers=workers,
        only=only,
    )
    console = Console(width=180)
    progress = Console(stderr=True, highlight=False)
    try:
        outcome = run.run(plan, lambda words: progress.print(f"bench: {words}", style="dim"))
    except (MeshError, AssertionError, TimeoutError) as error:
        progress.print(f"bench: {error}", markup=False)
        sys.exit(1)
    outcome.about["quick"] = quick
    console.print(report.as_table(outcome, quick))
    for name, reason in outcome.skipped.items():
        console.print(f"{name} is left out: {reason}.", highlight=False)
    for name, told in outcome.about["told"].items():
        words = ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in told.items())
        console.print(f"{name} on its own work: {words}.", highlight=False)
    report.write(out / "proxy.json", outcome)
    console.print(str(out / "proxy.json"), highlight=False)


if __name__ == "__main__":
    main()
