"""What the agent finds out about workloads, and says of what they name."""

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from control import compile as compiler
from control import model, names
from control.agent import host as on_host
from control.agent import workloads
from loader import abi, links, mounts, netns, queues
from loader.errors import AttachFailed


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return what asks for the problem of one cgroup; cgroup v2 is at "unified", beside v1 as on many systems."""
    root = tmp_path / "unified"
    (root / "pod").mkdir(parents=True)
    (tmp_path / "cpu").mkdir()
    monkeypatch.setattr(mounts, "cgroup2", lambda: root)
    monkeypatch.setattr(mounts, "is_cgroup2", lambda path: Path(path).is_dir() and Path(path).is_relative_to(root))
    monkeypatch.setattr(links, "host_ends", dict)
    monkeypatch.setattr(queues, "roots", dict)
    monkeypatch.setattr(queues, "filtered", frozenset)
    pod = netns.PodFacts(1, 2, 3)
    monkeypatch.setattr(netns, "facts", lambda where, interface: pod)

    def ask(cgroup: str) -> tuple[model.Problem, ...]:
        made = model.Workload("shop", "web", netns="web", interface="v-web", cgroup=cgroup, source="shop.yaml:3")
        return tuple(workloads.Workloads(cast(Any, None), names.Names()).survey([made]).problems)

    return ask


def test_a_wrong_cgroup_is_told_by_its_field_with_where_cgroup_v2_is(told: Any, tmp_path: Path) -> None:
    root = tmp_path / "unified"
    assert told(str(root / "pod")) == () and told("") == ()
    after = " (its packets are under policy, but it gets no short cut and no error at connect)"
    for cgroup, words in {
        tmp_path / "cpu": f"spec.cgroup: {tmp_path}/cpu is no directory of cgroup v2: cgroup v2 is mounted at {root}",
        root / "gone": f"spec.cgroup: {root}/gone: No such file or directory: is the workload still there? cgroup v2 "
        f"is mounted at {root}",
        tmp_path / "pod": f"spec.cgroup: {tmp_path}/pod: No such file or directory: is the workload still there? "
        f"cgroup v2 is mounted at {root}: did you mean {root}/pod?",
    }.items():
        (problem,) = told(str(cgroup))
        assert problem.message == words + after and (problem.file, problem.line) == ("shop.yaml", 3)


def test_where_cgroup_v2_is_not_mounted_the_problem_says_how(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "cgroup2", lambda: None)
    (problem,) = told("/nonexistent")
    assert "cgroup v2 is mounted nowhere that the agent sees (mount -t cgroup2 none " in problem.message


def test_a_cgroup_that_refused_is_asked_again_after_a_while(host: "Host", monkeypatch: pytest.MonkeyPatch) -> None:
    """Once in half a minute, and hooks are only spoken of when there is room for them."""
    now, asked, answer = [100.0], [], "full"

    def refusal(path: str) -> str:
        asked.append(path)
        return answer

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    host.looks = workloads.Workloads(cast(Any, SimpleNamespace(refusal=refusal)), names.Names())
    a = pod("a", cgroup=host.cgroup("a"))
    assert host.survey(a).facts["shop", "a"].has_cgroup
    host.looks.refuse({(a.cgroup, os.stat(a.cgroup).st_ino): "full"})
    for seconds, times in ((0, 0), (29, 0), (30, 1), (59, 1), (60, 2)):
        now[0] = 100.0 + seconds
        (problem,) = host.survey(a).problems
        assert problem.message.startswith("spec.cgroup: full (") and len(asked) == times
    answer = ""
    now[0] += 29
    assert host.survey(a).problems
    now[0] += 1
    assert not host.survey(a).problems and host.survey(a).facts["shop", "a"].has_cgroup
    assert len(asked) == 3


class Host:
    """Pods by network namespace and interface; cgroup v2 is a directory of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.held: dict[str, int] = {}  # cookies in the maps that are not the namespaces'
        self.root, self.indices = root, {"v-a": 2, "v-b": 3, "v-c": 4}
        self.filtered: set[int] = set()  # the interfaces that have filters of ours
        self.spaces = {"a": 11, "b": 12, "c": 13, "/elsewhere/a": 11}
        monkeypatch.setattr(mounts, "cgroup2", lambda: root)
        monkeypatch.setattr(mounts, "is_cgroup2", lambda path: Path(path).resolve().is_relative_to(root))
        monkeypatch.setattr(links, "host_ends", dict)
        monkeypatch.setattr(queues, "roots", dict)
        monkeypatch.setattr(queues, "filtered", frozenset)
        monkeypatch.setattr(netns, "facts", self.facts)
        monkeypatch.setattr(on_host, "index", lambda interface: self.indices.get(interface, 0))
        monkeypatch.setattr(
            on_host, "name", lambda ifindex: {i: name for name, i in self.indices.items()}.get(ifindex, "")
        )
        monkeypatch.setattr(on_host, "inode", self.inode)
        monkeypatch.setattr(on_host, "file", lambda path: (self.inode(path), 0))
        self.looks = workloads.Workloads(cast(Any, None), names.Names())

    def restart(self, *ids: str, unheld: str = "") -> None:
        """Start another agent, over maps where each of these has its place in the list, from 1, as its id.

        One can have a name and not be in the maps.
        """
        known = {
            id: names.EndpointName(id, "shop", name, 256, netns=name, interface=f"v-{name}")
            for id, name in enumerate(ids, 1)
        }
        held = {
            abi.EndpointKey(id): abi.Endpoint.blank(
                netns_cookie=self.held.get(name.name, self.spaces.get(name.name, 0)),
                ifindex=self.indices.get(name.interface, 0),
                nsid=7,
            )
            for id, name in known.items()
            if name.name != unheld
        }
        loaded = SimpleNamespace(maps=SimpleNamespace(endpoints=held), is_ours=self.filtered.__contains__)
        self.looks = workloads.Workloads(cast(Any, loaded), names.Names(endpoints=known))

    def facts(self, where: str, interface: str) -> netns.PodFacts:
        if "\0" in where:
            raise ValueError("embedded null byte")
        if where not in self.spaces:
            raise AttachFailed(f"network namespace {where}: Invalid argument: is the pod still there?")
        interface.encode()
        if interface not in self.indices and interface.isascii():
            raise AttachFailed(f"interface {interface}: not in the agent's network namespace: is the pod still there?")
        return netns.PodFacts(self.spaces[where], self.indices[interface], 7)

    def inode(self, path: Path | str) -> int:
        there = Path(path)
        return os.stat(there).st_ino if there.is_relative_to(self.root) else self.spaces.get(there.name, 1)

    def cgroup(self, name: str) -> str:
        (self.root / name).mkdir(parents=True, exist_ok=True)
        return str(self.root / name)

    def survey(self, *given: model.Workload) -> workloads.Survey:
        return self.looks.survey(given)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path / "cgroup2")


