"""How an agent is run: everything it touches is a parameter, so that several agents can share one kernel."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Options:
    """Paths and times of one agent. Times in seconds."""

    config_dir: Path
    run_dir: Path = Path("/run/sockmesh")
    pin_dir: Path = Path("/sys/fs/bpf/sockmesh")
    node: str = ""
    flow_log: tuple[str, ...] = ()
    flow_log_max_bytes: int = 100_000_000
    flow_log_files: int = 5
    flow_interval: float = 60.0
    metrics: str = "127.0.0.1:9965"  # empty: no metrics
    acceleration: bool = True
    probation_packets: int = 8
    self_test: bool = True
    node_ips: tuple[str, ...] = ()
    cluster_cidrs: tuple[str, ...] = ()

    @property
    def socket(self) -> Path:
        return self.run_dir / "agent.sock"


UDP_TIMEOUT_S, TCP_TIMEOUT_S, TCP_CLOSE_TIMEOUT_S, ICMP_TIMEOUT_S = 60, 21_600, 10, 30
