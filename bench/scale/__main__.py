"""`python -m bench.scale`: what the policy engine costs with ten thousand pods; a table, and JSON in bench/out."""

import dataclasses
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from bench.scale import cluster, measure
from control.analysis import connectivity, write

OUT = Path(__file__).resolve().parents[1] / "out"
LIMIT_RATIO, LIMIT_GB = 1.5, 2.0


@click.group(invoke_without_command=True)
@click.option("--quick", is_flag=True, help="Few of everything: does it still work?")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=OUT, help="Where scale.json goes.")
@click.pass_context
def main(context: click.Context, quick: bool, out: Path) -> None:
    """Measure a full resolve, one pod that changes, and all pairs; what is not reached does not change the status."""
    if context.invoked_subcommand is not None:
        return
    pods, policies, rounds = (2_000, 1_000, 1) if quick else (measure.LARGE, 1_000, 5)
    result: dict[str, Any] = {"quick": quick, "pods": pods, "namespaces": 200, "policies": policies}
    click.echo("full resolve, and the entries of every distinct policy", err=True)
    sizes = (pods // 10, 0.1), (pods, 0.1), (pods // 10, 0.0), (pods, 0.0)
    result["full"] = [dataclasses.asdict(measure.full(n, policies, stateful)) for n, stateful in sizes]
    click.echo("one pod that comes, goes or is relabelled", err=True)
    result["events"] = measure.ratios(rounds, 20 if quick else 200)
    click.echo("everything that is allowed, as pairs", err=True)
    argv = [sys.executable, "-m", "bench.scale", "pairs", str(pods), str(policies)]
    result["pairs"] = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    _print(result)
    out.mkdir(parents=True, exist_ok=True)
    (out / "scale.json").write_text(json.dumps(result, indent=1) + "\n")


@main.command("pairs", hidden=True)
@click.argument("pods", type=int)
@click.argument("policies", type=int)
def pairs(pods: int, policies: int) -> None:
    """Write all pairs to nowhere, in a process whose memory is its own."""
    start = time.perf_counter()
    found = connectivity.analyse(cluster.snapshot(pods, policies=policies))
    middle = time.perf_counter()
    size = sum(len(piece) for piece in write.connections_json(found))
    count = sum(1 for _ in found.pairs())
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    said = {
        "pairs": count,
        "json_mb": size / 1e6,
        "analyse_s": middle - start,
        "write_s": end - middle,
        "peak_gb": peak,
    }
    click.echo(json.dumps({key: round(value, 3) for key, value in said.items()}))


def _print(result: dict[str, Any]) -> None:
    for row in result["full"]:
        click.echo(
            f"{row['pods']:>6} pods, {row['identities']:>5} identities, {row['policies']} policies: "
            f"resolved in {row['resolve_s']:.2f} s, compiled in {row['compile_s']:.2f} s: "
            f"{row['sets']} policy sets, {row['entries']:,} entries"
        )
    for name, row in result["events"].items():
        verdict = "reached" if row["ratio"] <= LIMIT_RATIO else "NOT reached"
        prices = ", ".join(f"{key}: {value}" for key, value in row.items() if key != "ratio")
        click.echo(f"one pod {name}: {prices}: {row['ratio']}x (at most {LIMIT_RATIO}x: {verdict})")
    found = result["pairs"]
    verdict = "reached" if found["peak_gb"] < LIMIT_GB else "NOT reached"
    click.echo(
        f"all pairs: {found['pairs']:,.0f}, {found['json_mb']:,.0f} MB of JSON; found in {found['analyse_s']:.1f} s,"
        f" written in {found['write_s']:.1f} s, {found['peak_gb']:.2f} GB at most (under {LIMIT_GB} GB: {verdict})"
    )


if __name__ == "__main__":
    main()
