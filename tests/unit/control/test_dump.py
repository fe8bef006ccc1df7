"""Where `sockmesh dump` writes: a file is replaced in one step, anything else is written to."""

import json
import os
import stat
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from control.cli import dump as command
from control.cli.main import cli


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "report", lambda *_: {"made": "now"})


def write_to(target: Path | str) -> Result:
    return CliRunner().invoke(cli, ["dump", "--file", str(target)])


def test_a_device_stays_one(tmp_path: Path) -> None:
    full, null = tmp_path / "full", tmp_path / "null"
    os.mknod(full, 0o666 | stat.S_IFCHR, os.makedev(1, 7))
    os.mknod(null, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    answer = write_to(full)
    assert answer.exit_code == 1 and "cannot write the dump: No space left on device" in answer.stderr
    assert write_to(null).exit_code == 0
    assert stat.S_ISCHR(full.stat().st_mode) and stat.S_ISCHR(null.stat().st_mode)
    assert sorted(tmp_path.iterdir()) == [full, null]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert write_to(pipe).exit_code == 0
    reader.join(5)
    assert json.loads(read[0]) == {"made": "now"} and stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed(tmp_path: Path, there: bool) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to("file")
    if there:
        file.write_text("old")
    assert write_to(link).exit_code == 0
    assert link.is_symlink() and json.loads(file.read_text()) == {"made": "now"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("odd", [".", "no/x", "file/x", "loop"])
def test_what_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("old")
    (tmp_path / "loop").symlink_to("loop")
    answer = write_to(odd)
    assert answer.exit_code == 1 and f"{odd}: cannot write the dump: " in answer.stderr
    assert (tmp_path / "file").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2


def test_standard_output_by_its_name(tmp_path: Path) -> None:
    assert json.loads(write_to("/dev/stdout").output) == {"made": "now"}


@pytest.mark.parametrize("words", [[], ["-o", "json"], ["--output", "json"], ["-f", "-"]])
def test_as_with_every_command_output_is_the_form(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(cli, ["dump", *words])
    assert answer.exit_code == 0 and json.loads(answer.output) == {"made": "now"}
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_read_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    whys = {"status": {"error": "/x: no"}, "maps": {"error": "/x: no"}, "pins": {"error": "/y: no"}, "names": {}}
    monkeypatch.setattr(command, "report", lambda *_: whys)
    answer = CliRunner().invoke(cli, ["dump"])
    assert (answer.exit_code, json.loads(answer.stdout)) == (0, whys)
    assert answer.stderr == "sockmesh: 3 parts could not be read (status, maps, pins): /x: no; /y: no\n"
    monkeypatch.setattr(command, "report", lambda *_: {"names": {}})
    assert CliRunner().invoke(cli, ["dump"]).stderr == ""


def test_a_file_given_as_the_form_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(cli, ["dump", "--output", "report.json"])
    assert answer.exit_code == 2 and "'report.json' is not 'json'" in answer.stderr
    assert list(tmp_path.iterdir()) == []
