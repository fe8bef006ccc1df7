"""`sockmesh proxy`: this node's proxy, for what policy says of requests and names."""

import logging
import os
from pathlib import Path

import click

from control.cli.place import run_dir_option


@click.command()
@run_dir_option
@click.option("--workers", type=click.IntRange(1, 64), default=None, help="Processes (default: one for each core).")
@click.option(
    "--max-connections", type=click.IntRange(min=1), default=20_000, show_default=True,
    help="Connections that one source identity may have, shared out among the workers; half of what the limit of open "
    "files allows, at most.",
)  # fmt: skip
@click.option(
    "--max-header-bytes", type=click.IntRange(8 << 10, 256 << 10), default=64 << 10, show_default=True,
    help="Bytes that a request's head may have.",
)  # fmt: skip
@click.option(
    "--header-timeout", type=click.FloatRange(min=0.1), default=30.0, show_default=True,
    help="Seconds that a request's head may take, from its first byte to its last.",
)  # fmt: skip
@click.option(
    "--idle-timeout", type=click.FloatRange(min=0.1), default=3600.0, show_default=True,
    help="Seconds that a connection may be silent.",
)  # fmt: skip
@click.option(
    "--drain-timeout", type=click.FloatRange(min=0), default=30.0, show_default=True,
    help="Seconds that requests under way have when the proxy is stopped, or another takes over.",
)  # fmt: skip
def proxy(
    run_dir: Path,
    workers: int | None,
    max_connections: int,
    max_header_bytes: int,
    header_timeout: float,
    idle_timeout: float,
    drain_timeout: float,
) -> None:
    """Look into the bytes of what policy has rules for the requests of; needs `sockmesh agent --proxy`.

    Stopping it leaves policy in force: what it would look into waits until it is back. Start the next one before the
    last one is stopped, and it takes over with no call refused; the last one ends when its clients are served.
    """
    logging.basicConfig(level="INFO", format="%(asctime)s %(levelname)s %(message)s")
    from l7proxy import compiled
    from l7proxy.edge.limits import Limits
    from l7proxy.serve import serve

    compiled.is_compiled()  # or not, but not from another source
    limits = Limits(
        max_connections,
        header_s=header_timeout,
        idle_s=idle_timeout,
        drain_s=drain_timeout,
        header_bytes=max_header_bytes,
    )
    serve(run_dir, workers or os.cpu_count() or 1, limits)
