"""What is kept of the configuration over a restart, and what a file that is broken then gives."""

import errno
import os
import pickle
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control import model
from control.agent import lastgood, state
from control.source import content, directory
from tests.unit.control.test_directory import NAMESPACE, POLICY, WORKLOAD, write


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "config").mkdir()
    return tmp_path / "config"


def start(config: Path) -> model.LoadResult:
    """Do what an agent does at its start; what is in force is kept for the next."""
    kept = lastgood.LastGood(config.parent)
    result = directory.load(config, kept.recall())
    kept.keep(result.snapshot)
    return result


@pytest.mark.parametrize("broken", ["]", POLICY.format("p", "nonsense: 1"), WORKLOAD.format("p", "1")])
def test_a_file_that_is_broken_at_a_restart_changes_nothing(config: Path, broken: str) -> None:
    write(config, a=WORKLOAD.format("web", "10.0.0.1"), b=POLICY.format("p", ""))
    first = start(config)
    write(config, a=broken, b=broken)
    for _ in range(3):
        again = start(config)
        assert again.snapshot.workloads == first.snapshot.workloads
        assert again.snapshot.policies == first.snapshot.policies
        assert {problem.effect for problem in again.problems} == {directory.STAYS}
    write(config, a=WORKLOAD.format("web", "10.0.0.2"), b=NAMESPACE.format("n"))
    mended = start(config)
    assert ([w.ips for w in mended.snapshot.workloads], mended.snapshot.policies) == ([("10.0.0.2",)], ())
    assert mended.problems == ()


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


TEXTS = (
    None,
    "",
    "]",
    POLICY.format("p", "nonsense: 1"),
    POLICY.format("p", "fromEntities: [all]"),
    POLICY.format("q", "") + "---\n" + POLICY.format("p", ""),
    WORKLOAD.format("web", "10.0.0.1") + "---\n" + POLICY.format("p", ""),
    WORKLOAD.format("web", "10.0.0.2"),
    WORKLOAD.format("db", "10.0.0.1") + "---\n" + WORKLOAD.format("x", "1"),
)
edits = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(TEXTS)), max_size=8)


@given(edits)
@settings(deadline=None, max_examples=200)
def test_a_restart_equals_no_restart(history: list[tuple[str, str | None]]) -> None:
    """Whatever has happened to the files: broken, mended, gone, or at odds over a name."""
    with tempfile.TemporaryDirectory() as scratch:
        config = Path(scratch) / "config"
        config.mkdir()
        going_on = directory.load(config, None)
        start(config)
        for name, text in history:
            (config / f"{name}.yaml").unlink(missing_ok=True)
            if text is not None:
                write(config, **{name: text})
            going_on = directory.load(config, going_on.snapshot)
            assert start(config) == going_on


def test_nothing_but_a_configuration_comes_out_of_a_record(config: Path) -> None:
    start(config)
    path = config.parent / lastgood.NAME
    assert path.stat().st_mode & 0o777 == 0o600
    good = path.read_bytes()
    form = good[:32]
    for bad in (
        b"",
        good[:-1],
        b"x" + good,
        form + pickle.dumps(os.system),
        form + b"\x80\x04\x8c\x0dcontrol.model\x8c\x0fdataclasses.sys\x93.",
        form + pickle.dumps(model.Prefix(4, 0, 0)),
    ):
        path.write_bytes(bad)
        assert lastgood.LastGood(config.parent).recall() is None
    path.write_bytes(good)
    assert lastgood.LastGood(config.parent).recall() == model.Snapshot()


def test_a_record_that_cannot_be_written_is_none(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(config, a=WORKLOAD.format("web", "10.0.0.1"))
    start(config)

    def full(path: Path, raw: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(state, "write", full)
    start(config)  # nothing new is to be written
    write(config, a=WORKLOAD.format("web", "10.0.0.2"))
    with pytest.raises(OSError, match="No space"):
        start(config)
    assert lastgood.LastGood(config.parent).recall() is None


def test_nothing_before_is_no_empty_configuration(config: Path) -> None:
    assert lastgood.LastGood(config.parent).recall() is None
    start(config)
    write(config, a="]")
    assert start(config).snapshot.files == {}
