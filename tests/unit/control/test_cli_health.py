"""What `sockmesh status` concludes, what `check` says in one sentence, and how rows are printed."""

import dataclasses
import fcntl
import io
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import click
import pytest
from click import testing

from control.cli import check, show, status
from control.cli.main import COMMANDS, cli
from control.cli.place import Place
from control.inspect import endpoints, health, node_proxy
from loader import abi, numbers
from loader.features import Feature
from tests.unit.conns import conn

ROOT = Path(__file__).resolve().parents[3]
ROW = endpoints.EndpointRow(
    1, "shop/web", 256, (), (), "enforced", "open", "open", 2, 5, "on", ("enrolled", "has-cgroup"), "vh-web", 4, "", "",
    "", tuple(f"hook{n}" for n in range(health.SOCKET_HOOKS)),
)  # fmt: skip
AGENT: dict[str, Any] = {"problems": [], "acceleration_off": "", "self_test": {}, "flow_log": {"sinks": []}}


DEAD, STARTING, SILENT = (
    health.Agent(state, None, "why") for state in (health.State.DEAD, health.State.STARTING, health.State.SILENT)
)


def alive(**given: Any) -> health.Agent:
    return health.Agent(health.State.ALIVE, AGENT | given)


def config(**given: int) -> abi.Config:
    return abi.Config.blank(**({"generation": 1} | given))


@pytest.mark.parametrize(
    ("record", "agent", "on", "why"),
    [
        (config(acceleration=1, self_test=1), DEAD, True, ""),
        (config(acceleration=1, self_test=1), STARTING, True, ""),
        (config(self_test=1), alive(), False, "the kill switch is off"),
        (config(acceleration=1), DEAD, False, "the self-test has not passed on this kernel, or the kernel lacks"),
        (config(acceleration=1), STARTING, False, "the agent is starting, and has yet to test it on this kernel"),
        (config(generation=0), STARTING, False, "the agent is starting"),
        (config(generation=0), DEAD, False, "no agent has begun its work here yet"),
        (config(acceleration=1), alive(acceleration_off="no tracefs"), False, "no tracefs"),
        (config(acceleration=1), alive(self_test={"echo": "ok", "RST": "hung"}), False, "unsafe for it: RST: hung"),
        (config(acceleration=1), alive(), False, "the self-test has not passed on this kernel; the agent's log"),
    ],
)
def test_why_the_short_cut_is_off(record: abi.Config, agent: health.Agent, on: bool, why: str) -> None:
    found = health.acceleration(record, agent)
    assert found.on is on
    assert why in found.why and bool(found.why) is not on


def test_open_ends_are_counted_by_the_reason_that_bars_them() -> None:
    conns = [
        conn(cookie=(1, 2), reason=(abi.AccelReason.ACTIVE, abi.AccelReason.ACTIVE)),
        conn(cookie=(3, 0), reason=(abi.AccelReason.PEER_REMOTE, 0)),
        conn(cookie=(4, 5), closed=(1, 0), marked=(0, abi.AccelReason.SPLICE)),
        conn(cookie=(6, 7), closed=(1, 1)),
        conn(cookie=(8, 9), endpoint=(numbers.FIRST_ENDPOINT, numbers.FIRST_ENDPOINT + 1)),
    ]
    assert health.short_cut_sides(conns) == (3, {"active": 2, "peer-remote": 1, "splice": 1})


def test_nothing_is_wrong_with_a_healthy_node() -> None:
    assert health.problems(alive(), [ROW], [health.MapFill("policy", 10, 100, 0)]) == ()


