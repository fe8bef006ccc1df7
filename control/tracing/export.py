"""The process that sends spans to a collector: `python -m control.tracing.export SOCKET_FD URL NODE`.

It is `nobody`, with no capability: all it can do is to read spans from the agent and to call the collector. How that is
done is OpenTelemetry's own, with the headers, certificates and timeout that its environment variables say; but no
proxy, password or list of certificates comes from elsewhere, and no redirection is followed.
"""

import contextlib
import ctypes
import json
import logging
import os
import pwd
import select
import signal
import socket
import sys
import time
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from control.tracing.sender import MOST_REPORT
from control.tracing.spans import Span

_LONGEST = 4 << 20  # bytes of one message
_MOST = 512  # spans of one call to the collector
_GATHER_S = 0.2
_WHY = 512  # characters
_PR_SET_NO_NEW_PRIVS = 38
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def drop_privileges(user: str = "nobody") -> None:
    """Become a user with no capability, for good; who is not root has none.

    Not before this program runs: so what it has in memory, a collector's token among it, is for no other of that user.
    """
    if os.geteuid():
        return
    who = pwd.getpwnam(user)
    os.setgroups([])
    os.setresgid(who.pw_gid, who.pw_gid, who.pw_gid)
    os.setresuid(who.pw_uid, who.pw_uid, who.pw_uid)
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


class Session(requests.Session):
    """Calls the one URL that it is told. `failure`: what came of the last call, "" if the collector took it."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.failure = ""

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        try:
            response = super().request(*args, **{**kwargs, "allow_redirects": False})
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"
            raise
        self.failure = "" if response.ok and not response.is_redirect else f"{response.status_code} {response.reason}"
        if response.is_redirect:  # which the exporter takes for success
            raise requests.TooManyRedirects(self.failure)
        return response


def readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
    """Return a span as OpenTelemetry has it."""
    trace = int(span.trace, 16)
    parent = SpanContext(trace, int(span.parent, 16), True, _SAMPLED) if span.parent else None
    return ReadableSpan(
        name=span.name,
        context=SpanContext(trace, int(span.id, 16), False, _SAMPLED),
        parent=parent,
        resource=resource,
        attributes=span.attributes,
        kind=SpanKind.SERVER,
        status=Status() if span.error is None else Status(StatusCode.ERROR, span.error or None),
        start_time=span.start,
        end_time=span.end,
        instrumentation_scope=scope,
    )


class Exporter:
    """Reads spans from a socket until its other end is closed."""

    def __init__(self, sock: socket.socket, url: str, node: str) -> None:
        self._socket, self._parent = sock, os.getppid()
        self._session = Session()
        self._exporter = OTLPSpanExporter(endpoint=url, session=self._session)
        self._resource = Resource.create({"service.name": "sockmesh-proxy", "k8s.node.name": node})
        self._scope = InstrumentationScope("sockmesh")

    def run(self) -> None:
        while spans := self._gather():
            self._send(spans)

    def _gather(self) -> list[Span]:
        """Wait for spans, and a little for more of them; none: there will be none."""
        found, until = self._read(), time.monotonic() + _GATHER_S
        while found and len(found) < _MOST and (left := until - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left)[0]:
                break
            if not (more := self._read()):
                break
            found += more
        return found

    def _read(self) -> list[Span]:
        body = self._socket.recv(_LONGEST)
        return [Span(*each) for each in json.loads(body)] if body else []

    def _send(self, spans: list[Span]) -> None:
        count, self._session.failure = len(spans), ""
        readables = [readable(span, self._resource, self._scope) for span in spans]
        result = SpanExportResult.FAILURE
        with contextlib.suppress(requests.RequestException):  # older exporters let some of them out
            result = self._exporter.export(readables)
        if result is SpanExportResult.SUCCESS:
            self._report(count, 0, "")
        else:
            self._report(0, count, self._session.failure or "it was not heard of in time")
            if os.getppid() != self._parent:  # nobody waits for what is left
                sys.exit(0)

    def _report(self, sent: int, failed: int, why: str) -> None:
        report = json.dumps([sent, failed, why[:_WHY]]).encode()
        with contextlib.suppress(OSError):
            self._socket.send(report[:MOST_REPORT])


def main(argv: list[str]) -> int:
    fd, url, node = argv
    for number in (signal.SIGINT, signal.SIGTERM):  # the agent has got it, too, and then has the rest sent
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # the agent says it, once
    os.nice(10)  # requests come first
    exporter = Exporter(socket.socket(fileno=int(fd)), url, node)
    drop_privileges()
    exporter.run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
