"""How an agent is run: everything it touches is a parameter, so that several agents can share one kernel."""

import dataclasses
import ipaddress
import os
import re
from pathlib import Path

from control.certificates import spiffe
from control.flow import told
from control.policy import peers
from control.tracing import sender
from loader import abi
from loader.errors import ConfigInvalid

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")  # RFC 9110, 5.1
_INSTALL_TRACING = "in the checkout: .venv/bin/pip install -e '.[tracing]'"
MTLS = tuple(mode.name.lower() for mode in abi.Mtls)
_LONGEST_SOCKET = 107  # unix(7): sun_path has 108, the last one a zero


@dataclasses.dataclass(frozen=True)
class Options:
    """Paths and times of one agent. Times in seconds."""

    config_dir: Path
    run_dir: Path = Path("/run/sockmesh")
    pin_dir: Path = Path("/sys/fs/bpf/sockmesh")
    program_cache: Path | None = None  # where compiled programs are kept for later starts
    node: str = ""
    flow_log: tuple[str, ...] = ()
    flow_log_max_bytes: int = 100_000_000
    flow_log_files: int = 5
    flow_interval: float = 60.0
    metrics: str = "127.0.0.1:9965"  # empty: no metrics
    acceleration: bool = True
    direct_delivery: bool = True
    probation_packets: int = 8
    self_test: bool = True
    node_ips: tuple[str, ...] = ()
    cluster_cidrs: tuple[str, ...] = ()
    proxy: bool = False  # lead what policy has rules for the bytes of to the node proxy
    record_headers: tuple[str, ...] = ()  # of requests, in flow records
    otlp_endpoint: str = ""  # of a collector of spans; empty: none are made
    trace_ratio: float = 0.0  # of requests whose caller has not said whether they are to be traced
    mtls: str = "off"  # between enrolled pods of two nodes: see abi.Mtls
    mtls_port: int = 4743
    trust_domain: str = "cluster.local"
    ca_dir: Path | None = None  # who signs: a directory of roots, or a given certificate with its key and root
    ca_cert: Path | None = None
    ca_key: Path | None = None
    ca_root: Path | None = None
    leaf_lifetime: float = 86_400.0

    @property
    def mtls_mode(self) -> abi.Mtls:
        return abi.Mtls[self.mtls.upper()]

    @property
    def socket(self) -> Path:
        return self.run_dir / "agent.sock"

    def check(self) -> None:
        """Raise ConfigInvalid for what cannot be, before anything is touched."""
        if not self.config_dir.is_dir():
            why = "not a directory" if self.config_dir.exists() else "there is no such directory: make it first"
            raise ConfigInvalid(f"--config {self.config_dir}: {why}")
        if len(os.fsencode(self.socket)) > _LONGEST_SOCKET:
            raise ConfigInvalid(
                f"--run-dir {self.run_dir}: {self.socket} is longer than {_LONGEST_SOCKET} bytes, which is all that "
                "the name of a unix socket may have: give a shorter directory"
            )
        for ip in self.node_ips:
            try:
                if ipaddress.ip_address(ip) and "%" in ip:
                    raise ValueError
            except ValueError:
                raise ConfigInvalid(f"--node-ip {ip}: not an IP address (such as 192.0.2.1 or 2001:db8::1)") from None
        for cidr in self.cluster_cidrs:
            try:
                if "/" not in cidr:  # would be one address, which nobody means by a cluster
                    raise ValueError
                peers.parse_prefix(cidr)
            except ValueError:
                raise ConfigInvalid(
                    f"--cluster-cidr {cidr}: not an address range (such as 10.0.0.0/8 or fd00::/8)"
                ) from None
        if len(set(map(str.lower, self.record_headers))) > told.MOST_HEADERS:
            raise ConfigInvalid(f"--record-header: at most {told.MOST_HEADERS} names")
        for name in self.record_headers:
            if not _HEADER.fullmatch(name):
                raise ConfigInvalid(f"--record-header {name}: not the name of a header (such as x-request-id)")
        self._check_tracing()
        self._check_mtls()
        for target in self.flow_log:
            parent = Path(target).parent
            if Path(target).is_dir():  # so is nothing at all, where a variable that is not set was written
                why = "is a directory" if target else "is empty"
                raise ConfigInvalid(f"--flow-log {target or repr(target)}: {why} (a file, or - for standard output)")
            if target != "-" and not parent.is_dir():
                raise ConfigInvalid(f"--flow-log {target}: {parent} is not a directory: make it first")

    def _check_tracing(self) -> None:
        if self.trace_ratio and not self.otlp_endpoint:
            raise ConfigInvalid(f"--trace-ratio {self.trace_ratio:g}: needs --otlp-endpoint, where spans go")
        if not self.otlp_endpoint:
            return
        sender.endpoint(self.otlp_endpoint)
        if not self.proxy:
            raise ConfigInvalid(
                f"--otlp-endpoint {self.otlp_endpoint}: needs --proxy, for it is the node proxy that sees requests"
            )
        if not sender.is_installed():
            raise ConfigInvalid(
                f"--otlp-endpoint {self.otlp_endpoint}: opentelemetry is not installed ({_INSTALL_TRACING})"
            )

    def _check_mtls(self) -> None:
        try:
            spiffe.check_domain(self.trust_domain)
        except spiffe.BadId as error:
            raise ConfigInvalid(f"--trust-domain {self.trust_domain}: {error}") from None
        given = {"--ca-cert": self.ca_cert, "--ca-key": self.ca_key, "--ca-root": self.ca_root}
        missing = [name for name, path in given.items() if path is None]
        if 0 < len(missing) < len(given):
            lacking = f"{' and '.join(missing)} {'are' if missing[1:] else 'is'} missing"
            raise ConfigInvalid(f"{lacking}: --ca-cert, --ca-key and --ca-root go together")
        if self.ca_dir and not missing:
            raise ConfigInvalid("--ca-dir and --ca-cert: give one of them, who signs is one")
        if self.mtls not in MTLS:
            raise ConfigInvalid(f"--mtls {self.mtls}: no such mode ({', '.join(MTLS)})")
        if self.mtls == "off":
            return
        if not self.proxy:
            raise ConfigInvalid(f"--mtls {self.mtls}: needs --proxy, for it is the node proxy that speaks TLS")
        if not self.ca_dir and missing:
            raise ConfigInvalid(
                f"--mtls {self.mtls}: nobody signs certificates: give --ca-dir DIR (the same for all nodes), or "
                "--ca-cert, --ca-key and --ca-root of an intermediate"
            )


UDP_TIMEOUT_S, TCP_TIMEOUT_S, TCP_CLOSE_TIMEOUT_S, ICMP_TIMEOUT_S = 60, 21_600, 10, 30