def test_what_is_wrong_is_said_once_and_in_sentences() -> None:
    sinks = {"sinks": [{"name": "/f", "error": "disk full", "lost": 3}]}
    agent = alive(problems=["web.yaml: spec: unknown"], flow_log=sinks)
    broken = dataclasses.replace(ROW, name="shop/db", policy="everything is refused: not enrolled yet")
    half = dataclasses.replace(ROW, hooks=("sockops",))
    assert health.problems(agent, [broken, half], [health.MapFill("policy", 90, 100, 0)]) == (
        "web.yaml: spec: unknown",
        "endpoint shop/db: everything is refused: not enrolled yet",
        f"endpoint shop/web: 1 of {health.SOCKET_HOOKS} socket hooks are attached; "
        "restart the agent (`sockmesh bpf endpoint get` names them)",
        "map policy is nearly full: 90 of 100 entries",
        "flow log /f: disk full",
    )
    assert health.lost_events(5, agent.words) == {"kernel": 5, "conntrack": 0, "sinks": 3, "observers": 0, "proxy": 0}
    assert health.lost_events(0, {"flow_log": {"ends_lost": 4}})["conntrack"] == 4
    assert health.problems(alive(problems=["Workload shop/db: gone"]), [broken], []) == ("Workload shop/db: gone",)


def test_a_dead_agent_is_a_problem_for_nobody_looks_any_more() -> None:
    for agent in (DEAD, SILENT):
        assert health.problems(agent, [ROW], []) == ("nobody looks whether files and pods are as they should be: why",)
    assert health.problems(DEAD, [ROW], [], in_force=False) == (
        "no policy is in force, for the agent ended before it had put one in force: why",
    )


def test_a_self_test_that_failed_is_a_problem() -> None:
    agent = alive(self_test={"echo": "ok", "RST": "hung", "splice": "lost"})
    assert health.problems(agent, [ROW], []) == (
        "the self-test failed in 2 cases, so no connection takes the short cut: `sockmesh dump`",
    )


def test_that_an_agent_starts_is_no_problem() -> None:
    assert health.problems(STARTING, [], [], in_force=False) == health.problems(STARTING, [ROW], []) == ()


def answers_once(listener: socket.socket, answer: bytes) -> None:
    with listener.accept()[0] as asked:
        asked.recv(65536)  # one that is closed with the question unread is reset, and its answer may be lost
        asked.sendall(answer)


@pytest.mark.parametrize(
    ("locked", "answer", "wanted"),
    [
        (False, None, "dead"),
        (True, None, "starting"),
        (True, b"no json\n", "silent"),
        (True, b'{"node": "n1"}\n', "alive"),
    ],
)
def test_the_lock_tells_an_agent_that_starts_from_a_dead_one(
    tmp_path: Path, locked: bool, answer: bytes | None, wanted: str
) -> None:
    place = Place(tmp_path, tmp_path)
    with (tmp_path / "agent.lock").open("w") as lock, socket.socket(socket.AF_UNIX) as listener:
        if locked:
            fcntl.flock(lock, fcntl.LOCK_EX)
        listener.bind(str(place.socket))  # nobody listens there yet, as at one that a dead agent left
        if answer is not None:
            listener.listen()
            threading.Thread(target=answers_once, args=(listener, answer), daemon=True).start()
        found = place.agent_status()
    assert (found.state, found.words) == (wanted, {"node": "n1"} if wanted == "alive" else None)
    assert bool(found.why_silent) == (wanted != "alive") and ("running" in found.why_silent) == (wanted == "dead")