def pod(name: str, where: str = "", interface: str = "", cgroup: str = "") -> model.Workload:
    return model.Workload(
        "shop", name, netns=where or name, interface=interface or f"v-{name}", cgroup=cgroup, source=f"{name}.yaml:1"
    )


@pytest.mark.parametrize("wrong", [{"where": "x\0"}, {"interface": "x\ud800"}, {"cgroup": "/\ud800"}])
def test_one_that_nobody_can_look_up_stops_no_other(host: Host, wrong: dict[str, str]) -> None:
    found = host.survey(pod("a", **wrong), pod("b"))
    assert ("shop", "b") in found.facts
    (problem,) = found.problems
    assert (problem.file, problem.path) == ("a.yaml", "Workload shop/a")
    assert host.survey(pod("a"), pod("b")).problems == []
    assert (("shop", "a") in found.facts) == ("cgroup" in wrong)


def test_what_the_host_has_of_a_pod_is_looked_at_each_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for end in (links.HostEnd(True, 2), links.HostEnd(False, 9), links.HostEnd(False, 0)):
        monkeypatch.setattr(links, "host_ends", lambda end=end: {2: end})
        facts = host.survey(pod("a")).facts["shop", "a"]
        assert (facts.direct, facts.inlet) == (end.is_plain, end.inlet)


def test_a_network_namespace_of_two_has_its_sockets_from_who_was_there(host: Host) -> None:
    assert host.survey(pod("b")).problems == []
    second = pod("a", "/elsewhere/b", "v-a", host.cgroup("a"))
    host.spaces["/elsewhere/b"] = host.spaces["b"]
    found = host.survey(second, pod("b"))
    assert [str(problem) for problem in found.problems] == [
        "a.yaml:1: Workload shop/a: spec.netns: /elsewhere/b is that of Workload shop/b, too, for which its calls "
        "count (its packets are under policy, but it gets no short cut and no error at connect)"
    ]
    a, b = found.facts["shop", "a"], found.facts["shop", "b"]
    assert (a.netns_cookie, a.ifindex, a.has_cgroup) == (0, 2, False)
    assert (b.netns_cookie, b.ifindex) == (12, 3)
    assert host.survey(second, pod("b")) == found  # nothing of it is a change each second
    assert host.survey(second).facts["shop", "a"].netns_cookie == 12
    assert host.survey(second).problems == []


def test_an_interface_of_two_is_under_the_policy_of_one(host: Host) -> None:
    host.survey(pod("b"))
    found = host.survey(pod("a", interface="v-b"), pod("b"))
    assert set(found.facts) == {("shop", "b")}
    assert [problem.message for problem in found.problems] == [
        "spec.interface: v-b is that of Workload shop/b, whose policy is in force"
    ]


