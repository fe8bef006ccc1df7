"""Whatever comes to the admin socket is answered by one line, and leaves nothing in the agent's log."""

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.agent import admin
from control.flow import log

_DEEP = 100_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    flows = log.FlowLog([])
    path = tmp_path / "agent.sock"
    running = admin.AdminServer(path, {"echo": dict}, flows)
    running.start()
    yield path
    running.close()
    flows.close()


def ask(path: Path, request: bytes) -> list[Any]:
    """Return the lines of the answer."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(path))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it need not be read to its end
            s.sendall(request + b"\n")
        with s.makefile("rb") as answer:
            return [json.loads(line) for line in iter(lambda: _line(answer), b"")]


def _line(answer: Any) -> bytes:
    try:
        return bytes(answer.readline())
    except ConnectionResetError:  # closed before all of the request was read
        return b""


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"\0",
        b"null",
        b"1",
        b"1e999",
        b"NaN",
        b'"status"',
        b"[]",
        b'["method"]',
        b"{}",
        b'{"method":null}',
        b'{"method":1}',
        b'{"method":["x"]}',
        b'{"method":{"x":1}}',
        b'{"method":"\\ud800"}',
        b'{"method":"nothing of the kind"}',
        b'{"method":"echo","params":[1]}',
        b'{"method":"echo","params":"x"}',
        b'{"method":"observe","params":{"last":-1}}',
        b'{"method":"observe","params":{"last":[1]}}',
        b'{"method":"observe","params":{"filters":{"flag":1}}}',
        b'{"method":"observe","params":{"filters":[[1]]}}',
        b'{"method":"observe","params":{"filters":[{"flag":"port","value":"' + b"9" * 5000 + b'"}]}}',
        b'{"method":"observe","params":{"' + b"x" * 100 + b'":1}}',
        b'{"method":' + b"9" * 10_000 + b"}",
        b'{"method":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
        b'{"method":"' + b"x" * (2 << 20) + b'"}',
    ],
    ids=lambda request: repr(request[:60]),
)
def test_an_odd_request_gets_one_line(server: Path, request_: bytes, caplog: pytest.LogCaptureFixture) -> None:
    broken: list[object] = []
    before, threading.excepthook = threading.excepthook, broken.append
    try:
        with caplog.at_level(logging.INFO):
            (answer,) = ask(server, request_)
    finally:
        threading.excepthook = before
    assert set(answer) == {"error"} and broken == [] and caplog.records == []
    assert ask(server, b'{"method":"echo","params":{"a":1}}') == [{"a": 1}]