def test_an_agent_with_another_run_directory_is_not_dead(tmp_path: Path) -> None:
    place = Place(tmp_path / "pins", tmp_path / "elsewhere")
    place.pin_dir.mkdir()
    fd = os.open(place.pin_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert place.agent_status().state is health.State.DEAD
        fcntl.flock(fd, fcntl.LOCK_EX)
        found = place.agent_status()
    finally:
        os.close(fd)
    assert (found.state, found.words) == (health.State.ELSEWHERE, None)
    assert found.why_silent == (
        f"no agent answers at {place.socket}; the agent of {place.pin_dir} (pid {os.getpid()}) runs with another run "
        "directory: name it with --run-dir, or in SOCKMESH_RUN_DIR"
    )
    assert health.problems(found, [ROW], []) == (f"what the agent would say is not known: {found.why_silent}",)
    assert "agent NOT FOUND (it has another --run-dir), " in health.brief(state(alive=False, state=found.state))


def test_no_endpoint_has_the_short_cut_where_the_node_has_none() -> None:
    opted_out = dataclasses.replace(ROW, name="shop/db", acceleration="opted out")
    on, off = health.acceleration(config(acceleration=1, self_test=1), DEAD), health.Acceleration(False, "why")
    assert health.effective([ROW, opted_out], on) == (ROW, opted_out)
    barred = dataclasses.replace(ROW, acceleration="off on this node: why")
    assert health.effective([ROW, opted_out], off) == (barred, opted_out)


def test_waiting_ends_when_the_self_test_is_done_whatever_it_found(tmp_path: Path) -> None:
    place = Place(tmp_path, tmp_path)
    answers = [b'{"self_test_running": true}\n', b"no json\n", b'{"self_test_running": false, "problems": ["a"]}\n']

    def answer_all() -> None:
        while answers:
            answers_once(listener, answers.pop(0))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place.socket))
        listener.listen()
        answering = threading.Thread(target=answer_all)
        answering.start()
        status.until_ready(place, 60 * 10**9)
        answering.join()
    assert answers == []


def test_waiting_has_an_end_and_says_what_it_waited_for(tmp_path: Path) -> None:
    words = ["status", "--wait", "--run-dir", str(tmp_path), "--pin-dir", str(tmp_path), "--wait-duration"]
    late = testing.CliRunner().invoke(cli, [*words, "10ms"])
    assert (late.exit_code, late.stdout) == (1, "")
    assert late.stderr.startswith("sockmesh: the agent is not ready after 10.0 ms: no agent is running: there is no ")
    wrong = testing.CliRunner().invoke(cli, [*words, "soon"])
    assert wrong.exit_code == 2 and "soon is not a span of time (30s, 5m, 1m30s)" in wrong.stderr


def state(**given: Any) -> health.Health:
    healthy: dict[str, Any] = {
        "alive": True, "state": health.State.ALIVE, "why_silent": "", "agent": AGENT, "in_force": True,
        "node": "n1", "policy_revision": 3, "endpoints": (ROW,),
        "problems": (), "acceleration": health.Acceleration(True, ""), "connections": 2, "short_cut": {},
        "redirected_bytes": 0, "refused_calls": 0, "dropped_packets": 0, "lost_events": {}, "maps": (),
    }  # fmt: skip
    return health.Health(**(healthy | given))


def test_one_line_says_loudly_what_is_wrong() -> None:
    assert health.brief(state()) == "node n1: agent alive, revision 3, 1 endpoint, 2 connections, short cut on"
    off = health.Acceleration(
        False, "the kill switch is off: no new connection takes the short cut until somebody acts"
    )
    closed = dataclasses.replace(ROW, policy="not in force")
    dead = state(alive=False, state=health.State.DEAD, acceleration=off, problems=("a",), lost_events={"kernel": 1},
                 endpoints=(closed,), connections=1)  # fmt: skip
    assert health.brief(dead) == (
        "node n1: agent DEAD (policy stays in force), revision 3, 1 endpoint (1 not in force), 1 connection, "
        "short cut OFF (the kill switch is off), 1 problem, 1 EVENT LOST"
    )
    fresh = state(alive=False, state=health.State.STARTING, in_force=False, node="", policy_revision=0, endpoints=(),
                  connections=0, acceleration=health.acceleration(config(generation=0), STARTING))  # fmt: skip
    assert health.brief(fresh) == (
        "node ?: agent starting (no policy is in force yet), revision 0, 0 endpoints, 0 connections, short cut OFF "
        "(the agent is starting)"
    )
    assert "agent starting (policy stays in force)" in health.brief(dataclasses.replace(fresh, in_force=True))
    assert "agent DOES NOT ANSWER (policy stays" in health.brief(state(alive=False, state=health.State.SILENT))


