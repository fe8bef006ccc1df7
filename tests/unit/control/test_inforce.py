"""What the commands show of maps that an agent left in the middle of an edit."""

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click import testing

from control import editions
from control.cli.bpf import config as config_command
from control.cli.bpf import endpoint as endpoint_command
from control.cli.bpf import ipcache as ipcache_command
from control.cli.bpf import policy as policy_command
from control.cli.dump import report
from control.cli.gather import gather
from control.cli.main import cli
from control.cli.place import Place
from control.inspect import everything, health, inforce
from control.names import EndpointName, Names
from loader import abi, btf, compiler, numbers
from loader.record import Record, pack_addr

NOW, BOTH, NEXT = abi.EditionState
NOWHERE = Place(Path("/nonexistent"), Path("/nonexistent"))
WEB, DB, GOING, COMING, STAYS = 1, 2, 3, 4, 5
NAMES = Names(
    node="n1",
    endpoints={
        id: EndpointName(id, "shop", name, 250 + id)
        for id, name in enumerate(("web", "db", "going", "coming", "stays"), 1)
    },
)
ENROLLED, AUDIT, NEXT_AUDIT, PASSING = (
    abi.EndpointFlag.ENROLLED, abi.EndpointFlag.HAS_AUDIT, abi.EndpointFlag.NEXT_HAS_AUDIT, abi.EndpointFlag.PASSING,
)  # fmt: skip
ALLOW, DENY = abi.Verdict.ALLOW, abi.Verdict.DENY


def record(set_id: int, next_set: int = 0, flags: int = 0, **given: int) -> abi.Endpoint:
    return abi.Endpoint.blank(
        identity=250, set_id=set_id, next_set_id=next_set, flags=int(ENROLLED | flags), ifindex=4, **given
    )


class Pinned(contextlib.AbstractContextManager["Pinned"]):
    """Maps in the middle of an edit: two pods get another policy, of which one passes to another's place, one pod goes,
    one comes, one stays."""

    def __init__(self, state: int) -> None:
        self.maps: dict[str, dict[Record, Any]] = {spec.name: {} for spec in abi.MAPS}
        self.maps["endpoints"] = {
            abi.EndpointKey(WEB): record(6, 7, AUDIT, next_identity=300),
            abi.EndpointKey(DB): record(6, 7, PASSING | NEXT_AUDIT),
            abi.EndpointKey(GOING): record(6, editions.NO_SET),
            abi.EndpointKey(COMING): record(0, 7),
            abi.EndpointKey(STAYS): record(6),
            abi.EndpointKey(numbers.FIRST_ENDPOINT): record(numbers.FIRST_ENDPOINT),
        }
        self.maps["ipcache"] = {
            abi.IpcacheKey(128, pack_addr("10.0.0.1")): abi.IpcacheValue(251, 300),
            abi.IpcacheKey(128, pack_addr("10.0.0.2")): abi.IpcacheValue(252),
        }
        self.maps["policy"] = {
            abi.PolicyKey(number, 0, 0, 0, direction, 0): abi.PolicyValue.blank(present=1, verdict=verdict)
            for number, verdict in ((6, ALLOW), (7, DENY))
            for direction in (0, 1)
        }
        self.state = state

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __getitem__(self, name: str) -> Any:
        held = self.maps[name]
        only = abi.Edition(self.state) if name == "edition" else abi.Config.blank(generation=1)
        return SimpleNamespace(
            items=held.items, count=held.__len__, get_at=lambda _: only, cpus_at=lambda _: [abi.Counter(0)],
            raw_items=lambda: [(key.pack(), value.pack()) for key, value in held.items()],
        )  # fmt: skip

    def counter(self, _: abi.Metric) -> int:
        return 0

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "names", lambda _: NAMES)


def run(monkeypatch: pytest.MonkeyPatch, state: int, command: click.Command, *words: str) -> str:
    monkeypatch.setattr(Place, "maps", lambda _: Pinned(state))
    answer = testing.CliRunner().invoke(command, [*words, "--pin-dir", "/nonexistent", "--run-dir", "/nonexistent"])
    assert answer.exit_code == 0, answer
    return answer.stdout


def rows(monkeypatch: pytest.MonkeyPatch, state: int, command: click.Command, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(monkeypatch, state, command, *words, "-o", "json"))
    return found


