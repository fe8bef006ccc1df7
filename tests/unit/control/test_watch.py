"""An edit is heard of, whatever became of the directory in which it was first looked for."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import watchfiles

from control.agent import watch
from control.source import listing

WITHIN_S = 1.0


class Watched:
    """A directory that is followed; `heard` says how often `follow` has called."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / "mesh"
        self.heard = 0
        self.stop = threading.Event()
        self._thread = threading.Thread(target=watch.follow, args=(self.path, self.stop, self._call))

    def _call(self) -> None:
        self.heard += 1

    def start(self) -> None:
        self._thread.start()
        time.sleep(0.5)  # past the call that says that the watch is on

    def end(self) -> None:
        self.stop.set()
        self._thread.join(5)
        assert not self._thread.is_alive()

    def hears(self, edit: Callable[[], object]) -> bool:
        """Tell whether an edit is heard of in time."""
        time.sleep(0.5)  # what was before has been told
        before, deadline = self.heard, time.monotonic() + WITHIN_S
        edit()
        while self.heard == before and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.heard > before

    def write(self, text: str = "") -> None:
        (self.path / "policy.yaml").write_text(text or str(time.monotonic()))


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    yield made
    made.end()


def test_edits_are_heard_of_and_nothing_else(watched: Watched) -> None:
    watched.path.mkdir()
    watched.start()
    assert watched.hears(watched.write)
    assert not watched.hears(lambda: None)


def test_a_symlink_that_is_switched(watched: Watched) -> None:
    for name in ("v1", "v2"):
        (watched.root / name).mkdir()
    watched.path.symlink_to("v1")
    watched.start()
    assert watched.hears(watched.write)
    (watched.root / "next").symlink_to("v2")
    assert watched.hears(lambda: os.replace(watched.root / "next", watched.path))
    assert watched.hears(watched.write)


def test_a_directory_that_is_moved_away_for_another(watched: Watched) -> None:
    watched.path.mkdir()
    watched.start()
    new = watched.root / "new"
    new.mkdir()
    assert watched.hears(lambda: (watched.path.rename(watched.root / "old"), new.rename(watched.path)))
    assert watched.hears(watched.write)
    assert not watched.hears(lambda: (watched.root / "old" / "policy.yaml").write_text("of no interest"))


@pytest.mark.parametrize("away_s", [0.0, 1.0])
def test_a_directory_that_is_removed_and_made_again(watched: Watched, away_s: float) -> None:
    """At once it may have the number that it had; later it was away for some looks."""
    watched.path.mkdir()
    watched.write("one")
    watched.start()

    def again() -> None:
        shutil.rmtree(watched.path)
        time.sleep(away_s)
        watched.path.mkdir()
        watched.write("two")

    assert watched.hears(again)
    for _ in range(3):
        assert watched.hears(watched.write)


def test_a_directory_that_cannot_be_watched_is_looked_at(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> Iterator[object]:
        raise RuntimeError("no more watches")

    monkeypatch.setattr(watchfiles, "watch", broken)
    watched.path.mkdir()
    watched.start()
    assert watched.hears(watched.write)
    assert not watched.hears(lambda: None)
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == [
        "cannot be watched (no more watches); it is only looked at"
    ]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_file_that_is_edited_elsewhere(watched: Watched, link: Callable[[Path, Path], None]) -> None:
    watched.path.mkdir()
    other = watched.root / "other.yaml"
    other.write_text("one")
    link(other, watched.path / "policy.yaml")
    watched.start()
    for text in ("two", "three"):
        assert watched.hears(lambda text=text: other.write_text(text))  # type: ignore[misc]
    assert watched.hears(watched.write)


def test_a_volume_whose_files_are_links_to_what_is_switched(watched: Watched) -> None:
    """So Kubernetes has it of a ConfigMap."""
    for name in ("..1", "..2"):
        (watched.path / name).mkdir(parents=True)
        (watched.path / name / "policy.yaml").write_text("the same")
    (watched.path / "..data").symlink_to("..1")
    (watched.path / "policy.yaml").symlink_to("..data/policy.yaml")
    watched.start()
    (watched.path / "..next").symlink_to("..2")
    assert watched.hears(lambda: (watched.path / "..next").rename(watched.path / "..data"))


@pytest.mark.parametrize("where", [".git", ".venv", "node_modules"])
def test_no_name_is_taken_for_that_of_a_draft(tmp_path: Path, where: str) -> None:
    (tmp_path / where).mkdir()
    watched = Watched(tmp_path / where)
    watched.path.mkdir()
    watched.start()
    try:
        for name in ("policy.yaml", "flycheck_policy.yaml"):
            assert watched.hears((watched.path / name).touch)
    finally:
        watched.end()


def test_what_is_not_read_is_not_heard_of(watched: Watched) -> None:
    """Neither names that are not ours, nor what is below."""
    (watched.path / "sub").mkdir(parents=True)
    (watched.path / "link").symlink_to("/usr")
    watched.start()
    for name in ("log.txt", ".policy.yaml", "sub/log.txt", "policy.yaml~"):
        assert not watched.hears(lambda name=name: (watched.path / name).write_text("x"))  # type: ignore[misc]
    assert watched.hears(watched.write)
    assert watched.hears(lambda: (watched.path / "sub" / "policy.yaml").write_text("x")), "which is a problem"


def test_looks_take_a_small_part_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks = 100.0, watch.Looks(tmp_path)
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def slow(_: Path) -> int:
        nonlocal now
        now += 0.1
        return int(now * 10)

    monkeypatch.setattr(listing, "state", slow)
    assert looks.differs()
    now += 4.9
    assert not looks.differs()
    assert looks.differs(at_once=True)
    now += 5.0
    assert looks.differs()