def test_a_start_is_told_without_a_word_of_death() -> None:
    off = health.Acceleration(False, "the agent is starting")
    out = io.StringIO()
    with redirect_stdout(out):
        status._print(state(alive=False, agent=None, state=health.State.STARTING, why_silent="it compiles",
                            in_force=False, node="", endpoints=(), acceleration=off))  # fmt: skip
    lines = out.getvalue().splitlines()
    assert lines[:2] == [
        "agent         starting on this node: it compiles", "              no policy is in force yet",
    ]  # fmt: skip
    assert "short cut     OFF: the agent is starting" in lines and "problems      none" in lines


def test_warnings_are_shown_and_are_no_problem() -> None:
    warned = state(agent=AGENT | {"flow_log": None, "warnings": ["a.yaml:3: nobody"]})
    out = io.StringIO()
    with redirect_stdout(out):
        status._print(warned)
    assert "problems      none\nwarnings      1\n  - a.yaml:3: nobody\n" in out.getvalue()
    assert health.brief(warned).endswith(", 1 warning") and warned.is_well


def test_entries_that_ask_for_the_proxy_are_counted() -> None:
    def entry(verdict: int, present: int = 1) -> tuple[abi.PolicyKey, abi.PolicyValue]:
        return abi.PolicyKey.blank(), abi.PolicyValue.blank(verdict=verdict, present=present)

    found = [entry(abi.Verdict.PROXY), entry(abi.Verdict.ALLOW), entry(abi.Verdict.PROXY, present=0)]
    assert node_proxy.entries(found) == 1


OFF, LED = config(), config(proxy_ifindex=7)
RUN = "start the agent with --proxy, and `sockmesh proxy`"
THREE = "3 entries need it"
ONE_WAITS = "1 entry needs it, and what it asks to be looked into waits (start `sockmesh proxy`)"


def telling(connected: int, workers: int, lost: int = 0) -> dict[str, Any]:
    return AGENT | {"proxy": {"connected": connected, "workers": workers, "lost": lost}}


@pytest.mark.parametrize(
    ("record", "entries", "agent", "line", "brief", "problem"),
    [
        (OFF, 0, AGENT, "off", "", ""),
        (
            OFF, 2, AGENT, f"off: 2 entries need it, and their connections are refused ({RUN})",
            ", 2 L7 entries REFUSED", "",
        ),
        (LED, 0, telling(0, 0), "on: none connected, 0 entries need it", "", ""),
        (
            LED, 1, telling(0, 0), f"NONE CONNECTED: {ONE_WAITS}", ", 1 problem, 1 L7 entry WAITING FOR A PROXY",
            f"no node proxy is connected: {ONE_WAITS}",
        ),
        (LED, 3, telling(1, 2), "on: 1 connected, 2 workers, 3 entries need it", "", ""),
        (LED, 3, telling(1, 1, 9), f"on: 1 connected, 1 worker, {THREE}, 9 records LOST", ", 9 EVENTS LOST", ""),
        # Nobody but the agent knows whether a proxy is connected.
        (LED, 3, None, "on, 3 entries need it", "", ""),
    ],
)  # fmt: skip
def test_the_node_proxy(
    record: abi.Config, entries: int, agent: dict[str, Any] | None, line: str, brief: str, problem: str
) -> None:
    proxy = node_proxy.read(record, entries, agent)
    problems = health.problems(health.Agent(health.State.ALIVE, agent), [ROW], (), proxy=proxy)
    assert problems == ((problem,) if problem else ())
    words = AGENT if agent is None else agent
    lost = health.lost_events(0, agent)
    found = state(agent=words | {"flow_log": None}, proxy=proxy, problems=problems, lost_events=lost)
    out = io.StringIO()
    with redirect_stdout(out):
        status._print(found)
    assert [text for text in out.getvalue().splitlines() if text.startswith("node proxy")] == [f"node proxy    {line}"]
    assert health.brief(found) == health.brief(state()) + brief


