"""The agent's side of tracing: spans go into a socket, and out of it into a process that sends them to a collector.

That process is its own so that nothing from the network is read as root, and no slow collector costs the agent more
than the socket's room. What finds no room is lost, and counted.
"""

import contextlib
import importlib.util
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from control.terminal import printable
from control.tracing.spans import Span
from loader.errors import ConfigInvalid

LOG = logging.getLogger("sockmesh.agent")
AT_ONCE = 32  # spans of one message: with all lengths at their most, it is still shorter than _ROOM
MOST_REPORT = 4096  # bytes
LOSSES = ("queue", "collector", "exporter")  # no room, not taken, the process has ended
_ROOM = 4 << 20  # bytes that wait
_AGAIN_S, _MOST_IN_VAIN = 5.0, 6  # then twice as long, and so on
_LAST_S = 1.0  # to send what waits when the agent ends
_SO_SNDBUFFORCE = 32  # asm-generic/socket.h
_PATH = "/v1/traces"
_OTLP_GRPC = 4317


def endpoint(given: str) -> str:
    """Return where spans go by what an operator says: with OTLP's path, if it has none; raises ConfigInvalid."""
    try:
        url = urlsplit(given)
        port = url.port  # raises ValueError
        if url.scheme not in ("http", "https") or not url.hostname or port == 0:
            raise ValueError
    except ValueError:
        raise ConfigInvalid(
            f"--otlp-endpoint {_without_secret(given)}: not a URL of OTLP over HTTP (such as "
            "http://collector.observability:4318 or https://collector.example/v1/traces)"
        ) from None
    if "@" in url.netloc:
        raise ConfigInvalid(
            f"--otlp-endpoint {_without_secret(given)}: a password would be seen in the list of processes: give it in "
            "the agent's environment, as OTEL_EXPORTER_OTLP_HEADERS=authorization=..."
        )
    if url.query or url.fragment or any(character.isspace() for character in given):
        raise ConfigInvalid(f"--otlp-endpoint {given}: a URL with neither ? nor # nor blanks is needed")
    if port == _OTLP_GRPC:
        LOG.warning("--otlp-endpoint %s: collectors speak gRPC at that port; OTLP over HTTP is mostly at 4318", given)
    return given if url.path not in ("", "/") else given.removesuffix("/") + _PATH


def _without_secret(url: str) -> str:
    scheme, separator, rest = url.rpartition("//")
    return f"{scheme}{separator}***@{rest.rpartition('@')[2]}" if "@" in rest else url


def is_installed() -> bool:
    """Tell whether there is what the process needs, without having it here."""
    try:
        return importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:  # of what is above it
        return False


def _as_bytes(spans: Sequence[Span]) -> bytes:
    """Return spans as JSON, without what no text may have in it, such as half a surrogate pair."""
    return json.dumps(spans, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")


class Sender:
    """Takes spans from `start` until `close`, all from one thread. `sent`, `lost`: how many, the latter by LOSSES."""

    def __init__(self, url: str, node: str) -> None:
        self.url, self._node = url, node
        self.sent, self.lost = 0, Counter[str]()
        self.error = ""  # why the collector has not taken the last ones
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._under_way = 0  # spans that the process has been given, and said nothing of
        self._started = float("-inf")
        self._in_vain = 0  # starts in a row of a process that said nothing

    def losses(self) -> dict[str, int]:
        """Return how many were lost, by LOSSES."""
        return {reason: self.lost[reason] for reason in LOSSES}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what an operator must see."""
        return (f"the collector at {self.url} takes no spans: {self.error}",) if self.error else ()

    def status(self) -> dict[str, Any]:
        return {"endpoint": self.url, "sent": self.sent, "lost": self.losses(), "error": self.error}

    def start(self) -> None:
        """Start the process."""
        self._started = time.monotonic()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        try:
            ours.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _ROOM)
        except PermissionError:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _ROOM)
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "control.tracing.export", str(theirs.fileno()), self.url, self._node],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._socket = ours

    def put(self, spans: Sequence[Span]) -> None:
        """Take spans, or count them as lost. Never waits."""
        for at in range(0, len(spans), AT_ONCE):
            some = spans[at : at + AT_ONCE]
            if self._socket is None:
                self.lost["exporter"] += len(some)
                continue
            try:
                self._socket.send(_as_bytes(some))
                self._under_way += len(some)
            except ConnectionError:
                self.lost["exporter"] += len(some)
            except OSError:  # BlockingIOError above all
                self.lost["queue"] += len(some)

    def look(self) -> None:
        """Take what the process reports, and start another one if it has ended: to be called often."""
        if self._socket is not None:
            with contextlib.suppress(BlockingIOError):
                while self._socket is not None:
                    self._hear(self._socket)
        elif time.monotonic() - self._started > _AGAIN_S * 2**self._in_vain:
            self._in_vain = min(self._in_vain + 1, _MOST_IN_VAIN)
            self.start()

    def _hear(self, sock: socket.socket) -> None:
        try:
            report = sock.recv(MOST_REPORT)
        except ConnectionError:
            report = b""
        try:
            sent, failed, why = json.loads(report)
            if type(sent) is not int or type(failed) is not int or min(sent, failed) < 0:
                raise ValueError
        except (ValueError, TypeError, RecursionError):
            status = self._end()
            LOG.warning("the process that sends spans ended with status %s: another one takes its place", status)
            return
        self._in_vain = 0
        self._under_way -= sent + failed
        self.sent += sent
        self.lost["collector"] += failed
        self._say(printable(str(why)) if failed else "")

    def _say(self, why: str) -> None:
        """Have it in the log when a collector begins to take nothing, and when it takes spans again."""
        if why and not self.error:
            LOG.warning("the collector at %s takes no spans, and they are lost until it does: %s", self.url, why)
        elif self.error and not why:
            LOG.info("the collector at %s takes spans again", self.url)
        self.error = why

    def _end(self) -> int | None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self.lost["exporter"] += max(0, self._under_way)
        self._under_way = 0
        child, self._child = self._child, None
        if child is None:
            return None
        child.kill()
        return child.wait()

    def close(self) -> None:
        """Have what waits sent, if that takes no longer than a second, and end the process."""
        if self._socket is not None and self._child is not None:
            self._socket.shutdown(socket.SHUT_WR)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_LAST_S)
        self._end()
