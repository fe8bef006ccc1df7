"""`sockmesh observe` as people run it: printed lines compared whole, refusals in one line, quiet ends."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

import pytest
from click import testing

from control import names
from control.cli import main, observe
from control.flow import log, printer, record, serve

ROOT = pathlib.Path(__file__).resolve().parents[3]
OPEN: dict[str, Any] = {
    "flow": {
        "time": "2026-11-20T20:00:00.123456789Z", "uuid": "u-1", "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 40212, "destination_port": 8080}},
        "source": {"ID": 1, "identity": 256, "namespace": "shop", "labels": ["k8s:app=web"], "pod_name": "web"},
        "destination": {"ID": 2, "identity": 257, "namespace": "shop", "labels": ["k8s:app=api"], "pod_name": "api"},
        "Type": "SOCK", "node_name": "n1", "event_type": {"type": 7}, "traffic_direction": "EGRESS",
        "is_reply": False, "Summary": "TCP; short cut; 12.3 MB sent, 4.1 kB received, 3.2 s",
        "extensions": {"@type": record.STRUCT, "value": {"sockmesh": {
            "event": "close", "rule": {"egress": "spec.egress[0]", "source": {"egress": "web.yaml:12"}}}}},
        "egress_allowed_by": [{"name": "web-out", "namespace": "shop", "kind": "CiliumNetworkPolicy"}],
    },
    "node_name": "n1", "time": "2026-11-20T20:00:00.123456789Z",
}  # fmt: skip
DROP: dict[str, Any] = {
    "flow": {
        "time": "2026-11-20T20:00:01Z", "uuid": "u-2", "verdict": "DROPPED", "drop_reason": 133,
        "IP": {"source": "fd00::1", "destination": "2001:db8::5", "ipVersion": "IPv6"},
        "l4": {"UDP": {"source_port": 5000, "destination_port": 53}},
        "source": {"ID": 1, "identity": 256, "namespace": "shop", "pod_name": "web"},
        "destination": {"identity": 2, "labels": ["reserved:world"]},
        "Type": "L3_L4", "node_name": "n1", "event_type": {"type": 1, "sub_type": 133},
        "traffic_direction": "EGRESS", "drop_reason_desc": "POLICY_DENIED", "is_reply": False, "Summary": "UDP",
        "extensions": {"@type": record.STRUCT, "value": {"sockmesh": {"event": "drop"}}},
    },
    "node_name": "n1", "time": "2026-11-20T20:00:01Z",
}  # fmt: skip
LOST = record.lost(5, record.KERNEL_RING, "n1", 1_795_204_802 * 10**9)
HUBBLE: dict[str, Any] = {  # what another tool wrote: no extension of ours
    "flow": {
        "time": "2026-11-20T20:00:03.5Z", "verdict": "FORWARDED", "is_reply": True, "Summary": "TCP Flags: ACK",
        "IP": {"source": "10.0.0.2", "destination": "10.0.0.1", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 80, "destination_port": 33000, "flags": {"ACK": True}}},
        "source": {"identity": 1}, "destination": {"identity": 256, "namespace": "shop", "pod_name": "web"},
        "event_type": {"type": 4}, "trace_observation_point": "TO_ENDPOINT", "traffic_direction": "INGRESS",
    },
    "node_name": "n2", "time": "2026-11-20T20:00:03.5Z",
}  # fmt: skip
ALL = [OPEN, DROP, LOST, HUBBLE]
CLOSE_LINE = (
    "Nov 20 20:00:00.123: shop/web:40212 (ID:256) -> shop/api:8080 (ID:257) close EGRESS FORWARDED "
    "(TCP; short cut; 12.3 MB sent, 4.1 kB received, 3.2 s)"
)
DROP_LINE = (
    "Nov 20 20:00:01.000: shop/web:5000 (ID:256) -> [2001:db8::5]:53 (world) drop:POLICY_DENIED EGRESS DROPPED (UDP)"
)
LOST_LINE = "Nov 20 20:00:02.000: EVENTS LOST: 5 from PERF_EVENT_RING_BUFFER"
HUBBLE_LINE = (
    "Nov 20 20:00:03.500: shop/web:33000 (ID:256) <- 10.0.0.2:80 (host) to-endpoint INGRESS FORWARDED (TCP Flags: ACK)"
)


@pytest.fixture
def file(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "flows.json"
    path.write_bytes(b"".join(map(record.line, ALL)))
    return str(path)


def run(*args: str, stdin: bytes | None = None) -> testing.Result:
    return testing.CliRunner().invoke(main.cli, ["observe", *args], input=stdin)


def printed(*args: str, stdin: bytes | None = None) -> list[str]:
    result = run(*args, stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout.splitlines()


def test_compact(file: str) -> None:
    assert printed("--input-file", file) == [CLOSE_LINE, DROP_LINE, LOST_LINE, HUBBLE_LINE]


def test_from_standard_input(file: str) -> None:
    assert printed("--input-file", "-", "--last", "1", stdin=pathlib.Path(file).read_bytes()) == [HUBBLE_LINE]


def test_everything_in_words(file: str) -> None:
    got = printed("--input-file", file, "--print-node-name", "--print-policy-names", "--time-format", "rfc3339milli")
    assert got == [
        "2026-11-20T20:00:00.123Z [n1]" + CLOSE_LINE[19:]
        + " [egress allowed by CiliumNetworkPolicy shop/web-out spec.egress[0]; web.yaml:12]",
        "2026-11-20T20:00:01.000Z [n1]" + DROP_LINE[19:] + " [no policy allows it]",
        "2026-11-20T20:00:02.000Z [n1]" + LOST_LINE[19:],
        "2026-11-20T20:00:03.500Z [n2]" + HUBBLE_LINE[19:],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("policy", "rule", "source", "words"),
    [
        (
            {"kind": "CiliumClusterwideNetworkPolicy", "name": "invalid:p.yaml"}, "invalid:p.yaml", "p.yaml",
            "CiliumClusterwideNetworkPolicy invalid:p.yaml",
        ),
        (
            {"kind": "NetworkPolicy", "namespace": "shop", "name": "db"}, "invalid:shop/db", "p.yaml:4",
            "NetworkPolicy invalid:shop/db; p.yaml:4",
        ),
        ({"kind": "NetworkPolicy", "namespace": "shop", "name": "db"}, "", "", "NetworkPolicy shop/db"),
    ],
)  # fmt: skip
def test_what_stands_in_for_a_policy_is_named_once(policy: dict[str, Any], rule: str, source: str, words: str) -> None:
    told = {"rule": {"ingress": rule, "source": {"ingress": source}}}
    flow = DROP["flow"] | {"ingress_denied_by": [policy], "extensions": {"value": {"sockmesh": told}}}
    assert printer.policies(flow) == f"ingress denied by {words}"
    if rule:
        name = names.RuleName(policy["kind"], policy.get("namespace", ""), policy["name"], rule)
        assert str(name) == words.partition(";")[0]


def test_a_service_is_named_where_no_pod_took_the_call() -> None:
    flow = DROP["flow"] | {"destination": {}, "destination_service": {"name": "dns", "namespace": "shop"}}
    line = record.line(DROP | {"flow": flow})
    args = ("--input-file", "-", "--to-service", "shop/dns")
    assert printed(*args, stdin=line) == [DROP_LINE.replace("[2001:db8::5]:53 (world)", "svc/shop/dns:53 (unknown)")]
    assert "   svc/shop/dns:53   " in printed(*args, "-o", "table", stdin=line)[1]
    assert "[2001:db8::5]:53" in printed(*args, "--numeric", stdin=line)[0]
    assert run("--input-file", "-", "--not", "--service", "dns", stdin=line).stdout == ""


def test_numeric(file: str) -> None:
    assert printed("--input-file", file, "--numeric", "--time-format", "%H:%M", "--verdict", "DROPPED")[0] == (
        "20:00: [fd00::1]:5000 (ID:256) -> [2001:db8::5]:53 (ID:2) drop:POLICY_DENIED EGRESS DROPPED (UDP)"
    )


def test_addresses_instead_of_names(file: str) -> None:
    got = printed("--input-file", file, "--ip-translation=false", "--type", "close")
    assert got[0] == CLOSE_LINE.replace("shop/web:", "10.0.0.1:").replace("shop/api:", "10.0.0.2:")
    assert printed("--input-file", file, "--ip-translation", "--type", "close")[0] == CLOSE_LINE


@pytest.mark.parametrize("output", ["json", "jsonpb"])
def test_json_is_what_was_read(file: str, output: str) -> None:
    assert [json.loads(line) for line in printed("--input-file", file, "-o", output)] == ALL


def test_json_reads_back(file: str) -> None:
    once = run("--input-file", file, "-o", "json").stdout_bytes
    assert run("--input-file", "-", "-o", "json", stdin=once).stdout_bytes == once


def test_table(file: str) -> None:
    assert printed("--input-file", file, "-o", "table", "--first", "2") == [
        "TIMESTAMP             SOURCE           DESTINATION        TYPE                        VERDICT     SUMMARY",
        "Nov 20 20:00:00.123   shop/web:40212   shop/api:8080      close EGRESS                FORWARDED   "
        "TCP; short cut; 12.3 MB sent, 4.1 kB received, 3.2 s",
        "Nov 20 20:00:01.000   shop/web:5000    [2001:db8::5]:53   drop:POLICY_DENIED EGRESS   DROPPED     UDP",
    ]  # fmt: skip


def test_dict(file: str) -> None:
    assert printed("--input-file", file, "-o", "dict", "--print-policy-names", "--type", "drop")[:8] == [
        "  TIMESTAMP: Nov 20 20:00:01.000",
        "     SOURCE: shop/web:5000",
        "DESTINATION: [2001:db8::5]:53",
        "       TYPE: drop:POLICY_DENIED EGRESS",
        "    VERDICT: DROPPED",
        "    SUMMARY: UDP",
        "     POLICY: no policy allows it",
        "------------",
    ]


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        (["--verdict", "DROPPED"], ["u-2"]),
        (["--verdict", "DROPPED", "--verdict", "FORWARDED"], ["u-1", "u-2", None]),
        (["--not", "--verdict", "DROPPED"], ["u-1", None]),
        (["--not", "--verdict=DROPPED", "--not", "--to-port", "8080"], [None]),
        (["-n", "shop", "--not", "-t", "drop", "-l", "app=web"], ["u-1"]),
        (["--not", "-nshop"], []),
        (["--not", "-lapp=web"], ["u-2", None]),
        (["--not", "-l", "app=web"], ["u-2", None]),
        (["-tdrop"], ["u-2"]),
        (["--to-pod", "shop/web"], [None]),
        (["-4"], ["u-1", None]),
        (["-6"], ["u-2"]),
        (["-4", "-6"], ["u-1", "u-2", None]),
        (["--ipv6"], ["u-2"]),
        (["--not", "-6"], ["u-1", None]),
        (["--not", "--ipv6"], ["u-1", None]),
        (["-A", "--ipv4"], ["u-1", None]),
        (["--last", "1"], [None]),
        (["--first", "1"], ["u-1"]),
        (["--since", "2026-11-20T20:00:01Z"], ["u-2", None]),
        (["--until", "2026-11-20T20:00:01Z"], ["u-1", "u-2"]),
        (["--node-name", "n2"], [None]),
    ],
)
def test_filters(file: str, args: list[str], wanted: list[str | None]) -> None:
    got = [json.loads(line) for line in printed("--input-file", file, "-o", "json", *args)]
    assert [found["flow"].get("uuid") for found in got if "flow" in found] == wanted


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--port", "http"], '--port: "http" is not a port (80) or a range of ports (8000-8999)'),
        (["--not", "--ip", "x"], '--ip: "x" is neither an address nor a range (10.0.0.1, 10.0.0.0/8, fd00::/8)'),
        (["--not"], "--not: a filter must follow it, as in --not --ip 10.0.0.1 (found 'nothing')"),
        (["--not", "--last"], "--not: a filter must follow it, as in --not --ip 10.0.0.1 (found '--last')"),
        (["--since", "noon"],
         '--since: "noon" is not a time (2026-11-20T20:00:00Z, 2026-11-20 or, counted back from now, 5m)'),
        (["--since", "99999999999999999d"],
         '--since: "99999999999999999d" is before 1970-01-01, the earliest time that can be given'),
        (["--until", "0001-01-01T00:00:00Z"],
         '--until: "0001-01-01T00:00:00Z" is before 1970-01-01, the earliest time that can be given'),
        (["--since", "5m", "--until", "1h"], "--until is before --since (of two ages the longer one is --since)"),
        (["--input-file", ""], '--input-file: it is empty (a file, or "-")'),
        (["--first", "1", "--last", "1"], "--first and --last exclude each other"),
        (["-f", "--first", "1"], "--follow has no end: it takes neither --first nor --until nor --input-file"),
        (["--time-format", "x"], '--time-format: unknown "x" (StampMilli, RFC3339, RFC3339Milli, RFC3339Micro, '
         "RFC3339Nano, RFC1123Z or a pattern like %H:%M)"),
    ],
)  # fmt: skip
def test_bad_values_are_one_line_and_status_2(args: list[str], message: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stderr, result.stdout) == (2, f"sockmesh: {message}\n", "")


@pytest.mark.parametrize(
    ("option", "wanted"),
    [("--verdct", "--verdict"), ("--nofilter", "--not"), ("--not-verdic", "--verdict"), ("--xyz", ""), ("-y", "")],
)
def test_no_hidden_option_is_advised(option: str, wanted: str) -> None:
    result = run(option)
    said = result.stderr.splitlines()[-1]
    assert result.exit_code == 2 and "No such option" in said and "--not-" not in said.replace(option, "")
    assert ("Did you mean" in said) == bool(wanted) and wanted in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\nnot json\n{\n", "line 2: not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[1]\n", "line 1: not a flow record: a JSON object is expected"),
        (b'{"flow":3}\n', "not a flow record: its flow is not an object"),
        (b'{"flow":{"l4":[1]}}\n', "a line is not a flow record"),
        (b"\xff\n", "line 1: not JSON"),
    ],
)
def test_bad_files_are_one_line_and_status_1(tmp_path: pathlib.Path, content: bytes, message: str) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    result = run("--input-file", str(path))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert message in result.stderr


@pytest.mark.parametrize("torn", [b'{"flow":{"uu', b'{"flow":{"uu' + record.line(DROP), b"\0" * 4096, b"\xff"])
def test_lines_that_are_no_json_are_skipped_and_counted(tmp_path: pathlib.Path, torn: bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(record.line(DROP) + torn.rstrip() + b"\n" + record.line(LOST) + torn)
    result = run("--input-file", str(path))
    assert (result.exit_code, result.stdout.splitlines()) == (0, [DROP_LINE, LOST_LINE])
    assert result.stderr == f"{path}: skipped 2 lines that are not JSON\n"
    path.write_bytes(torn.rstrip() + b"\n" + record.line(DROP))
    assert run("--input-file", str(path)).stderr == f"{path}: skipped 1 line that is not JSON\n"


def test_a_file_that_is_not_there() -> None:
    result = run("--input-file", "/nonexistent/flows")
    assert (result.exit_code, result.stderr) == (1, "sockmesh: /nonexistent/flows: No such file or directory\n")


def test_no_agent(tmp_path: pathlib.Path) -> None:
    result = run("--run-dir", str(tmp_path))
    assert result.exit_code == 1
    assert result.stderr == (
        f"sockmesh: no agent is running: there is no socket {tmp_path}/agent.sock; start one with "
        "`sockmesh agent --config DIR`, or name its directory with --run-dir; what it wrote with --flow-log is read "
        "with --input-file\n"
    )


def test_colours_only_where_they_are_wanted(file: str) -> None:
    assert "\x1b" not in run("--input-file", file).stdout
    coloured = testing.CliRunner().invoke(observe.observe, ["--input-file", file, "--color", "always"], color=True)
    assert "\x1b[32mFORWARDED\x1b[0m" in coloured.stdout and "\x1b[31mDROPPED\x1b[0m" in coloured.stdout


@pytest.mark.parametrize(
    ("end", "style", "who"),
    [
        ("source", printer.Style(), "shop/web:40212"),
        ("destination", printer.Style(), "shop/api:8080"),
        ("destination", printer.Style(addresses=True), "10.0.0.2:8080"),
    ],
)
def test_a_stuck_line_names_the_reader_and_its_reason(end: str, style: printer.Style, who: str) -> None:
    told = {"event": "stuck", "reader": {"end": end, "reason": "splice"}}
    flow = OPEN["flow"] | {
        "Summary": f"TCP; reset for its reader ({end}: splice)",
        "extensions": {"@type": record.STRUCT, "value": {"sockmesh": told}},
    }
    response = {"flow": flow, "time": OPEN["time"]}
    assert printer.compact(response, style).endswith(f"(TCP; reset for its reader ({who}: splice))")
    assert f"({who}: splice)" in printer.block(response, style)


def test_each_rule_that_decided_has_its_file_and_line() -> None:
    rule = {"egress": "spec.egress[0]", "ingress": "spec.ingress[1]"}
    sources = {"egress": "web.yaml:12", "ingress": "api.yaml:3"}
    flow = OPEN["flow"] | {
        "extensions": {"value": {"sockmesh": {"event": "open", "rule": rule | {"source": sources}}}},
        "ingress_denied_by": [{"name": "api-in", "namespace": "shop", "kind": "NetworkPolicy"}],
    }
    assert printer.policies(flow) == (
        "egress allowed by CiliumNetworkPolicy shop/web-out spec.egress[0]; web.yaml:12; "
        "ingress denied by NetworkPolicy shop/api-in spec.ingress[1]; api.yaml:3"
    )


def test_a_strange_name_cannot_steer_the_terminal() -> None:
    flow = DROP["flow"] | {"source": {"pod_name": "a\x1b[2Jb"}, "Summary": "\r"}
    line = printer.compact({"flow": flow, "time": DROP["time"]}, printer.Style(policy_names=True))
    assert "a\\x1b[2Jb:5000 (unknown)" in line and line.isprintable()


@contextlib.contextmanager
def agent(path: str, flows: log.FlowLog, status: Any = None) -> Any:
    """Serve `observe` on a socket, and `status` if there is one, one connection after the other."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                with connection:
                    asked = json.loads(connection.makefile("rb").readline())
                    if asked["method"] == "status":
                        connection.sendall(json.dumps(status).encode() + b"\n")
                    else:
                        serve.serve(flows, asked["params"], connection)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield
    flows.close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def command(*args: str, **options: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "control.cli.main", "observe", *args], cwd=ROOT, stderr=subprocess.PIPE, **options
    )


