"""A start without a record of what was in force: what it goes by, and what it leaves as it is."""

import dataclasses
import errno
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from control import compile as compiler
from control import model, names
from control.agent import apply, closed, enforce, hooks, host, lastgood, numbering, options, reconcile, state, workloads
from control.policy import field
from control.source import directory, objects
from loader import abi, queues
from loader.errors import AttachFailed, MapFull
from tests.unit.control.test_directory import NAMESPACE, POLICY, WORKLOAD, write


class Started:
    """An agent's reconciler over maps that hold `endpoints` endpoints; `applied` is what it would put in force."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scratch: Path, endpoints: int) -> None:
        self.config = scratch / "config"
        self.config.mkdir()
        held: dict[str, dict[Any, Any]] = {name: {} for name in compiler.MAP_NAMES}
        held["endpoints"] = {
            abi.EndpointKey(id + 1): abi.Endpoint.blank(identity=256, ifindex=5, nsid=compiler.UNKNOWN_NSID)
            for id in range(endpoints)
        }
        monkeypatch.setattr(apply, "current", lambda maps: held)
        monkeypatch.setattr(numbering, "remembered", lambda maps: ())
        monkeypatch.setattr(host, "name", lambda ifindex: f"v-{ifindex}")
        self.opts = options.Options(config_dir=self.config, run_dir=scratch, node_ips=("10.0.0.254",))
        self.applied: list[model.Snapshot] = []
        self.read: list[str] = []
        self.start_again(monkeypatch)
        real = objects.read_documents

        def spy(nodes: list[field.Node], report: field.Report) -> list[objects.Parsed]:
            self.read.append(report.file)
            return real(nodes, report)

        monkeypatch.setattr(objects, "read_documents", spy)

    def start_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded: Any = SimpleNamespace(
            maps=None,
            without_filters=lambda indexes: [],
            without_links=lambda places: [],
            put_back_shared=lambda: ([], ""),
            is_ours=lambda index: False,
        )
        self.reconciler = reconcile.Reconciler(self.opts, "n", loaded, cast(Any, None), names.Names())
        self.really_apply = self.reconciler._apply

        def put(snapshot: model.Snapshot, survey: object, force: bool) -> tuple[list[model.Problem], bool]:
            self.applied.append(snapshot)
            self.reconciler.snapshot = snapshot
            return [], False

        monkeypatch.setattr(self.reconciler, "_apply", put)

    def apply_really(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Return what is done, step by step, by a round that changes the maps if there is another configuration."""
        steps: list[str] = []
        in_force: list[object] = []

        def put(maps: object, have: object, want: compiler.Desired, *hooks: object) -> bool:
            steps.append("apply")
            changed = in_force != [want]
            in_force[:] = [want]
            return changed

        def step(name: str, result: Any = None) -> Any:
            def taken(*_: object) -> Any:
                steps.append(name)
                return result

            return taken

        monkeypatch.setattr(self.reconciler, "_apply", self.really_apply)
        monkeypatch.setattr(apply, "apply", put)
        monkeypatch.setattr(apply, "forgive", step("forgive", {}))
        monkeypatch.setattr(apply, "bump", step("bump"))
        monkeypatch.setattr(self.reconciler._hooks, "attach", step("attach", hooks.Outcome()))
        monkeypatch.setattr(enforce, "doomed", step("enforce", []))
        book: Any = SimpleNamespace(rename=lambda known: None, went=lambda gone: None, resets=0)
        monkeypatch.setattr(self.reconciler, "_ledger", book)
        return steps

    def reconcile(self) -> set[str]:
        self.reconciler.reconcile()
        return {problem.effect for problem in self.reconciler.problems if problem.effect}


