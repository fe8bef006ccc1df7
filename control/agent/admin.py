"""The agent's unix socket: one JSON request a connection, answered by one line, or by many for `observe`."""

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from control.flow import log, serve
from loader.errors import MeshError

LOG = logging.getLogger("sockmesh.admin")
Json = dict[str, Any]
Handler = Callable[[Mapping[str, Any]], Json]
_MAX_REQUEST = 1 << 20
_MAX_CALLERS = 64
_PATIENCE_S = 10.0


class AdminServer:
    """Answers from `start` until `close`. Only root can connect: the socket's mode is 0600."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler], flows: log.FlowLog) -> None:
        self._path, self._handlers, self._flows = path, handlers, flows
        self._slots = threading.BoundedSemaphore(_MAX_CALLERS)
        self._calls, self._closed, self._quiet = 0, False, threading.Condition()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()  # a killed predecessor's; the lock in the run directory says that it is dead
        before = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(before)
        self._listener.listen(128)

    def start(self) -> None:
        """Answer from now on; who called before has waited."""
        threading.Thread(target=self._accept, name="admin", daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            if not self._slots.acquire(blocking=False):
                self._reply(connection, {"error": f"the agent answers {_MAX_CALLERS} callers already; try again"})
                connection.close()
                continue
            threading.Thread(target=self._serve, args=(connection,), name="admin-call", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.settimeout(_PATIENCE_S)
                self._answer(connection)
            except OSError:
                pass  # the caller has gone, or says nothing
            finally:
                self._slots.release()

    def _answer(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            raw = stream.readline(_MAX_REQUEST)
        try:
            request = json.loads(raw)
            method, params = request["method"], request.get("params") or {}
            if not isinstance(method, str) or not isinstance(params, dict):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._reply(connection, {"error": 'a request is one line: {"method": ..., "params": {...}}'})
            return
        if method == "observe":
            connection.settimeout(None)
            serve.serve(self._flows, params, connection)
            return
        handler = self._handlers.get(method)
        if handler is None:
            known = ", ".join(sorted((*self._handlers, "observe")))
            self._reply(connection, {"error": f"unknown method {method!r} (known: {known})"})
            return
        with self._quiet:
            if self._closed:
                return
            self._calls += 1
        try:
            answer = handler(params)
        except MeshError as error:
            answer = {"error": str(error)}
        except Exception:
            LOG.exception("admin socket: %s failed", method)
            answer = {"error": f"{method} failed inside the agent; its log has the details"}
        finally:
            with self._quiet:
                self._calls -= 1
                self._quiet.notify_all()
        self._reply(connection, answer)

    def _reply(self, connection: socket.socket, answer: Json) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(answer).encode() + b"\n")

    def close(self) -> None:
        """Take no more calls, and return when no handler is at work any more: they use the agent's maps."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone does not
        self._listener.close()
        with self._quiet:
            self._closed = True
            self._quiet.wait_for(lambda: not self._calls, _PATIENCE_S)
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
