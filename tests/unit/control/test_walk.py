"""What is below a directory and cannot be looked into is a problem: a policy that denies may lie there."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from control.source import manifests, walk

ROOT = Path(__file__).parents[3]
POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {containers: [{name: c}]}\n"


def test_a_directory_too_deep_to_be_opened_is_a_problem(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # more than a path may be long
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    (tmp_path / "pod.yaml").write_text(POD)
    result = manifests.load([tmp_path])
    (problem,) = result.problems
    assert problem.file.startswith(f"{tmp_path}/{'d' * 250}/")
    assert problem.message == "cannot be read: File name too long"
    assert len(result.snapshot.workloads) == 1  # and the rest is read


def test_a_link_to_nothing_or_in_a_circle_is_no_problem(tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(POD)
    (tmp_path / "around").symlink_to("around")
    (tmp_path / "there").symlink_to("back")
    (tmp_path / "back").symlink_to("there")
    (tmp_path / "gone").symlink_to("nothing")
    (tmp_path / "no-directory").symlink_to("pod.yaml/below")
    assert list(walk.files([tmp_path])) == [(f"{tmp_path}/pod.yaml", "")]


def test_a_link_that_cannot_be_followed_is_a_problem(tmp_path: Path) -> None:
    """And a hidden one is somebody's own business."""
    (tmp_path / "pod.yaml").write_text(POD)
    for name in ("long", ".long"):
        (tmp_path / name).symlink_to("d" * 256)
    assert list(walk.files([tmp_path])) == [
        (f"{tmp_path}/long", "cannot be read: File name too long"),
        (f"{tmp_path}/pod.yaml", ""),
    ]


@pytest.mark.parametrize(
    ("command", "status"),
    [(["validate"], 1), (["trace", "--from=shop/web", "--to=10.0.0.1", "--port=80/TCP"], 2), (["connectivity"], 2)],
)
def test_a_directory_that_is_closed_to_who_asks_is_a_problem(command: list[str], status: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as given, tempfile.TemporaryDirectory() as closed:  # each of mode 0700
        below = Path(given)
        below.chmod(0o755)
        (below / "pod.yaml").write_text(POD)
        (below / "closed").mkdir(mode=0o700)
        (below / "link").symlink_to(closed)
        (below / "within").symlink_to(f"{closed}/within")
        words = [
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            sys.executable,
            "-m",
            "control.cli.main",
        ]
        answer = subprocess.run(
            [*words, "policy", *command, "-f", given, "-f", below / "closed"],
            capture_output=True, text=True, cwd=ROOT, timeout=30, check=False,
        )  # fmt: skip
    said = (answer.stdout + answer.stderr).splitlines()
    told = {line.removeprefix("sockmesh: ") for line in said if "cannot be read" in line}
    assert told == {f"{given}/{name}: cannot be read: Permission denied" for name in ("closed", "link", "within")}
    assert answer.returncode == status