def unread(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_FILES", 1)


def gone(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    started.config.rename(started.config.with_name("stale"))


def emptied(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in started.config.iterdir():
        file.unlink()


def broken(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    write(started.config, b="]")


def at_odds(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    write(started.config, b=WORKLOAD.format("web", "10.0.0.1"))


def empty(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    write(started.config, b="# nothing\n")


@pytest.mark.parametrize("how", [unread, gone, emptied, broken, at_odds, empty])
def test_what_is_not_whole_leaves_the_kernel_what_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: Any
) -> None:
    started = Started(monkeypatch, tmp_path, endpoints=1)
    write(started.config, a=WORKLOAD.format("web", "10.0.0.1"), b=POLICY.format("p", ""))
    with monkeypatch.context() as patch:
        how(started, patch)
        for _ in range(2):
            assert started.reconcile() == {directory.ADOPTED}
            assert started.applied == []
            assert not started.reconciler.has_changed()
    if not started.config.exists():
        started.config.mkdir()
    write(started.config, a=WORKLOAD.format("web", "10.0.0.1"), b=POLICY.format("p", ""))
    assert started.reconcile() == set()
    (snapshot,) = started.applied
    assert snapshot == directory.load(started.config, None).snapshot


def test_an_empty_file_is_harmless_where_nothing_was_in_force(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = Started(monkeypatch, tmp_path, endpoints=0)
    write(started.config, a=WORKLOAD.format("web", "10.0.0.1"), b="")
    assert started.reconcile() == set()
    assert started.reconciler.problems == () and len(started.applied) == 1


@pytest.mark.parametrize("how", [unread, gone])
def test_a_first_start_that_reads_nothing_is_still_to_come(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: Any
) -> None:
    """Else a file that turns out to be broken would be one that came broken later, and would close nobody."""
    started = Started(monkeypatch, tmp_path, endpoints=0)
    write(started.config, a=WORKLOAD.format("web", "10.0.0.1"), b="]")
    with monkeypatch.context() as patch:
        how(started, patch)
        assert started.reconcile() == {directory.UNREAD}
        assert started.applied == []
    stale = started.config.with_name("stale")
    if stale.exists():
        stale.rename(started.config)
    started.reconcile()
    assert [policy.name for policy in started.applied[0].policies] == ["invalid:b.yaml"]


BROKEN = POLICY.format("p", "nonsense: 1")


def test_until_a_pod_is_enrolled_it_is_the_first_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A volume may be mounted late, and a record be older than the last reboot."""
    started = Started(monkeypatch, tmp_path, endpoints=0)
    lastgood.LastGood(tmp_path).keep(directory.load(started.config, None).snapshot)
    started.start_again(monkeypatch)
    assert started.reconcile() == set()
    write(started.config, a=WORKLOAD.format("web", "10.0.0.1"), b=BROKEN)
    for _ in range(2):
        assert started.reconcile() == {directory.CLOSES}
        assert [policy.invalid for policy in started.applied[-1].policies] == [True]
    started.reconciler.have["endpoints"] = {abi.EndpointKey(1): abi.Endpoint.blank()}
    write(started.config, c=POLICY.format("q", ""))
    assert started.reconcile() == {directory.CLOSES}
    write(started.config, d=POLICY.format("r", "nonsense: 1"))
    assert started.reconcile() == {directory.CLOSES, directory.NOTHING}


@pytest.mark.parametrize("before", [BROKEN, None])
def test_a_record_without_pods_in_the_kernel_is_of_no_running_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: str | None
) -> None:
    """What was good before is put in force again; of a file that never was, nothing was ever in force."""
    started = Started(monkeypatch, tmp_path, endpoints=0)
    write(started.config, a=WORKLOAD.format("web", "10.0.0.1"), b=POLICY.format("q", ""))
    kept = directory.load(started.config, None).snapshot
    if before is not None:  # it came while a configuration was in force
        write(started.config, c=before)
        kept = directory.load(started.config, kept).snapshot
    lastgood.LastGood(tmp_path).keep(kept)
    write(started.config, b="]", c=BROKEN)
    started.start_again(monkeypatch)
    assert started.reconcile() == {directory.CLOSES, directory.STAYS}
    assert {(p.name, p.invalid) for p in started.applied[-1].policies} == {("q", False), ("p", True)}


def test_a_file_that_was_empty_before_any_pod_was_enrolled_is_a_new_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = Started(monkeypatch, tmp_path, endpoints=0)
    write(started.config, b="")
    for _ in range(2):
        assert started.reconcile() == set()
    write(started.config, a=WORKLOAD.format("web", "10.0.0.1"), b=BROKEN)
    assert started.reconcile() == {directory.CLOSES}


def test_what_is_put_in_force_from_a_record_alone_is_no_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = Started(monkeypatch, tmp_path, endpoints=0)
    write(started.config, a=WORKLOAD.format("web", "10.0.0.1"))
    lastgood.LastGood(tmp_path).keep(directory.load(started.config, None).snapshot)
    emptied(started, monkeypatch)
    started.start_again(monkeypatch)
    assert started.reconcile() == {directory.ALL_STAYS}
    started.reconciler.have["endpoints"] = {abi.EndpointKey(1): abi.Endpoint.blank()}
    assert started.reconcile() == {directory.ALL_STAYS}
    write(started.config, a=WORKLOAD.format("web", "10.0.0.1"), b=BROKEN)
    assert started.reconcile() == {directory.CLOSES}


def test_while_the_kernel_keeps_what_it_has_nothing_is_read_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = Started(monkeypatch, tmp_path, endpoints=1)
    write(started.config, a=NAMESPACE.format("a"), b=POLICY.format("p", "nonsense: 1"))
    started.reconcile()
    assert sorted(started.read) == ["a.yaml", "b.yaml"]
    first = started.reconciler.problems
    for _ in range(3):
        assert not started.reconciler.has_changed()
        started.reconcile()
    assert len(started.read) == 2 and started.reconciler.problems == first
    write(started.config, b=POLICY.format("p", ""))
    assert started.reconcile() == set()
    assert started.read[2:] == ["b.yaml"]
    assert started.applied == [directory.load(started.config, None).snapshot]


def test_open_connections_hear_of_what_is_in_force_though_hooks_failed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = Started(monkeypatch, tmp_path, endpoints=0)
    steps = started.apply_really(monkeypatch)
    write(started.config, a=NAMESPACE.format("a"), b=POLICY.format("p", ""))

    def attach(*_: object) -> None:
        raise AttachFailed("links cannot be removed")

    with monkeypatch.context() as patch:
        patch.setattr(started.reconciler._hooks, "attach", attach)
        started.reconcile()
        assert "bump" in steps and "enforce" not in steps
        assert started.reconciler.has_changed()
    steps.clear()
    started.reconcile()
    assert "bump" not in steps and steps[-1] == "enforce"
    steps.clear()
    assert not started.reconciler.has_changed()
    started.reconcile()
    assert "enforce" not in steps


def test_what_comes_into_force_is_on_record_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else a kill in between, and a file that is broken at the next start, take a new deny back."""
    started = Started(monkeypatch, tmp_path, endpoints=0)
    steps = started.apply_really(monkeypatch)
    recorded: list[model.Snapshot | None] = []
    put = apply.apply

    def spy(maps: Any, have: Any, want: Any, *more: Any) -> bool:
        recorded.append(lastgood.LastGood(tmp_path).recall())
        return put(maps, have, want, *more)

    def full(maps: Any, have: Any, want: Any, *more: Any) -> bool:
        raise MapFull("map policy")

    monkeypatch.setattr(apply, "apply", spy)
    write(started.config, a=NAMESPACE.format("a"))
    started.reconcile()
    first = directory.load(started.config, None).snapshot
    write(started.config, b=POLICY.format("p", ""))
    second = directory.load(started.config, first).snapshot
    with monkeypatch.context() as patch:
        patch.setattr(apply, "apply", full)
        patch.setattr(started.reconciler._held, "content", started.reconciler.have)
        started.reconcile()
        assert started.reconciler.snapshot == lastgood.LastGood(tmp_path).recall() == first
    with monkeypatch.context() as patch:  # what cannot be written comes into force, and leaves no record of before
        patch.setattr(state, "write", no_space)
        started.reconcile()
        (problem,) = started.reconciler.problems
        assert "No space left" in problem.message and steps[-1] == "attach"
    started.reconcile()
    assert recorded == [first, None, second]


def test_each_edit_that_is_taken_in_is_in_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also one that changes nothing in the kernel, as a policy that selects nobody: the revision stays then."""
    caplog.set_level("INFO", "sockmesh.agent")
    started = Started(monkeypatch, tmp_path, endpoints=0)
    started.apply_really(monkeypatch)

    def said(**files: str) -> list[str]:
        caplog.clear()
        write(started.config, **files)
        started.reconcile()
        return [each.getMessage() for each in caplog.records if each.levelname == "INFO"]

    stays = "taken in: nothing to change in the kernel, so revision 1 stays: 0 workloads, "
    assert said(a=NAMESPACE.format("a")) == ["revision 1 in force: 0 workloads, 0 policies"]
    assert said(b=POLICY.format("p", "")) == [stays + "1 policy"]
    assert said() == []
    assert said(c="{") == [], "it is broken, so nothing of it was taken in"
    assert said(c="# nothing\n" + POLICY.format("q", ""))[1:] == [stays + "2 policies"]
    (started.config / "b.yaml").unlink()
    assert said() == [stays + "1 policy"]
    assert started.reconciler.revision == 1


def narrow(monkeypatch: pytest.MonkeyPatch, started: Started, policy: int) -> None:
    """Give the policy map so much room, and have every workload be here."""

    def look(snapshot: model.Snapshot) -> workloads.Survey:
        here = (w for w in snapshot.workloads if w.is_local("n"))
        facts = {(w.namespace, w.name): compiler.EndpointFacts(ifindex=9 + len(w.name)) for w in here}
        return workloads.Survey(facts, {}, [])

    monkeypatch.setitem(abi.MAP_BY_NAME, "policy", dataclasses.replace(abi.MAP_BY_NAME["policy"], max_entries=policy))
    monkeypatch.setattr(started.reconciler, "_look", look)
    monkeypatch.setattr(apply, "apply", lambda maps, have, want, *_: have != want.maps)


HERE = WORKLOAD.replace("node: far", "node: n")
WIDE = POLICY.format("wide", "fromCIDR: [192.0.2.1/32, 192.0.2.3/32, 192.0.2.5/32, 192.0.2.7/32]")


def test_what_does_not_fit_closes_where_nothing_was_in_force(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also files that are broken, emptied or new meanwhile; what is in force later stays."""
    started = Started(monkeypatch, tmp_path, endpoints=0)
    started.apply_really(monkeypatch)
    narrow(monkeypatch, started, policy=6)
    put: dict[str, Any] = {"a": HERE.format("web", "10.0.0.1"), "b": WIDE, "c": POLICY.format("p", "")}
    write(started.config, **put)
    for _ in range(2):
        assert started.reconcile() == {closed.EFFECT}
        assert started.reconciler.is_closed and started.reconciler.revision == 1
    assert len(started.reconciler.have["endpoints"]) == 1 and len(started.reconciler.have["policy"]) == 3
    assert lastgood.LastGood(tmp_path).recall() == started.reconciler.snapshot
    write(started.config, d=HERE.format("late", "10.0.0.2"))
    assert started.reconcile() == {closed.EFFECT}
    assert len(started.reconciler.have["endpoints"]) == 2, "a pod that comes is closed, too"
    write(started.config, b="]", c="# nothing\n")
    broken = f"{directory.CLOSES_ALL}; {directory.UNKNOWN}"
    assert started.reconcile() == {broken, directory.CLOSES}, "what never was in force does not stay"
    assert started.reconciler.snapshot and all(policy.invalid for policy in started.reconciler.snapshot.policies)
    write(started.config, **put)
    assert started.reconcile() == {directory.ALL_STAYS}, "which closes them all, by what was broken"
    write(started.config, b=POLICY.format("wide", ""))
    assert started.reconcile() == set() and not started.reconciler.is_closed
    write(started.config, b=WIDE)
    assert started.reconcile() == {directory.ALL_STAYS}
    assert {policy.invalid for policy in started.reconciler.snapshot.policies} == {False}


@pytest.mark.parametrize("are_pinned", [False, True])
def test_what_is_closed_for_want_of_room_stays_so_over_a_restart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, are_pinned: bool
) -> None:
    """Of the agent, or of the machine where the run directory outlives it."""
    started = Started(monkeypatch, tmp_path, endpoints=0)
    started.apply_really(monkeypatch)
    narrow(monkeypatch, started, policy=6)
    write(started.config, a=HERE.format("web", "10.0.0.1"), b=WIDE)
    started.reconcile()
    if are_pinned:
        content = started.reconciler.have
        monkeypatch.setattr(apply, "current", lambda maps: content)
    started.start_again(monkeypatch)
    started.apply_really(monkeypatch)
    narrow(monkeypatch, started, policy=6)
    write(started.config, c=POLICY.format("p", "nonsense: 1"), d=HERE.format("late", "10.0.0.2"))
    assert started.reconcile() == {closed.EFFECT, directory.CLOSES}
    assert started.reconciler.is_closed and len(started.reconciler.have["endpoints"]) == 2


def test_a_record_of_before_a_reboot_does_not_stand_for_what_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = Started(monkeypatch, tmp_path, endpoints=0)
    write(started.config, a=HERE.format("web", "10.0.0.1"))
    lastgood.LastGood(tmp_path).keep(directory.load(started.config, None).snapshot)
    started.start_again(monkeypatch)
    started.apply_really(monkeypatch)
    narrow(monkeypatch, started, policy=6)
    write(started.config, b=WIDE)
    assert started.reconcile() == {closed.EFFECT}
    assert len(started.reconciler.have["endpoints"]) == 1


def test_where_not_even_that_fits_the_pods_are_told_of_as_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = Started(monkeypatch, tmp_path, endpoints=0)
    started.apply_really(monkeypatch)
    narrow(monkeypatch, started, policy=1)
    write(started.config, a=HERE.format("web", "10.0.0.1"), b=WIDE)
    assert started.reconcile() == {directory.NO_ROOM}
    assert not started.reconciler.have["endpoints"] and not started.reconciler.is_closed


def test_of_a_full_policy_map_the_policy_is_told_that_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    value = abi.PolicyValue.blank(present=1)
    entries = {abi.PolicyKey(1, peer, 0, 0, 0, 0): dataclasses.replace(value, rule_id=2 + peer % 3 // 2)
               for peer in range(30)}  # fmt: skip
    entries[abi.PolicyKey(1, 40, 0, 0, 0, 0)] = abi.PolicyValue.blank(audit_present=1, audit_rule_id=3)
    rules = {
        2: names.RuleName("CiliumNetworkPolicy", "shop", "big", "spec.ingress[0]", "big.json:7"),
        3: names.RuleName("NetworkPolicy", "shop", "web", "spec.ingress[0]", "web.yaml:2"),
    }
    maps: dict[str, dict[Any, Any]] = {name: {} for name in compiler.MAP_NAMES}
    want = compiler.Desired(maps | {"policy": entries})
    monkeypatch.setitem(abi.MAP_BY_NAME, "policy", dataclasses.replace(abi.MAP_BY_NAME["policy"], max_entries=30))
    with pytest.raises(MapFull) as full:
        apply.check_room(want, names.Names(rules=rules))
    assert str(full.value) == (
        "map policy takes 30 entries, the configuration needs 31, 64 % of them for CiliumNetworkPolicy shop/big "
        "(big.json): use fewer or wider rules, or fewer workloads on this node"
    )
    with pytest.raises(MapFull, match="the configuration needs 31: use fewer"):
        apply.check_room(want, names.Names())


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_hooks_that_were_taken_off_are_put_back_while_the_kernel_keeps_what_it_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started = Started(monkeypatch, tmp_path, endpoints=3)
    write(started.config, a="]")
    indices = {"v-web": 5, "v-other": 6}  # another pod's, where the adopted one was
    monkeypatch.setattr(host, "index", lambda interface: indices.get(interface, 0))
    monkeypatch.setattr(queues, "roots", lambda: {5: queues.Root("tbf", 1)})  # the record says so, too
    attached: list[tuple[Any, ...]] = []
    held = {key: value for key, value in started.reconciler.have["endpoints"].items()}
    mesh: Any = SimpleNamespace(
        maps=SimpleNamespace(endpoints=held),
        attach=lambda *place: attached.append(place),
        without_filters=lambda indexes: [5] if list(indexes) else [],
        without_links=lambda places: [],
        put_back_shared=lambda: ([], ""),
        is_ours=lambda index: False,
    )
    known = names.Names(
        endpoints={
            id: names.EndpointName(id, "shop", name, 256, netns=name, interface=f"v-{name}")
            for id, name in ((1, "web"), (2, "other"))
        }
    )
    started.reconciler._workloads, started.reconciler._hooks = (
        workloads.Workloads(mesh, known),
        hooks.Hooks(mesh, known),
    )
    started.reconciler._mesh, started.reconciler._known = mesh, known
    started.reconcile()
    told = [str(problem) for problem in started.reconciler.problems if problem.effect != directory.ADOPTED]
    assert [words.partition(": ")[0] for words in told] == ["Workload shop/web", "Workload shop/other", "endpoint 3"]
    assert "the last good values stay" in told[0] and "is the pod still there?" in told[1]
    assert "NOT under policy" in told[2]
    assert attached == [(1, "v-web", 5, "")] and started.reconciler.under_policy == 1
    started.reconcile()
    assert len(attached) == 1
    assert started.reconciler.has_changed()
    started.reconcile()
    assert attached == [(1, "v-web", 5, "")] * 2