REFUSED = "everything is refused: no policy is loaded for it"


@pytest.mark.parametrize(
    ("state", "identities", "sets", "policies"),
    [
        (NOW, (250, 250, 250, 250, 250), (6, 6, 6, 0, 6), ("enforced", "enforced", "enforced", REFUSED, "enforced")),
        (BOTH, (250, 250, 250, 250, 250), (6, 6, 6, 0, 6),
         ("enforced", "enforced", f"{REFUSED} once the edit is done", REFUSED, "enforced")),
        (NEXT, (300, 250, 250, 250, 250), (7, 7, 0, 7, 6), ("enforced", "enforced", REFUSED, "enforced", "enforced")),
        (9, (250, 250, 250, 250, 250), (6, 6, 6, 0, 6), ("enforced", "enforced", "enforced", REFUSED, "enforced")),
    ],
)  # fmt: skip
def test_endpoints_are_shown_as_they_are_in_force(
    monkeypatch: pytest.MonkeyPatch,
    state: int,
    identities: tuple[int, ...],
    sets: tuple[int, ...],
    policies: tuple[str, ...],
) -> None:
    found = rows(monkeypatch, state, endpoint_command.endpoint, "list")
    assert tuple(row["identity"] for row in found) == identities
    assert tuple(row["set_id"] for row in found) == sets
    assert tuple(row["policy"] for row in found) == policies
    assert [row["id"] for row in found if row["edit"]] == ([WEB, DB, GOING, COMING] if state == BOTH else [])
    assert [row["next_set_id"] for row in found] == ([7, 7, 0, 7, 0] if state == BOTH else [0] * 5)
    assert [row["id"] for row in found if row["audit"]] == {BOTH: [WEB, DB], NEXT: [DB]}.get(state, [WEB])  # type: ignore[call-overload]
    assert {flag for row in found for flag in row["flags"]} <= {"enrolled", "has-audit"}
    assert found[WEB - 1]["ingress"] == ("default deny" if state == NEXT else "open")


def test_an_endpoint_of_which_both_policies_count_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for state, is_told in ((NOW, False), (BOTH, True), (NEXT, False)):
        said = run(monkeypatch, state, endpoint_command.endpoint, "get", "shop/db")
        assert ("; an edit is half done: both policies must allow; start the agent" in said) is is_told
        assert (", half edited  " in run(monkeypatch, state, endpoint_command.endpoint, "list")) is is_told
    assert "in set 6, the next policy is set 7 (" in run(monkeypatch, BOTH, endpoint_command.endpoint, "get", "web")
    assert endpoint_command._style("enforced + audit, half edited") == "yellow"
    assert endpoint_command._style("everything is refused, half edited") == "red"


@pytest.mark.parametrize("counts", [True, False], ids=["the kernel answers FIONREAD", "it does not"])
def test_a_pod_that_is_barred_for_what_its_programs_did_is_told_of_everywhere(
    monkeypatch: pytest.MonkeyPatch, counts: bool
) -> None:
    maps = Pinned(NOW)
    flags = int(ENROLLED | abi.EndpointFlag.ACCELERATE | abi.EndpointFlag.HAS_CGROUP | abi.EndpointFlag.UNSHAPED)
    reasons = {WEB: abi.AccelReason.PROGRAM, DB: abi.AccelReason.COUNTS, GOING: 250, STAYS: None}
    maps.maps["endpoints"] = {abi.EndpointKey(id): abi.Endpoint.blank(set_id=6, flags=flags) for id in reasons}
    maps.maps["caught"] = {abi.EndpointKey(id): abi.Caught(int(why), 1) for id, why in reasons.items() if why}
    maps.maps["config"] = {}
    monkeypatch.setattr(Place, "maps", lambda _: maps)
    monkeypatch.setattr(compiler, "fionread_counts", lambda _: counts)
    monkeypatch.setattr(btf.Btf, "of_kernel", lambda: None)
    monkeypatch.setattr(health, "acceleration", lambda *_: health.Acceleration(True, ""))
    spliced = "a program of its pod spliced with redirected bytes waiting before, and was reset"
    asked = "the program asks FIONREAD, which on this kernel does not see redirected bytes"
    wanted = {
        "shop/web": f"barred (program): {spliced}",
        "shop/db": "on" if counts else f"barred (counts): {asked}",
        "shop/going": "barred (250): for what one of its programs did",
        "shop/stays": "on",
        "shop/coming": "not in force",
    }
    assert {row.name: row.acceleration for row in gather(NOWHERE).endpoints} == wanted
    at = ["--pin-dir", "/nonexistent", "--run-dir", "/nonexistent"]
    dumped = dict(everything.content(maps, NAMES, {}, 0, 100))["endpoints"]["rows"]  # type: ignore[arg-type]
    assert {row.name: row.acceleration for row in dumped} == wanted
    for words in (["status"], ["bpf", "endpoint", "list"]):
        lines = testing.CliRunner().invoke(cli, [*words, *at]).stdout.splitlines()
        for name, why in wanted.items():
            (line,) = (each for each in lines if f"  {name} " in each and each.lstrip()[0].isdigit())
            assert line.endswith(f"  {why.partition(': ')[0]}")
    assert (
        f"short cut        {wanted['shop/web']}\n"
        in testing.CliRunner().invoke(cli, ["bpf", "endpoint", "get", "web", *at]).stdout
    )


