"""Serves /metrics and /healthz, and nothing else, over HTTP.

Any process of the node may call, so all calls together cost the agent a bounded number of threads and descriptors.
"""

import contextlib
import http.server
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from control import metrics
from loader.errors import ConfigInvalid

LOG = logging.getLogger("sockmesh.metrics")
STILL_S = 30.0  # a loop that has not turned for so long hangs; the longest walks over full maps take seconds
CALLERS = 16  # at once; Prometheus and the kubelet are two
DEADLINE_S = 10.0  # for a whole call, however slowly its bytes come: Prometheus has given it up by then


def parse(where: str) -> tuple[str, int]:
    """Return (host, port) of "ADDR:PORT"; raises ConfigInvalid."""
    host, _, port = where.rpartition(":")
    host = host.strip("[]")
    try:
        ipaddress.ip_address(host)
        if not 0 <= int(port) <= 65535:
            raise ValueError
    except ValueError:
        raise ConfigInvalid(f"--metrics {where}: an address and a port are needed, as in 127.0.0.1:9965") from None
    return host, int(port)


class _Server(http.server.ThreadingHTTPServer):
    """A thread for each caller: CALLERS of them, each until its deadline. Where one more comes, the one makes room
    whose request has not been whole for the longest time: slow callers keep nobody out."""

    daemon_threads = True
    request_queue_size = CALLERS

    def __init__(
        self, address: tuple[str, int], handler: type[http.server.BaseHTTPRequestHandler], deadline: float
    ) -> None:
        self._deadline = deadline
        self._callers: dict[socket.socket, float] = {}  # -> when each must be done; the oldest first
        self._asking: dict[socket.socket, None] = {}  # of these, whose requests are not whole
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._callers) >= CALLERS:
            slowest = next(iter(self._asking), None)
            if slowest is None:
                self.shutdown_request(request)
                return
            self._cut(slowest)
            self._forget(slowest)
        self._callers[request] = time.monotonic() + self._deadline
        self._asking[request] = None
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._forget(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._forget(request)

    def has_asked(self, request: Any) -> None:
        """A caller's request is whole: it is answered, whoever else comes."""
        self._asking.pop(request, None)

    def _forget(self, request: socket.socket) -> None:
        self._callers.pop(request, None)
        self._asking.pop(request, None)

    @staticmethod
    def _cut(request: socket.socket) -> None:
        """Have a call read an end, and not write."""
        with contextlib.suppress(OSError):  # ended meanwhile
            request.shutdown(socket.SHUT_RDWR)

    def service_actions(self) -> None:
        """Called twice a second."""
        now = time.monotonic()
        for request, end in list(self._callers.items()):
            if now > end:
                self._cut(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        LOG.debug("a call from %s", client_address, exc_info=True)  # that broke off, which is its own matter


class MetricsServer:
    """Answers GET and HEAD of /metrics and /healthz from `start` until `close`; `address` is where it listens (port
    0: any free one). `still` returns for how many seconds the agent's loop has not turned. A call that takes
    longer than `deadline` is cut off."""

    def __init__(
        self,
        where: str,
        snapshot: Callable[[], metrics.MetricsSnapshot],
        still: Callable[[], float],
        deadline: float = DEADLINE_S,
    ) -> None:
        host, port = parse(where)
        self._at_work = at_work = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            server_version, sys_version = "sockmesh", ""
            timeout = deadline
            server: _Server

            def do_GET(self) -> None:
                self.server.has_asked(self.request)
                match self.path.partition("?")[0]:
                    case "/metrics":
                        with at_work:
                            body = metrics.render(snapshot())
                        self._answer(200, metrics.CONTENT_TYPE, body)
                    case "/healthz":
                        hangs = (seconds := still()) > STILL_S
                        text = f"the agent's loop has not turned for {seconds:.0f} s; see its log" if hangs else "ok"
                        self._answer(503 if hangs else 200, "text/plain; charset=utf-8", f"{text}\n".encode())
                    case _:
                        self.send_error(404, "only /metrics and /healthz are here")

            do_HEAD = do_GET  # the answer leaves the body out

            def _answer(self, code: int, kind: str, body: bytes) -> None:
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                LOG.debug(format, *args)

        class Server(_Server):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Server((host, port), Handler, deadline)
        except OSError as error:
            raise ConfigInvalid(
                f"--metrics {where}: {error.strerror}: choose another address, or --metrics '' for none"
            ) from error
        bound = self._server.server_address
        self.address = (str(bound[0]), int(bound[1]))
        self._started = False

    def start(self) -> None:
        """Answer from now on."""
        self._started = True
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def close(self) -> None:
        if self._started:
            self._server.shutdown()  # waits for the loop, so there must be one
        self._server.server_close()
        self._at_work.acquire()  # for good: nobody looks at the agent's maps after this
