"""A collector of spans: OTLP over HTTP, what it gets into a file, one line of JSON a span.

with Collector(node) as collector:
    collector.wait(lambda span: span["trace"] == trace)
"""

import http.server
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

from tests.hosts.mesh import ROOT
from tests.hosts.node import Node
from tests.hosts.wait import wait_until

Json = dict[str, Any]
PORT = 4318


class Collector:
    """Listens at 127.0.0.1 of a node while the `with` block lasts."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._file = node.directory / "spans.json"
        self._child: subprocess.Popen[Any] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.hosts.collector", str(self._file)]
        self._child = self._node.popen(command, cwd=ROOT, stdout=subprocess.PIPE)
        assert self._child.stdout and self._child.stdout.readline() == b"listening\n"

    def stop(self) -> None:
        if self._child:
            self._child.send_signal(signal.SIGTERM)
            self._child.wait(10)
            self._child = None

    def spans(self) -> list[Json]:
        """Return what has come to this file so far."""
        if not self._file.exists():
            return []
        return [json.loads(line) for line in self._file.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def wait(self, wanted: Callable[[Json], object], what: str = "a span") -> Json:
        """Return the first span that `wanted` accepts, waiting for it."""
        return wait_until(lambda: next((span for span in self.spans() if wanted(span)), None), what) or {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _value(value: common_pb2.AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")


def read(body: bytes) -> list[Json]:
    """Return the spans of one call."""
    message = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
    out = []
    for group in message.resource_spans:
        resource = {each.key: _value(each.value) for each in group.resource.attributes}
        for scope in group.scope_spans:
            out += [
                {
                    "resource": resource,
                    "name": span.name,
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "kind": int(span.kind),
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "error": span.status.code == 2,
                    "why": span.status.message,
                    "attributes": {each.key: _value(each.value) for each in span.attributes},
                }
                for span in scope.spans
            ]
    return out


class Server(http.server.ThreadingHTTPServer):
    """Takes spans with `take`, and answers `status`, if it `goes_on`."""

    daemon_threads = True

    def __init__(self, take: Callable[[list[Json]], None], port: int = 0, status: int = 200) -> None:
        self.take, self.status = take, status
        self.headers: dict[str, str] = {}  # of the last call
        self.goes_on = threading.Event()
        self.goes_on.set()
        super().__init__(("127.0.0.1", port), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body, server = self.rfile.read(int(self.headers["Content-Length"])), self.server
        server.headers = {name.lower(): value for name, value in self.headers.items()}
        server.goes_on.wait()
        if self.path == "/v1/traces" and server.status == 200:
            server.take(read(body))
        self.send_response(server.status if self.path == "/v1/traces" else 404)
        if 300 <= server.status < 400:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def main(file: Path) -> None:
    def take(spans: list[Json]) -> None:
        with file.open("a") as out:
            out.writelines(json.dumps(span) + "\n" for span in spans)

    server = Server(take, PORT)
    print("listening", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
