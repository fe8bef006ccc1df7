"""`sockmesh agent`: this node's agent, configured by a directory of YAML."""

import logging
from pathlib import Path

import click

from control.agent import options
from control.cli.finite import FiniteRange
from control.cli.paths import PATH
from control.cli.place import pin_dir_option, run_dir_option

_LONGEST_S = 1_000_000_000  # 30 years: never


@click.command()
@click.option("--config", "config_dir", type=PATH, required=True, metavar="DIR", help="Directory of YAML, watched.")
@click.option("--node", default="", help="This node's name (default: the host name).")
@run_dir_option
@pin_dir_option
@click.option("--program-cache", type=PATH, metavar="DIR",
              help="Keep compiled programs there: a start after a reboot need not compile again.")  # fmt: skip
@click.option("--flow-log", multiple=True, metavar="FILE", help="Write flow records there; - is standard output.")
@click.option("--flow-log-max-size", type=click.IntRange(1), default=100, show_default=True, metavar="MB")
@click.option("--flow-log-files", type=click.IntRange(0), default=5, show_default=True, help="Rotated files kept.")
@click.option("--flow-interval", type=FiniteRange(0.1, _LONGEST_S), default=60.0, show_default=True, metavar="SECONDS",
              help="How often a long-lived connection gets a record.")  # fmt: skip
@click.option("--metrics", default="127.0.0.1:9965", show_default=True, metavar="ADDR:PORT", help="Empty: none.")
@click.option("--acceleration/--no-acceleration", default=True, show_default=True,
              help="The short cut at the first start; later `sockmesh bpf config set` switches it.")  # fmt: skip
@click.option("--direct-delivery/--no-direct-delivery", default=True, show_default=True, help="The same, for packets.")
@click.option("--probation-packets", type=click.IntRange(8, 1_000_000), default=8, show_default=True,
              help="Packets an end must have sent before its connection is short-cut.")  # fmt: skip
@click.option(
    "--node-ip",
    "node_ips",
    multiple=True,
    metavar="IP",
    help="An address of this node (entity `host`); left out: those of its interfaces.",
)
@click.option("--cluster-cidr", "cluster_cidrs", multiple=True, metavar="CIDR", help="Entity `cluster` reaches it.")
@click.option("--proxy/--no-proxy", default=False, show_default=True,
              help="Lead what has rules for requests or names to the node proxy (`sockmesh proxy`).")  # fmt: skip
@click.option("--record-header", "record_headers", multiple=True, metavar="NAME",
              help="Show that header in the flow records of requests; of a secret, that it was there.")  # fmt: skip
@click.option(
    "--otlp-endpoint",
    default="",
    metavar="URL",
    help="Send a span of each traced request to that collector, by OTLP over HTTP. Needs --proxy.",
)
@click.option("--trace-ratio", type=FiniteRange(0, 1), default=0.0, show_default=True,
              help="How many requests are traced of those whose caller has not said whether.")  # fmt: skip
@click.option("--mtls", type=click.Choice(options.MTLS), default="off", show_default=True,
              help="TLS between pods of different nodes; strict refuses plaintext. Needs --proxy, a CA.")  # fmt: skip
@click.option("--mtls-port", type=click.IntRange(1, 65535), default=4743, show_default=True,
              help="Where the proxies of all nodes listen for each other.")  # fmt: skip
@click.option("--trust-domain", default="cluster.local", show_default=True, help="Of the certificates' SPIFFE ids.")
@click.option("--ca-dir", type=PATH, metavar="DIR", help="Roots that sign; made where none is. The same on all nodes.")
@click.option("--ca-cert", type=PATH, metavar="FILE", help="Instead: an intermediate that signs, and those above it.")
@click.option("--ca-key", type=PATH, metavar="FILE", help="Its key, mode 0600.")
@click.option("--ca-root", type=PATH, metavar="FILE", help="The roots to trust; one of them signed it.")
@click.option("--leaf-lifetime", type=FiniteRange(60, 86_400), default=86_400.0, show_default=True, metavar="SECONDS",
              help="Of certificates; they are renewed at half of it.")  # fmt: skip
@click.option("--self-test/--no-self-test", default=True, show_default=True,
              help="Test the short cut on this kernel first; without the test it stays off.")  # fmt: skip
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def agent(config_dir: Path, flow_log: tuple[str, ...], flow_log_max_size: int, log_level: str, **given: object) -> None:
    """Put the policies and workloads of a directory in force on this node, and keep them so.

    Stopping the agent leaves policy and short cut in force; starting it again adopts them.
    """
    _log_at(log_level.upper())
    chosen = options.Options(
        config_dir=config_dir,
        flow_log=flow_log,
        flow_log_max_bytes=flow_log_max_size * 1_000_000,
        **given,  # type: ignore[arg-type]
    )
    from control.agent.serve import serve

    serve(chosen)


def _log_at(level: str) -> None:
    """Write our own words from that level on to standard error, and of the libraries' what is a warning or worse.

    pyroute2 would dump each message of netlink, asyncio tell which selector it has, watchfiles of every edit.
    """
    lowest = max(logging.WARNING, logging.getLevelNamesMapping()[level])
    logging.basicConfig(level=lowest, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("sockmesh").setLevel(level)