def test_a_pod_that_is_not_in_force_is_told_of_in_a_word_and_without_what_it_does_not_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {9: EndpointName(9, "shop", "late", 251, interface="vh-late"), WEB: NAMES.endpoints[WEB]}
    monkeypatch.setattr(Place, "names", lambda _: Names("n1", known))
    (line,) = (each for each in run(monkeypatch, NOW, endpoint_command.endpoint, "list").splitlines() if "late" in each)
    assert "  not in force  " in line and line.endswith("  not in force")
    said = run(monkeypatch, NOW, endpoint_command.endpoint, "get", "late").splitlines()
    facts = {each[:15].rstrip(): each[15:].strip() for each in said}
    assert "ingress" not in facts and "egress" not in facts
    assert (facts["interface"], facts["namespace file"]) == ("vh-late", "-")
    assert facts["policy"].startswith("not in force: its namespace or interface was not found")
    facts = {each[:15].rstrip(): each[15:].strip() for each in run(
        monkeypatch, NOW, endpoint_command.endpoint, "get", "web").splitlines()}  # fmt: skip
    assert (facts["ingress"], facts["interface"]) == ("open", "- (index 4)")


@pytest.mark.parametrize(("state", "identity"), [(NOW, 251), (BOTH, 251), (NEXT, 300)])
def test_an_address_has_the_identity_in_force(monkeypatch: pytest.MonkeyPatch, state: int, identity: int) -> None:
    found = rows(monkeypatch, state, ipcache_command.ipcache, "list")
    assert [(row["prefix"], row["identity"]) for row in found] == [("10.0.0.1/32", identity), ("10.0.0.2/32", 252)]


OLD, NEW = ["shop/db", "shop/going", "shop/stays", "shop/web"], ["shop/coming", "shop/db", "shop/web"]


@pytest.mark.parametrize(
    ("state", "old", "new", "sets"),
    [(NOW, OLD, [], [6]), (BOTH, OLD, NEW, [6, 7]), (NEXT, ["shop/stays"], NEW, [7])],
)
def test_policy_sets_have_the_endpoints_that_they_count_for(
    monkeypatch: pytest.MonkeyPatch, state: int, old: list[str], new: list[str], sets: list[int]
) -> None:
    found = rows(monkeypatch, state, policy_command.policy, "list")
    assert {row["set_id"]: row["endpoints"] for row in found} == {6: old, 7: new}
    found = rows(monkeypatch, state, policy_command.policy, "get", "web")
    assert sorted({row["set_id"] for row in found}) == sets
    said = run(monkeypatch, state, policy_command.policy, "get", "web").splitlines()
    identity, edit = (300 if state == NEXT else 250), (f"; {inforce.HALF}" if state == BOTH else "")
    audit = "" if state == NEXT else " + audit"
    known = f"endpoint 1, identity {identity}, set {' and '.join(map(str, sets))}"
    assert said[0] == f"shop/web ({known}): enforced{audit}{edit}"
    assert said[1].startswith("SET ") is (state == BOTH)


