"""The demo's place: a node with four pods, their programs and their policy."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.hosts import Node, Pod

Json = dict[str, Any]
NAMESPACE = "shop"
SERVICE_IP = "10.96.0.80"
SMALL, BIG, ENDLESS = 90, 1_500_000, 4_000_000_000
# For programs that nobody listens to.
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
_NGINX = """\
daemon off;
user root;
worker_processes 1;
pid {directory}/nginx.pid;
error_log /dev/null crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  sendfile on;
  keepalive_requests 1000000000;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 80;
    listen [::]:80;
    listen 8080;
    root {directory}/www;
    location /endless {{ limit_rate 2m; }}
  }}
}}
"""


class Site:
    """Pods `web` (nginx), `db` (redis), `client` and `guest`; programs are started by `serve`."""

    def __init__(self, node: "Node") -> None:
        self.node = node
        self.web, self.db, self.client, self.guest = (
            node.pod(name, namespace=NAMESPACE) for name in ("web", "db", "client", "guest")
        )

    def policies(self) -> tuple[Json, ...]:
        """Return what is in force from the start."""
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": NAMESPACE},
            "spec": {"clusterIP": SERVICE_IP, "selector": {"app": "web"}, "ports": [{"port": 80}]},
        }
        return self.web_policy("client"), allow_from("db", ["client", "web"], 6379), service

    def web_policy(self, who: str) -> Json:
        """Return the policy of `web` that lets only `who` in."""
        return allow_from("web", [who], 80)

    def serve(self) -> None:
        """Start nginx and redis; return when both listen."""
        directory = Path(self.node.directory) / "nginx"
        (directory / "www").mkdir(parents=True)
        for name, size in (("small", SMALL), ("big", BIG)):
            (directory / "www" / name).write_bytes(b"x" * size)
        with (directory / "www" / "endless").open("wb") as file:
            file.truncate(ENDLESS)  # takes no room on the disk
        config = directory / "nginx.conf"
        config.write_text(_NGINX.format(directory=directory))
        self.web.popen(["nginx", "-e", "/dev/null", "-p", str(directory), "-c", str(config)], **QUIET)
        self.db.popen(
            ["redis-server", "--bind", self.db.ip, "--save", "", "--appendonly", "no", "--protected-mode", "no"],
            **QUIET,
        )
        self.web.wait_listening(80)
        self.db.wait_listening(6379)

    def pods(self) -> "tuple[Pod, ...]":
        return (self.web, self.db, self.client, self.guest)


def allow_from(app: str, who: list[str], port: int) -> Json:
    """Return a NetworkPolicy: only pods with these app labels may call this port of `app`."""
    peers = [{"podSelector": {"matchLabels": {"app": name}}} for name in who]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": app, "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {"app": app}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": peers, "ports": [{"protocol": "TCP", "port": port}]}],
        },
    }
