"""The commands' way to a running agent: one JSON line over its unix socket, answered by one line or by many.

Request `{"method": ..., "params": {...}}`; an answer `{"error": "..."}` is an error in words for the person who asked.
"""

import contextlib
import json
import os
import socket
from collections.abc import Generator, Mapping
from typing import Any

from loader import errors

SOCKET = "agent.sock"  # in the agent's run directory
Json = dict[str, Any]


class NobodyListens(errors.AgentUnavailable):
    """There is no socket, or one that a dead agent left: no agent runs, or one starts and has not come to that."""


_MAX_LINE = 256 << 20  # `dump` is one line and the largest answer


def call(socket_path: str, method: str, params: Mapping[str, Any] | None = None, timeout: float = 30.0) -> Json:
    """Return the one answer to a request; raises AgentUnavailable, or MeshError with the agent's own words."""
    with contextlib.closing(stream(socket_path, method, params, timeout)) as answers:
        for answer in answers:
            return answer
    raise errors.AgentUnavailable(f"the agent at {socket_path} closed the connection without an answer; see its log")


def stream(
    socket_path: str, method: str, params: Mapping[str, Any] | None = None, timeout: float | None = None
) -> Generator[Json, None, None]:
    """Yield answers until the agent ends them; raises as `call` does. `timeout` is the longest silence allowed."""
    with contextlib.closing(stream_lines(socket_path, method, params, timeout)) as lines:  # here, not when it is freed
        for line in lines:
            yield _answer(line, socket_path)


def _answer(line: bytes, socket_path: str) -> Json:
    try:
        answer = json.loads(line)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise errors.AgentUnavailable(f"{socket_path} is not a sockmesh agent's socket: its answer is not JSON")
    if isinstance(answer.get("error"), str):
        raise errors.MeshError(answer["error"])
    return answer


def stream_lines(
    socket_path: str, method: str, params: Mapping[str, Any] | None = None, timeout: float | None = None
) -> Generator[bytes, None, None]:
    """Yield the answer's lines as they are, without their newlines: for those who only pass them on."""
    request = json.dumps({"method": method, "params": dict(params or {})}).encode() + b"\n"
    with _connect(socket_path) as connection:
        connection.settimeout(timeout)
        try:
            connection.sendall(request)
            with connection.makefile("rb", buffering=1 << 16) as answers:
                while line := answers.readline(_MAX_LINE):
                    yield line.rstrip(b"\n")
        except TimeoutError:
            raise errors.AgentUnavailable(
                f"the agent at {socket_path} did not answer in {timeout:g} seconds; see its log"
            ) from None
        except (BrokenPipeError, ConnectionResetError):
            raise errors.AgentUnavailable(
                f"the agent at {socket_path} broke off its answer; see its log, and ask again once it runs"
            ) from None


def _connect(socket_path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(5.0)
        connection.connect(socket_path)
    except OSError as error:
        connection.close()
        kind = (
            NobodyListens if isinstance(error, FileNotFoundError | ConnectionRefusedError) else errors.AgentUnavailable
        )
        raise kind(_why(socket_path, error)) from None
    return connection


def _why(socket_path: str, error: OSError) -> str:
    match error:
        case FileNotFoundError():
            return (
                f"no agent is running: there is no socket {socket_path}; start one with `sockmesh agent --config DIR`, "
                "or name its directory with --run-dir"
            )
        case ConnectionRefusedError():
            return f"the agent of {socket_path} is not running any more; start it with `sockmesh agent --config DIR`"
        case PermissionError():
            return f"you may not use {socket_path}; run this as root"
        case TimeoutError() | BlockingIOError():
            return f"the agent at {socket_path} accepts no connections; see its log"
        case _:
            return f"{socket_path} is no agent's socket ({os.strerror(error.errno) if error.errno else error})"