@pytest.mark.parametrize(("state", "shown"), [(NOW, []), (BOTH, ["both"]), (NEXT, ["next"])])
def test_the_switches_tell_of_an_edition_that_is_not_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, state: int, shown: list[str]
) -> None:
    found = rows(monkeypatch, state, config_command.config, "list")
    assert [row["word"] for row in found if row["name"] == "edition"] == shown
    assert ("edition" in run(monkeypatch, state, config_command.config, "list")) is bool(shown)


@pytest.mark.parametrize(
    ("state", "line", "problem"),
    [
        (NOW, "", False),
        (BOTH, "both: an edit is half done: what it changes must be allowed as it was and as it will be", True),
        (NEXT, "next: an edit is in force, and what was before it is yet to be cleared away", False),
    ],
)
def test_the_state_of_the_node_tells_of_an_edit_that_nobody_ends(
    monkeypatch: pytest.MonkeyPatch, state: abi.EditionState, line: str, problem: bool
) -> None:
    monkeypatch.setattr(Place, "maps", lambda _: Pinned(state))
    found = testing.CliRunner().invoke(cli, ["status", "--pin-dir", "/nonexistent", "--run-dir", "/nonexistent"])
    lines = [text.split(None, 1)[1] for text in found.stdout.splitlines() if text.startswith("edition")]
    assert lines == ([line] if line else [])
    whole = gather(NOWHERE)
    assert (whole.edition, whole.edition_word) == (state.name.lower(), line.partition(": ")[2])
    told = [text for text in whole.problems if "an edit is half done: what" in text]
    assert bool(told) is problem and all(text.endswith("; start the agent") for text in told)
    for alive in (health.State.ALIVE, health.State.STARTING):
        assert health.problems(health.Agent(alive, {}), [], [], True, state) == ()


@pytest.mark.parametrize(
    ("known", "generation", "revision", "word"),
    [
        (NAMES, 1, 0, "0"),
        (Names("n1", revision=7), 1, 7, "7"),
        (Names(), 1, None, "unknown"),
        (Names(), 0, 0, "0"),
    ],
)
def test_a_revision_that_nobody_here_knows_is_unknown(
    monkeypatch: pytest.MonkeyPatch, known: Names, generation: int, revision: int | None, word: str
) -> None:
    class Begun(Pinned):
        def __getitem__(self, name: str) -> Any:
            config = SimpleNamespace(get_at=lambda _: abi.Config.blank(generation=generation))
            return config if name == "config" else super().__getitem__(name)

    monkeypatch.setattr(Place, "names", lambda _: known)
    monkeypatch.setattr(Place, "maps", lambda _: Begun(NOW))
    at = ["status", "--pin-dir", "/nonexistent", "--run-dir", "/nonexistent"]
    assert json.loads(testing.CliRunner().invoke(cli, [*at, "-o", "json"]).stdout)["policy_revision"] == revision
    assert f"revision {word} in the kernel, " in testing.CliRunner().invoke(cli, at).stdout
    assert f", revision {word}, " in testing.CliRunner().invoke(cli, [*at, "--brief"]).stdout


@pytest.mark.parametrize("state", [NOW, BOTH, NEXT])
def test_a_dump_has_the_edition_and_the_records_as_they_lie(
    monkeypatch: pytest.MonkeyPatch, state: abi.EditionState
) -> None:
    maps = Pinned(state)
    monkeypatch.setattr(Place, "maps", lambda _: maps)
    found = report(NOWHERE, 100)["maps"]
    assert found["edition"]["rows"] == [{"state": int(state), "word": state.name.lower()}]
    for name in editions.MAPS:
        raw = [everything.plain(key) | everything.plain(value) for key, value in maps.maps[name].items()]
        assert found[f"{name}_raw"] == {"rows": raw, "cut": False}
    assert [row["set_id"] for row in found["endpoints"]["rows"][:3]] == ([7, 7, 0] if state == NEXT else [6, 6, 6])
    assert [row["identity"] for row in found["ipcache"]["rows"]] == [300 if state == NEXT else 251, 252]
    assert {row["set_id"]: row["endpoints"] for row in found["policy"]["rows"]}[7] == ([] if state == NOW else NEW)
    assert report(NOWHERE, 1)["maps"]["ipcache_raw"]["cut"]