def test_the_table_of_status_has_words_and_its_problems_the_sentences() -> None:
    policy = endpoints.NOT_IN_FORCE
    closed = dataclasses.replace(ROW, policy=policy, acceleration="no cgroup: so its sockets cannot be seen")
    out = io.StringIO()
    with redirect_stdout(out):
        status._print(
            state(
                agent=AGENT | {"flow_log": None},
                endpoints=(ROW, closed),
                problems=health.problems(alive(), [ROW, closed], ()),
            )
        )
    heading, row, other = out.getvalue().splitlines()[-3:]
    assert heading.endswith("SHORT CUT") and row.endswith("  on") and other.endswith("  no cgroup")
    assert "  enforced      open" in row and "  not in force  open" in other
    assert "policy        revision 3 in the kernel, " in out.getvalue()
    assert f"problems      1\n  - endpoint shop/web: {policy}\n" in out.getvalue()


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({}, 0),
        ({"alive": False, "agent": None, "state": health.State.STARTING}, 0),
        ({"acceleration": health.Acceleration(False, "the kill switch is off")}, 0),
        ({"lost_events": {"kernel": 3}}, 0),  # of a time that is over: what is wrong now is a problem
        ({"problems": ("a",)}, 1),
        ({"alive": False, "agent": None, "state": health.State.STARTING, "in_force": False}, 1),
    ],
)
@pytest.mark.parametrize("words", [["status"], ["status", "--brief"], ["status", "-o", "json"]])
def test_the_exit_status_says_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, words: list[str], given: dict[str, Any], code: int
) -> None:
    monkeypatch.setattr(status, "gather", lambda _: state(**({"agent": AGENT | {"flow_log": None}} | given)))
    answer = testing.CliRunner().invoke(cli, words)
    assert answer.exit_code == code and answer.stdout and not answer.stderr


def feature(name: str, ok: bool | None, needed_for: Any = "policy") -> Feature:
    return Feature(name, ok, "", "", needed_for)


@pytest.mark.parametrize(
    ("found", "root", "sentence"),
    [
        ([feature("a", True)], True, "policy, flow records and short cut have all they need here"),
        ([feature("a", False), feature("b", None)], True, "this system cannot run the mesh for want of: a"),
        ([feature("a", None)], False,
         "nothing is known to be missing, but 1 thing could not be looked at; run it as root to look at it"),
        ([feature("a", None), feature("b", None)], False,
         "nothing is known to be missing, but 2 things could not be looked at; run it as root to look at them"),
        ([feature("privileges", False), feature("a", None)], False,
         "this user lacks the privileges; nothing else is known to be missing, but 1 thing could not be looked at; run "
         "it as root to look at it"),
        ([feature("privileges", False)], True, "this system cannot run the mesh for want of: privileges"),
        ([feature("a", False, "records")], True, "this system cannot run the mesh for want of: a"),
        ([feature("a", None)], True, "nothing is known to be missing, but 1 thing could not be looked at"),
        ([feature("a", False, "short cut"), feature("b", True)], True,
         "policy and flow records work here; the short cut stays off for want of: a"),
    ],
)  # fmt: skip
def test_check_in_one_sentence(found: list[Feature], root: bool, sentence: str) -> None:
    assert check.verdict(found, root) == sentence


COLUMNS = (show.Column[tuple[str, int]]("NAME", lambda r: r[0]), show.Column[tuple[str, int]]("N", lambda r: str(r[1])))


def printed(rows: list[tuple[str, int]], output: str) -> str:
    out = io.StringIO()
    with redirect_stdout(out):
        show.show(rows, COLUMNS, output, "nothing")
    return out.getvalue()


def test_tables_keep_brackets_and_long_lines_and_disarm_control_characters() -> None:
    long = "spec.ingress[0] " + "x" * 200
    text = printed([(long, 1), ("evil\x1b[31m", 22)], "table")
    assert text.splitlines() == [
        f"{'NAME':<{len(long)}}  N",
        f"{long}  1",
        f"{'evil' + chr(92) + 'x1b[31m':<{len(long)}}  22",
    ]
    assert printed([], "table") == "nothing\n"


def test_a_terminal_gets_the_same_lines_in_colours_and_wraps_them_itself() -> None:
    columns = (*COLUMNS, show.Column[tuple[str, int]]("WORD", lambda _: "ok", True, lambda _: "green bold"))
    rows = [("spec.ingress[0]", 1), ("y" * 300, 2222)]
    coloured, plain = list(show.lines(rows, columns, True)), list(show.lines(rows, columns))
    assert list(map(click.unstyle, coloured)) == plain and len(plain) == 3
    assert coloured[1].endswith("  " + click.style("ok", fg="green", bold=True))


