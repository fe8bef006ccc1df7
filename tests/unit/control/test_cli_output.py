"""What the command's exit status says when its answer could not be written."""

import subprocess
import sys
from pathlib import Path

import pytest
from click import testing

from control.cli import main

ROOT = Path(__file__).resolve().parents[3]
RECORD = '{"flow":{"verdict":"FORWARDED"},"time":"2026-11-20T20:00:00Z"}\n'


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["completion", "bash"], ["observe", "--input-file", "flows.json"]]
)
@pytest.mark.parametrize(("where", "why"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")])
def test_an_answer_that_could_not_be_written(words: list[str], where: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "flows.json").write_text(RECORD)
    command = ["sh", "-c", f'exec "$@" {where}', "sh", sys.executable, "-m", "control.cli.main", *words]
    ended = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stderr) == (1, f"sockmesh: standard output: {why}\n")


def test_where_nothing_is_to_be_said_no_output_is_needed() -> None:
    words = [sys.executable, "-m", "control.cli.main", "observe", "--input-file", "/dev/null"]
    ended = subprocess.run(["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *words], check=False, timeout=60, cwd=ROOT)
    assert ended.returncode == 0


def test_a_certificate_is_asked_for_by_its_service_account() -> None:
    told = testing.CliRunner().invoke(main.cli, ["cert", "inspect", "--help"], terminal_width=200)
    assert told.exit_code == 0 and "ID|NAMESPACE/SERVICE_ACCOUNT|FILE" in told.stdout
    assert "NAMESPACE/default" in told.stdout
