"""Two Envoys with mutual TLS 1.3 between them: the near one takes bytes, the far one has the rules and its log."""

import json
import time
from pathlib import Path
from typing import Any

from bench.proxy import envoy, origin
from control.certificates import authority, keys, leaf, spiffe
from tests.programs.streams import IPERF_PORT

Json = dict[str, Any]
DOMAIN = "cluster.local"
NEAR, FAR = "client", "server"  # their service accounts


def configure(directory: Path, near: str, far: str, server: str) -> tuple[Path, Path]:
    """Write certificates and both configurations, for the addresses of both and the server's; return the latter."""
    _certify(directory)
    http, ports = origin.HTTP_PORT, {"http": origin.HTTP_PORT, "bulk": IPERF_PORT}
    up = _tls("UpstreamTlsContext", directory, NEAR, FAR)
    down = _tls("DownstreamTlsContext", directory, FAR, NEAR) | {"require_client_certificate": True}
    here = [envoy.listener(name, near, port, _pass_on(name)) for name, port in ports.items()]
    there = [
        envoy.listener("http", far, http, envoy.manager("http", directory / "access.json", *_HTTP)),
        envoy.listener("bulk", far, IPERF_PORT, _pass_on("bulk")),
    ]
    for each in there:
        each["filter_chains"][0]["transport_socket"] = _socket(down)
    to_far = [_stream(name, far, port) | {"transport_socket": _socket(up)} for name, port in ports.items()]
    to_server = [envoy.cluster("http", server, http, "http_protocol_options"), _stream("bulk", server, IPERF_PORT)]
    return _written(directory / "near.json", here, to_far), _written(directory / "far.json", there, to_server)


_HTTP = (origin.HTTP_METHOD, origin.HTTP_PATH)


def _written(file: Path, listeners: list[Json], clusters: list[Json]) -> Path:
    file.write_text(json.dumps(envoy.configuration(listeners, clusters), indent=1))
    return file


def _pass_on(name: str) -> Json:
    config = envoy.typed("filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=name, cluster=name)
    return {"name": "envoy.filters.network.tcp_proxy", "typed_config": config}


def _stream(name: str, ip: str, port: int) -> Json:
    found = envoy.cluster(name, ip, port, "http_protocol_options")
    del found["typed_extension_protocol_options"]
    return found


def _socket(context: Json) -> Json:
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def _tls(kind: str, directory: Path, own: str, peer: str) -> Json:
    """Return a context that proves `own` and takes nobody but `peer`."""
    san = {"san_type": "URI", "matcher": {"exact": str(spiffe.SpiffeId(DOMAIN, "default", peer))}}
    common = {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [
            {
                "certificate_chain": {"filename": str(directory / f"{own}.pem")},
                "private_key": {"filename": str(directory / f"{own}.key")},
            }
        ],
        "validation_context": {
            "trusted_ca": {"filename": str(directory / "root.pem")},
            "match_typed_subject_alt_names": [san],
        },
    }
    return envoy.typed(f"transport_sockets.tls.v3.{kind}", common_tls_context=common)


def _certify(directory: Path) -> None:
    """Write a root, and a leaf with its key for each side."""
    root = authority.new_root(DOMAIN, time.time())
    (directory / "root.pem").write_bytes(root.root.pem)
    for side in (NEAR, FAR):
        key = keys.new()
        signed = root.sign(leaf.request(key), spiffe.SpiffeId(DOMAIN, "default", side), time.time())
        (directory / f"{side}.pem").write_bytes(signed)
        (directory / f"{side}.key").write_bytes(keys.to_pem(key))