DAYS = range(11, 21)


def on_each_day(*lines: str) -> list[str]:
    return [line.replace("Nov 20", f"Nov {day}") for day in DAYS for line in lines]


@pytest.fixture
def flows() -> log.FlowLog:
    made = log.FlowLog()
    made.write(record.line(each).replace(b"2026-11-20", b"2026-11-%d" % day) for day in DAYS for each in ALL)
    made.flush()
    return made


def test_the_agent_answers_with_the_last_twenty(tmp_path: pathlib.Path, flows: log.FlowLog) -> None:
    path = str(tmp_path / "agent.sock")
    with agent(path, flows):
        assert printed("--server", path) == on_each_day(CLOSE_LINE, DROP_LINE, LOST_LINE, HUBBLE_LINE)[-27:]
        assert printed("--server", path, "--uuid", "u-2", "--last", "2") == on_each_day(DROP_LINE, LOST_LINE)[-4:]
        assert len(printed("--server", path, "--all")) == 40
        assert len(printed("--run-dir", str(tmp_path), "--all")) == 40


def test_following_ends_quietly_on_interrupt(tmp_path: pathlib.Path, flows: log.FlowLog) -> None:
    path = str(tmp_path / "agent.sock")
    with agent(path, flows), command("--server", path, "-f", "--last", "1", stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline().decode().rstrip("\n") == HUBBLE_LINE
        flows.write(record.line(DROP))
        flows.flush()
        assert process.stdout.readline().decode().rstrip("\n") == DROP_LINE
        process.send_signal(signal.SIGINT)
        assert (process.wait(10), process.stderr.read(), process.stdout.read()) == (0, b"", b"")


def test_following_begins_now_unless_something_is_asked_for(tmp_path: pathlib.Path, flows: log.FlowLog) -> None:
    path = str(tmp_path / "agent.sock")
    with agent(path, flows), command("--server", path, "-f", stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        while not flows.stats().observers:
            time.sleep(0.005)
        flows.write(record.line(DROP))
        flows.flush()
        assert process.stdout.readline().decode().rstrip("\n") == DROP_LINE
        process.send_signal(signal.SIGINT)
        assert (process.wait(10), process.stderr.read(), process.stdout.read()) == (0, b"", b"")


@pytest.mark.parametrize(("args", "last"), [
    ([], 20), (["-f"], 0), (["-f", "--last", "3"], 3), (["-f", "--all"], None), (["-f", "--since", "5m"], None),
    (["--input-file", "f"], None), (["--first", "1"], None),
])  # fmt: skip
def test_how_many_are_asked_for(args: list[str], last: int | None) -> None:
    with observe.observe.make_context("observe", args) as context:
        assert observe._query(context.params).last == last


def test_following_says_so_when_the_agent_stops(tmp_path: pathlib.Path, flows: log.FlowLog) -> None:
    path = str(tmp_path / "agent.sock")
    with agent(path, flows), command("--server", path, "-f", "--last", "1", stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline().decode().rstrip("\n") == HUBBLE_LINE
        flows.close()
        assert process.wait(10) == 1
        said = process.stderr.read().decode()
    assert said.count("\n") == 1
    assert "the agent stopped" in said and "start it with `sockmesh agent --config DIR`" in said


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--port", "1"], "no flow matches these filters\n"),
        (["--since", "2100-01-01T00:00:00Z", "-o", "json"], "no flow matches these filters\n"),
        (["--last", "0"], ""),
        (["--first", "0"], ""),
    ],
)
def test_that_nothing_matched_is_told_beside_the_output(tmp_path: pathlib.Path, words: list[str], told: str) -> None:
    file = tmp_path / "f"
    file.write_bytes(record.line(OPEN))
    found = run("--input-file", str(file), *words)
    assert (found.exit_code, found.stdout, found.stderr) == (0, "", told)


@pytest.mark.parametrize(
    ("name", "content", "is_named"),
    [("old.json", b"{}\n", True), ("old.json", b"", False), ("none.json", b"", False), ("-", b"", False)],
)
@pytest.mark.parametrize(("words", "told"), [([], "no flows yet"), (["--port", "1"], "no flow matches these filters")])
def test_an_agent_that_has_nothing_names_the_file_that_may_hold_more(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    name: str, content: bytes, is_named: bool, words: list[str], told: str,
) -> None:  # fmt: skip
    (tmp_path / "old.json").write_bytes(content)
    monkeypatch.chdir(tmp_path)  # a relative path is one of the agent's
    for given in (name, str(tmp_path / name)):
        path = str(tmp_path / "agent.sock")
        status = {"pid": os.getpid(), "flow_log": {"sinks": [{"name": "-"}, {"name": given}]}}
        with agent(path, log.FlowLog(), status):
            found = run("--server", path, *words)
        os.unlink(path)
        file = tmp_path / name
        more = f"; earlier ones may be in {file}: --input-file {file}" if is_named else ""
        assert (found.exit_code, found.stdout, found.stderr) == (0, "", f"{told}{more}\n")


@pytest.mark.parametrize("status", [[], {}, {"pid": 0}, {"pid": os.getpid(), "flow_log": None}, {"error": "busy"}])
def test_an_agent_that_cannot_say_where_it_writes_is_no_error(tmp_path: pathlib.Path, status: Any) -> None:
    path = str(tmp_path / "agent.sock")
    with agent(path, log.FlowLog(), status):
        found = run("--server", path)
    assert (found.exit_code, found.stdout, found.stderr) == (0, "", "no flows yet\n")


def test_an_empty_log_is_told_of(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "f"
    file.touch()
    assert run("--input-file", str(file)).stderr == "no flows yet\n"


def test_without_root_a_closed_run_directory_is_answered_in_one_sentence() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as closed:  # mode 0700, in a directory that all may enter
        answer = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-m", "control.cli.main",
             "observe", "--run-dir", closed],
            capture_output=True, text=True, cwd=ROOT, timeout=30, check=False,
        )  # fmt: skip
    assert answer.returncode == 1
    assert answer.stderr == f"sockmesh: you may not use {closed}/agent.sock; run this as root\n"


def test_a_closed_pipe_ends_quietly(tmp_path: pathlib.Path, file: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with command("--input-file", file, stdout=writer) as process:
        os.close(writer)
        assert process.stderr
        assert (process.wait(10), process.stderr.read()) == (0, b"")


@pytest.mark.parametrize("before", ["", "unix://"])
def test_the_socket_in_hubbles_form(tmp_path: pathlib.Path, before: str) -> None:
    refused = run("--server", f"{before}{tmp_path}/none.sock")
    assert f"there is no socket {tmp_path}/none.sock;" in refused.output


def test_an_address_is_no_socket() -> None:
    refused = run("--server", "localhost:4245")
    assert refused.exit_code == 2
    assert "localhost:4245 is an address: agents answer on their node's socket only (a path)" in refused.output