@pytest.mark.parametrize("has_filters", [False, True])
def test_a_renamed_interface_is_the_pods_while_it_has_filters_of_ours(host: Host, has_filters: bool) -> None:
    """Without any it may be another's, with the number of one that is gone."""
    host.filtered = {3} if has_filters else set()
    host.restart("a", "b")
    host.survey(pod("a"), pod("b"))
    host.indices["new"] = host.indices.pop("v-b")
    found = host.survey(pod("a"), pod("b"))
    assert (("shop", "b") in found.facts) == has_filters
    if has_filters:
        assert found.facts["shop", "b"].ifindex == 3 and found.workloads["shop", "b"].interface == "new"
        assert host.survey(pod("a"), pod("b")) == found  # nothing of it is a change each second
    (problem,) = found.problems
    assert problem.message.endswith("the last good values stay" if has_filters else "what traffic it has passes")


@pytest.mark.parametrize(("a", "b"), [("a", "a"), ("a", "a/b"), ("a", "a/x/b"), ("a", "link"), ("a", "link/b")])
def test_no_cgroups_programs_run_twice(host: Host, a: str, b: str) -> None:
    """Where two name one, neither gets hooks; where one is inside the other's, the inner one does."""
    first = host.cgroup(a)
    (host.root / "link").symlink_to("a")
    second = host.cgroup(b)
    found = host.survey(pod("a", cgroup=first), pod("b", cgroup=second), pod("c", cgroup=host.cgroup("c")))
    same = Path(first).resolve() == Path(second).resolve()
    after = ", too (its packets are under policy, but it gets no short cut and no error at connect)"
    told = {problem.path: problem.message for problem in found.problems}
    assert told.pop("Workload shop/a") == f"spec.cgroup: {first} is, or holds, the cgroup of Workload shop/b{after}"
    assert set(told) == ({"Workload shop/b"} if same else set())
    hooked = {name for (_, name), facts in found.facts.items() if facts.has_cgroup}
    assert hooked == ({"c"} if same else {"b", "c"})
    assert all(facts.ifindex and facts.netns_cookie for facts in found.facts.values())


def test_a_name_with_a_zero_byte_is_of_nothing_that_is_there(told: Any) -> None:
    facts: Any = SimpleNamespace(ifindex=2)
    assert not workloads.Found("/run/netns/web", "vh-x\0y", (1, 2), facts).has_interface()
    assert not workloads.Found("/run/netns/w\0eb", "lo", (1, 2), facts).is_unchanged()
    (problem,) = told("/sys/fs/cgroup/a\0b")
    assert problem.message.startswith("spec.cgroup: /sys/fs/cgroup/a\0b: embedded null byte")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_namespace_that_cannot_be_entered_takes_no_hooks_off_a_pod(host: Host, restarted: bool) -> None:
    before = host.survey(pod("a"), pod("b")).facts
    if restarted:
        host.restart("a", "b")
    del host.spaces["a"]  # unmounted: an ordinary file is where it was
    assert restarted or not host.looks.all_there()
    for _ in range(2):
        found = host.survey(pod("a"), pod("b"))
        (problem,) = found.problems
        assert problem.path == "Workload shop/a" and "Invalid argument" in problem.message
        assert (found.facts, found.workloads["shop", "a"].interface) == (before, "v-a")
        a = found.facts["shop", "a"]
        assert (a.netns_cookie, a.ifindex, a.nsid) == (11, 2, 7)
    host.indices["v-a"] = 9  # another pod's now
    assert set(host.survey(pod("a"), pod("b")).facts) == {("shop", "b")}


def test_who_holds_what_two_share_is_the_same_after_a_restart(host: Host) -> None:
    """Not whose name is first."""
    assert host.survey(pod("b")).problems == []
    both = pod("a", interface="v-b"), pod("b")
    before = host.survey(*both)
    host.restart("a", "b", unheld="a")
    assert host.survey(*both) == before and set(before.facts) == {("shop", "b")}

    host.spaces["/elsewhere/b"] = host.spaces["b"]
    both = pod("a", "/elsewhere/b"), pod("b")
    before = host.survey(*both)
    host.held["a"] = 0
    host.restart("a", "b")
    assert host.survey(*both) == before and before.facts["shop", "a"].netns_cookie == 0
    third = pod("0", "c", "v-a")  # the interface of one whose calls are another's
    assert set(host.survey(third, *both).facts) == set(before.facts)


