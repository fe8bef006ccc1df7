"""What the agent says of the cgroup that a Workload names."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from control import model, names
from control.agent import workloads
from loader import mounts, netns


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return what asks for the problem of one cgroup; cgroup v2 is at "unified", beside v1 as on many systems."""
    root = tmp_path / "unified"
    (root / "pod").mkdir(parents=True)
    (tmp_path / "cpu").mkdir()
    monkeypatch.setattr(mounts, "cgroup2", lambda: root)
    monkeypatch.setattr(mounts, "is_cgroup2", lambda path: Path(path).is_dir() and Path(path).is_relative_to(root))
    monkeypatch.setattr(netns, "plain_veths", set)
    pod = SimpleNamespace(netns_cookie=1, ifindex=2, nsid=3)
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
        assert problem.message == words + after and problem.file == "shop.yaml"


def test_where_cgroup_v2_is_not_mounted_the_problem_says_how(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "cgroup2", lambda: None)
    (problem,) = told("/nonexistent")
    assert "cgroup v2 is mounted nowhere that the agent sees (mount -t cgroup2 none " in problem.message


def test_a_name_with_a_zero_byte_is_of_nothing_that_is_there(told: Any) -> None:
    facts: Any = SimpleNamespace(ifindex=2)
    assert not workloads.Found("/run/netns/web", "vh-x\0y", 0, facts).still_there()
    assert not workloads.Found("/run/netns/w\0eb", "lo", 0, facts).still_there()
    (problem,) = told("/sys/fs/cgroup/a\0b")
    assert problem.message.startswith("spec.cgroup: /sys/fs/cgroup/a\0b: embedded null byte")
