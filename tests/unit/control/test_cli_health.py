"""What `sockmesh status` concludes, what `check` says in one sentence, and how rows are printed."""

import dataclasses
import io
import json
from contextlib import redirect_stdout
from typing import Any

import pytest
from click import testing

from control.cli import check, show
from control.cli.main import COMMANDS, cli
from control.inspect import endpoints, health
from loader import abi, numbers
from loader.features import Feature
from tests.unit.conns import conn

ROW = endpoints.EndpointRow(
    1, "shop/web", 256, (), (), "enforced", "open", "open", 2, 5, "on", ("enrolled", "has-cgroup"), "vh-web", 4, "", "",
    "", tuple(f"hook{n}" for n in range(health.SOCKET_HOOKS)),
)  # fmt: skip
AGENT: dict[str, Any] = {"problems": [], "acceleration_off": "", "self_test": {}, "flow_log": {"sinks": []}}


def config(**given: int) -> abi.Config:
    return abi.Config.blank(**given)


@pytest.mark.parametrize(
    ("record", "agent", "on", "why"),
    [
        (config(acceleration=1, self_test=1), None, True, ""),
        (config(self_test=1), AGENT, False, "the kill switch is off"),
        (config(acceleration=1), None, False, "the self-test has not passed on this kernel, or the kernel lacks"),
        (config(acceleration=1), AGENT | {"acceleration_off": "no tracefs"}, False, "no tracefs"),
        (
            config(acceleration=1),
            AGENT | {"self_test": {"echo": "ok", "RST": "hung"}},
            False,
            "unsafe for it: RST: hung",
        ),
        (config(acceleration=1), AGENT, False, "the self-test has not passed on this kernel; the agent's log"),
    ],
)
def test_why_the_short_cut_is_off(record: abi.Config, agent: dict[str, Any] | None, on: bool, why: str) -> None:
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
    assert health.problems(AGENT, [ROW], [health.MapFill("policy", 10, 100, 0)]) == ()


def test_what_is_wrong_is_said_once_and_in_sentences() -> None:
    agent = AGENT | {
        "problems": ["web.yaml: spec: unknown"],
        "flow_log": {"sinks": [{"name": "/f", "error": "disk full", "lost": 3}]},
    }
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
    assert health.lost_events(5, agent | {}) == {"kernel": 5, "sinks": 3, "observers": 0}
    assert health.problems(AGENT | {"problems": ["Workload shop/db: gone"]}, [broken], []) == (
        "Workload shop/db: gone",
    )


def test_a_dead_agent_is_a_problem_for_nobody_looks_any_more() -> None:
    assert health.problems(None, [ROW], [], "no agent is running") == (
        "nobody looks whether files and pods are as they should be: no agent is running",
    )


def state(**given: Any) -> health.Health:
    healthy: dict[str, Any] = {
        "alive": True, "why_dead": "", "agent": AGENT, "node": "n1", "policy_revision": 3, "endpoints": (ROW,),
        "problems": (), "acceleration": health.Acceleration(True, ""), "connections": 2, "short_cut": {},
        "redirected_bytes": 0, "refused_calls": 0, "dropped_packets": 0, "lost_events": {}, "maps": (),
    }  # fmt: skip
    return health.Health(**(healthy | given))


def test_one_line_says_loudly_what_is_wrong() -> None:
    assert health.brief(state()) == "node n1: agent alive, revision 3, 1 endpoint, 2 connections, short cut on"
    off = health.Acceleration(False, "x")
    closed = dataclasses.replace(ROW, policy="not in force")
    dead = state(alive=False, acceleration=off, problems=("a",), lost_events={"kernel": 1}, endpoints=(closed,),
                 connections=1)  # fmt: skip
    assert health.brief(dead) == (
        "node n1: agent DEAD (policy stays in force), revision 3, 1 endpoint (1 not in force), 1 connection, "
        "short cut OFF, 1 problem, 1 EVENT LOST"
    )


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


def test_a_terminal_gets_the_same_lines_and_folds_what_is_too_wide() -> None:
    rows = [("spec.ingress[0]", 1), ("x", 2222)]
    assert list(show.rich_lines(rows, COLUMNS, 80)) == list(show.plain_lines(rows, COLUMNS))
    folded = list(show.rich_lines([("y" * 100, 1)], COLUMNS, 40))
    assert max(map(len, folded)) <= 40 and sum(line.count("y") for line in folded) == 100


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
    ],
)  # fmt: skip
def test_what_is_misspelt_is_answered_with_what_there_is(words: list[str], message: str) -> None:
    result = testing.CliRunner().invoke(cli, words)
    assert result.exit_code == 2 and result.stderr.splitlines()[-1] == f"sockmesh: {message}"


def test_every_command_of_the_table_exists_and_explains_itself() -> None:
    import click

    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None and command.help, name
        if isinstance(command, click.Group):
            for noun in command.list_commands(context):
                group = command.get_command(context, noun)
                assert isinstance(group, click.Group) and group.help, noun
                assert {"list", "get"} <= set(group.list_commands(context)), noun
                assert all(sub.help for sub in group.commands.values() or [group]), noun
