"""What is kept of the configuration over a restart, and what a file that is broken then gives."""

from pathlib import Path

import pytest

from control import model
from control.agent import lastgood
from control.source import content, directory
from tests.unit.control.test_directory import NAMESPACE, POLICY, WORKLOAD, write


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    return tmp_path / "config"


def start(config: Path) -> model.LoadResult:
    """Do what an agent does at its start; what is in force is kept for the next."""
    kept = lastgood.LastGood(config.parent / "run")
    result = directory.load(config, kept.recall())
    kept.keep(config, result.snapshot)
    return result


def copies(config: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (config.parent / "run" / lastgood.NAME).iterdir()}


@pytest.mark.parametrize("broken", ["]", POLICY.format("p", "nonsense: 1"), WORKLOAD.format("p", "1")])
def test_a_file_that_is_broken_at_a_restart_changes_nothing(config: Path, broken: str) -> None:
    write(config, a=WORKLOAD.format("web", "10.0.0.1"), b=POLICY.format("p", ""))
    first = start(config)
    write(config, a=broken, b=broken)
    for _ in range(3):
        again = start(config)
        assert (again.snapshot.workloads, again.snapshot.policies) == (
            first.snapshot.workloads,
            first.snapshot.policies,
        )
        assert {problem.effect for problem in again.problems} == {directory.STAYS}
    write(config, a=WORKLOAD.format("web", "10.0.0.2"), b=NAMESPACE.format("n"))
    mended = start(config)
    assert ([w.ips for w in mended.snapshot.workloads], mended.snapshot.policies) == ([("10.0.0.2",)], ())
    assert mended.problems == ()


def test_a_file_that_came_broken_gives_nothing_after_a_restart_either(config: Path) -> None:
    write(config, a=WORKLOAD.format("web", "10.0.0.1"))
    first = start(config)
    write(config, b="]")
    for _ in range(2):
        assert start(config).snapshot.files == first.snapshot.files
    assert set(copies(config)) == {"a.yaml"}


@pytest.mark.parametrize("text", ["]", POLICY.format("p", "nonsense: 1")])
def test_what_closed_at_the_first_start_closes_until_it_is_mended(config: Path, text: str) -> None:
    write(config, a=text, b=WORKLOAD.format("web", "10.0.0.1"))
    first = start(config)
    assert [policy.invalid for policy in first.snapshot.policies] == [True]
    assert start(config).snapshot == first.snapshot
    (config / "a.yaml").write_bytes(b"\xff" * content.MAX_FILE * 2)  # not even read any more
    assert [policy.name for policy in start(config).snapshot.policies] == ["invalid:a.yaml"]
    assert [policy.name for policy in start(config).snapshot.policies] == ["invalid:a.yaml"]
    write(config, a=POLICY.format("p", ""))
    assert [policy.invalid for policy in start(config).snapshot.policies] == [False]


def test_a_file_that_is_gone_is_gone(config: Path) -> None:
    write(config, a=WORKLOAD.format("web", "10.0.0.1"), b=NAMESPACE.format("n"))
    start(config)
    (config / "a.yaml").unlink()
    assert start(config).snapshot.workloads == ()
    write(config, a="]")
    assert start(config).snapshot.workloads == ()
    assert set(copies(config)) == {"b.yaml"}


def test_copies_are_of_what_is_in_force(config: Path) -> None:
    kept = lastgood.LastGood(config.parent / "run")
    assert kept.recall() is None
    write(config, a=NAMESPACE.format("a"))
    snapshot = directory.load(config, None).snapshot
    write(config, a=NAMESPACE.format("edited-meanwhile"))
    kept.keep(config, snapshot)
    assert copies(config) == {}
    kept.keep(config, directory.load(config, snapshot).snapshot)
    assert copies(config) == {"a.yaml": NAMESPACE.format("edited-meanwhile")}
    (path,) = (config.parent / "run" / lastgood.NAME).iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    write_time = path.stat().st_mtime_ns
    kept.keep(config, directory.load(config, None).snapshot)
    assert path.stat().st_mtime_ns == write_time


def test_a_full_disk_ends_no_agent(config: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(config, a=NAMESPACE.format("a"))
    (config.parent / "file").touch()
    lastgood.LastGood(config.parent / "file").keep(config, directory.load(config, None).snapshot)
    assert "is not kept for the next start" in caplog.text


def test_nothing_before_is_no_empty_configuration(config: Path) -> None:
    start(config)
    write(config, a="]")
    assert start(config).snapshot.files == {}