def test_a_terminal_is_told_a_row_a_line_however_narrow_it_is() -> None:
    """Cells were folded in the midst of words: enforce/d, 10.66./0.11."""
    program = (
        "from control.cli.show import Column, print_table;"
        "print_table([('y' * 100,)], [Column('NAME', lambda r: r[0], style=lambda _: 'red')])"
    )
    ours, its = os.openpty()
    for env in ({}, {"NO_COLOR": "1"}):
        env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"COLUMNS": "40", "TERM": "xterm"} | env
        subprocess.run([sys.executable, "-c", program], stdout=its, cwd=ROOT, env=env, check=True, timeout=30)
        said = os.read(ours, 1000).decode()
        assert click.unstyle(said) == f"NAME\r\n{'y' * 100}\r\n"
        assert ("\x1b[31m" in said) == ("NO_COLOR" not in env)
    os.close(ours)
    os.close(its)


def test_json_has_plain_lists_and_numbers() -> None:
    assert json.loads(printed([("a", 1)], "json")) == [["a", 1]]
    assert json.loads(printed([], "json")) == []
    assert show.jsonable(ROW)["flags"] == ["enrolled", "has-cgroup"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stat"], "No such command 'stat'. Did you mean 'status'?"),
        (["bpf", "polcy", "get"], "No such command 'polcy'. Did you mean 'policy'?"),
        (["bpf", "x"], "No such command 'x'. There are sock, policy, ipcache, endpoint, ct, lb, metrics, config, "
         "stats, fs."),
        (["bpf", "ct", "lst"], "No such command 'lst'. Did you mean 'list'?"),
        (["bpf", "config", "x"], "No such command 'x'. There are get, list, set."),
    ],
)  # fmt: skip
def test_what_is_misspelt_is_answered_with_what_there_is(words: list[str], message: str) -> None:
    result = testing.CliRunner().invoke(cli, words)
    assert result.exit_code == 2 and result.stderr.splitlines()[-1] == f"sockmesh: {message}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["agent", "--config", ""], "'--config': it is empty (a path; . is the current directory)"),
        (["policy", "validate", "-f", ""], "'-f' / '--file': it is empty (a path; . is the current directory)"),
        (["policy", "diff", "", "new"], "'OLD': it is empty (a path; . is the current directory)"),
        (["dump", "--file", ""], "'-f' / '--file': it is empty (a path; . is the current directory)"),
        (["uninstall", "--pins", "--pin-dir", ""],
         "'--pin-dir' (env var: 'SOCKMESH_PIN_DIR'): it is empty (a path; . is the current directory)"),
        (["observe", "--last", "5x"], "'--last': '5x' is not a whole number."),
        (["bpf", "stats", "list", "-i", "x"], "'-i' / '--interval': 'x' is not a number."),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_kind_is_told_in_words(words: list[str], message: str) -> None:
    """A variable that is not set must not make the agent put in force what the current directory holds."""
    result = testing.CliRunner().invoke(cli, words)
    assert (result.exit_code, result.stderr) == (2, f"sockmesh: Invalid value for {message}\n")


def test_every_command_of_the_table_exists_and_explains_itself() -> None:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None and command.help, name
        if isinstance(command, click.Group):
            for noun in command.list_commands(context):
                group = command.get_command(context, noun)
                assert group is not None and group.help, noun
                if not isinstance(group, click.Group) or noun == "rotate":
                    continue  # a verb
                assert {"list", "get"} <= set(group.list_commands(context)), noun
                assert all(sub.help for sub in group.commands.values() or [group]), noun


def test_the_help_of_status_says_what_a_revision_counts() -> None:
    said = " ".join(testing.CliRunner().invoke(status.status, ["--help"]).output.split())
    assert "counts the changes of what the kernel has, and each start of an agent" in said
