"""The process that sends spans, with a real collector: one that takes them, is slow, refuses, or is not there."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.tracing import sender
from control.tracing.sender import Sender
from control.tracing.spans import Span
from loader.errors import ConfigInvalid
from tests.hosts.collector import Server
from tests.hosts.wait import wait_until

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Taken(list[dict[str, Any]]):
    """What a collector has got."""


@pytest.fixture
def collector() -> Iterator[tuple[Server, Taken]]:
    taken = Taken()
    with Server(taken.extend) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server, taken
        server.goes_on.set()
        server.shutdown()
        thread.join()


def at(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/v1/traces"


@pytest.fixture
def made() -> Iterator[Any]:
    """Start senders, to be closed at the end."""
    senders: list[Sender] = []

    def make(url: str) -> Sender:
        senders.append(Sender(url, "n1"))
        senders[-1].start()
        return senders[-1]

    yield make
    for each in senders:
        each.close()


def span(number: int = 1, path: str = "/x", parent: str = PARENT, error: str | None = None) -> Span:
    return Span("GET", TRACE, f"{number:016x}", parent, 5, 9, {"url.path": path, "server.port": 80}, error)


def looked(one: Sender, what: str, **wanted: int) -> None:
    """Wait until the sender counts that."""

    def is_so() -> bool:
        one.look()
        found = {"sent": one.sent, **{name: count for name, count in one.losses().items() if count}}
        return found == wanted

    wait_until(is_so, f"{what}, instead of {one.status()}", 20)


def test_spans_come_to_the_collector_as_they_are(collector: tuple[Server, Taken], made: Any) -> None:
    server, taken = collector
    one = made(at(server))
    one.put([span(1), span(2, parent="", error="the server broke off")])
    looked(one, "both are sent", sent=2)
    first, second = taken
    resource = first.pop("resource")
    assert (resource["service.name"], resource["k8s.node.name"]) == ("sockmesh-proxy", "n1")
    assert first == {
        "name": "GET", "trace": TRACE, "id": f"{1:016x}", "parent": PARENT, "kind": 2, "start": 5, "end": 9,
        "error": False, "why": "", "attributes": {"url.path": "/x", "server.port": 80},
    }  # fmt: skip
    assert (second["parent"], second["error"], second["why"]) == ("", True, "the server broke off")


def test_what_no_text_may_have_in_it_harms_no_other_span(collector: tuple[Server, Taken], made: Any) -> None:
    server, taken = collector
    one = made(at(server))
    one.put([span(1, path="/\ud800\x00\U0001f600"), span(2)])
    looked(one, "both are sent", sent=2)
    assert [each["attributes"]["url.path"] for each in taken] == ["/?\x00\U0001f600", "/x"]


def test_the_process_is_nobody_and_is_told_of_no_proxy(
    collector: tuple[Server, Taken], made: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server, _ = collector
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password hush\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=seven")
    one = made(at(server))
    one.put([span()])
    looked(one, "it is sent", sent=1)
    assert server.headers["x-tenant"] == "seven" and "authorization" not in server.headers
    assert one._child is not None
    status = Path(f"/proc/{one._child.pid}/status").read_text()
    if os.geteuid() == 0:
        assert re.search(r"Uid:\s65534\s65534\s65534\s65534\n", status) and re.search(r"CapPrm:\s0+\n", status)
        assert re.search(r"CapEff:\s0+\n", status) and re.search(r"NoNewPrivs:\s1\n", status)
        # Others that are nobody, as the proxy's workers are, may not read the token in its environment.
        assert Path(f"/proc/{one._child.pid}/environ").stat().st_uid == 0


@pytest.mark.parametrize("status", [400, 307])
def test_a_collector_that_refuses_is_told_of_once(
    collector: tuple[Server, Taken], made: Any, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    server, taken = collector
    server.status = status
    one = made(at(server))
    for number in (1, 2):
        one.put([span()])
        looked(one, "it is lost", sent=0, collector=number)
    assert one.error.startswith(str(status)) and not taken
    assert [record.getMessage() for record in caplog.records] == [
        f"the collector at {at(server)} takes no spans, and they are lost until it does: {one.error}"
    ]
    server.status = 200
    caplog.set_level("INFO", "sockmesh.agent")
    one.put([span()])
    looked(one, "the next is sent", sent=1, collector=2)
    assert not one.error and caplog.records[-1].getMessage().endswith("takes spans again")


def test_nobody_waits_for_a_collector_that_is_stuck(collector: tuple[Server, Taken], made: Any) -> None:
    server, taken = collector
    server.goes_on.clear()
    one = made(at(server))
    many = [span(number, "/" + "x" * 1000) for number in range(1, 33)]
    longest, put = 0.0, 0
    while not one.lost["queue"] and put < 100_000:
        began = time.monotonic()
        one.put(many)
        longest, put = max(longest, time.monotonic() - began), put + len(many)
    assert 32 < put < 100_000 and longest < 1  # what waits is bounded, and who puts it there does not wait
    server.goes_on.set()

    def all_are_told_of() -> bool:
        one.look()
        count: int = one.sent + sum(one.losses().values())
        return count == put

    wait_until(all_are_told_of, "each is sent or lost", 30)
    assert len({each["id"] for each in taken}) == 32 and len(taken) == one.sent == put - one.lost["queue"]


def test_no_collector_at_all(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    one = made(f"http://127.0.0.1:{port}/v1/traces")
    one.put([span()])
    looked(one, "it is lost", sent=0, collector=1)
    assert "refused" in one.error


def test_a_server_that_proves_nothing_gets_no_spans(made: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TLS is verified, and by the roots that OTEL_EXPORTER_OTLP_CERTIFICATE names where it does."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
         "-subj", "/CN=collector", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    for each in (tmp_path.parent.parent, tmp_path.parent, tmp_path, cert):
        each.chmod(0o755)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    taken = Taken()
    with Server(taken.extend) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"https://localhost:{server.server_address[1]}/v1/traces"
        one = made(url)
        one.put([span()])
        looked(one, "it is lost", sent=0, collector=1)
        assert "certificate verify failed" in one.error.lower() and not taken
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(cert))
        other = made(url)
        other.put([span()])
        looked(other, "it is sent", sent=1)
        server.shutdown()


def test_a_process_that_is_killed_is_replaced(
    collector: tuple[Server, Taken], made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "_AGAIN_S", 0.0)
    server, taken = collector
    one = made(at(server))
    one.put([span(1)])
    looked(one, "the first is sent", sent=1)
    child = one._child
    assert child is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    one.put([span(2)])
    looked(one, "the second is lost", sent=1, exporter=1)
    wait_until(lambda: one.look() or one._child is not None, "another one starts")
    one.put([span(3)])
    looked(one, "the third is sent", sent=2, exporter=1)
    assert [each["id"] for each in taken] == [f"{number:016x}" for number in (1, 3)]


def test_what_waits_is_sent_at_the_end(collector: tuple[Server, Taken]) -> None:
    server, taken = collector
    one = Sender(at(server), "n1")
    one.start()
    one.put([span(1)])
    looked(one, "it has started", sent=1)
    one.put([span(2)])
    one.close()
    assert len(taken) == 2


def test_the_process_ends_with_its_agent(collector: tuple[Server, Taken]) -> None:
    server, _ = collector
    script = (
        "import sys, time\nfrom control.tracing.sender import Sender\n"
        "one = Sender(sys.argv[1], 'n1')\none.start()\nprint(one._child.pid, flush=True)\ntime.sleep(60)\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", script, at(server)], stdout=subprocess.PIPE, cwd=os.getcwd())
    assert agent.stdout
    pid = int(agent.stdout.readline())
    watched = os.pidfd_open(pid)
    agent.send_signal(signal.SIGKILL)
    agent.wait()
    wait_until(lambda: _has_ended(watched), "it ends, too")
    os.close(watched)


def _has_ended(pidfd: int) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("https://collector/", "https://collector/v1/traces"),
        ("http://[fd00::1]:4318", "http://[fd00::1]:4318/v1/traces"),
        ("https://collector/of/mine", "https://collector/of/mine"),
    ],
)
def test_endpoints(given: str, wanted: str) -> None:
    assert sender.endpoint(given) == wanted


@pytest.mark.parametrize(
    "given",
    ["collector:4318", "grpc://collector", "http://", "http://collector:0", "http://collector:99999", "http://c:x",
     "//c", "http://[fd00::1", "http://c/?a", "http://c/#a", "http://c d/", "http://c/\n", "unix:///run/otel.sock", "ftp://c"],
)  # fmt: skip
def test_no_endpoints(given: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"^--otlp-endpoint [\s\S]*URL"):
        sender.endpoint(given)


@pytest.mark.parametrize("given", ["http://me:hush@collector:4318", "me:hush@collector", "http://me:hush@c:x"])
def test_a_password_is_not_said_again(given: str) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        sender.endpoint(given)
    assert "hush" not in str(raised.value)


def test_the_port_of_the_other_protocol_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    sender.endpoint("http://collector:4317")
    assert "speak gRPC at that port" in caplog.text


def test_the_longest_message_has_room() -> None:
    longest = Span("GET", TRACE, PARENT, PARENT, 1 << 62, 1 << 62, {
        "url.path": "\x01" * 2048, "server.address": "\x01" * 2048, **{f"sockmesh.{n}": "\x01" * 512 for n in range(8)}
    }, "\x01" * 512)  # fmt: skip
    assert len(json.dumps([longest] * sender.AT_ONCE)) < sender._ROOM