def test_one_that_was_adopted_without_sockets_has_none_when_its_namespace_is_gone(host: Host) -> None:
    host.held.update(a=0, b=0)
    host.restart("a", "b")
    del host.spaces["a"], host.spaces["b"]
    found = host.survey(pod("a"), pod("b"))
    assert [(facts.netns_cookie, facts.ifindex) for facts in found.facts.values()] == [(0, 2), (0, 3)]
    assert all("is that of" not in problem.message for problem in found.problems)


def test_a_cgroup_that_is_made_again_is_another(host: Host) -> None:
    a = pod("a", cgroup=host.cgroup("a"))
    before = host.survey(a)
    assert host.looks.all_there() and host.survey(a) == before
    kept = Path(a.cgroup).rename(host.root / "kept")  # so that its inode is not given out again
    host.cgroup("a")
    assert not host.looks.all_there() and host.survey(a) != before
    assert host.looks.all_there() and kept.is_dir()


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"is_host": True}, "spec.netns: "),
        ({"is_loopback": True}, "spec.interface: "),
        ({"leads_there": False}, "spec.interface: "),
    ],
)
@pytest.mark.parametrize("was", ["new", "here", "adopted"])
def test_what_is_not_the_pods_is_refused_and_takes_no_hooks_off_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, bool], field: str, was: str
) -> None:
    if was == "here":
        host.survey(pod("a"))
    elif was == "adopted":
        host.restart("a")
    monkeypatch.setattr(netns, "facts", lambda where, interface: netns.PodFacts(11, 9, 7, **cast(Any, wrong)))
    found = host.survey(pod("a", interface="v-b"))
    (problem,) = found.problems
    assert problem.file == "a.yaml" and problem.message.startswith(field) and " (allowed: " in problem.message
    assert problem.message.endswith(
        "; the workload is NOT under policy, and what traffic it has passes"
        if was == "new"
        else "until it is mended, the last good values stay"
    )
    assert [facts.ifindex for facts in found.facts.values()] == ([] if was == "new" else [2])


def test_that_one_without_hooks_is_open_is_told(host: Host) -> None:
    first, *_ = host.survey(pod("gone")).problems
    assert first.message == (
        "network namespace gone: Invalid argument: is the pod still there?; the workload is NOT under policy, and what "
        "traffic it has passes"
    )


@pytest.mark.parametrize("restarted", [False, True])
def test_one_that_is_edited_to_anothers_interface_keeps_its_own(host: Host, restarted: bool) -> None:
    before = host.survey(pod("a"), pod("b")).facts
    if restarted:
        host.restart("a", "b")
    for _ in range(2):
        found = host.survey(pod("a", interface="v-b"), pod("b"))
        assert (found.facts, found.workloads["shop", "a"].interface) == (before, "v-a")
        assert [problem.message for problem in found.problems] == [
            "spec.interface: v-b is that of Workload shop/b, whose policy is in force; "
            "until it is mended, the last good values stay"
        ]
    assert set(host.survey(pod("a", interface="v-b"), pod("b"), pod("c", interface="v-a")).workloads) == {
        ("shop", "b"),
        ("shop", "c"),
    }


@pytest.mark.parametrize(("cookie", "same"), [(1, True), (2, False), (None, False)])
def test_a_namespace_whose_inode_was_given_out_again_is_told_by_its_cookie(
    cookie: int | None, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file of a namespace under /proc changes by itself, so what a stat says of it is no proof."""
    entered = []

    def inside(where: str, function: object) -> int:
        entered.append(where)
        if cookie is None:
            raise OSError
        return cookie

    file = [(5, 100)]
    monkeypatch.setattr(netns, "inside", inside)
    monkeypatch.setattr(on_host, "file", lambda path: file[0])
    found = workloads.Found("web", "lo", (5, 100), compiler.EndpointFacts(netns_cookie=1, ifindex=1))
    assert found.is_unchanged() and not entered
    file[0] = (5, 200)
    assert found.is_unchanged() == same and entered == ["web"]
    file[0] = (6, 200)
    assert not found.is_unchanged() and entered == ["web"]


def test_all_that_is_wrong_with_one_is_told_at_once(host: Host) -> None:
    wrong = pod("a", "gone", interface="v-gone", cgroup="/nonexistent")
    messages = [problem.message for problem in host.survey(wrong).problems]
    assert [words.split(" ")[0] for words in messages] == ["network", "interface", "spec.cgroup:"]
    assert messages[1] == "interface v-gone: not in the agent's network namespace"
    # One that stays as it was is told of the same.
    right = pod("a", cgroup=host.cgroup("a"))
    assert not host.survey(right).problems
    messages = [problem.message for problem in host.survey(wrong).problems]
    assert sorted(words.split(" ")[0] for words in messages) == ["interface", "network", "spec.cgroup:"]
    # What is right is not spoken of.
    (only,) = host.survey(pod("b", "gone", cgroup=host.cgroup("b"))).problems
    assert only.message.startswith("network namespace gone")
