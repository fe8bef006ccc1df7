"""scripts/setup.sh in a checkout that is new, moved or linked: it installs where it must, and nowhere else.

Nothing is fetched: pip is kept from every index, so a run that has to install fails at that, and says what it was at.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
MAKES, INSTALLS = "making the virtual environment .venv", "installing Python packages into .venv"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the script looks at, with an environment in which all for the tests is installed."""
    made = tmp_path / "checkout"
    (made / "scripts").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", made)
    shutil.copy(ROOT / "scripts" / "setup.sh", made / "scripts")
    scripts = made / ".venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "python").symlink_to("/usr/bin/python3")
    (scripts / "pip").write_text(f"#!{scripts}/python3\n")
    digest = hashlib.sha256((made / "pyproject.toml").read_bytes()).hexdigest()
    (made / ".venv" / ".stamp-test").write_text(f".[dev,kernels,bench] {digest} {made}\n")
    return made


def set_up(where: Path, group: str = "demo") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [where / "scripts" / "setup.sh", group], capture_output=True, text=True, timeout=120,
        env=os.environ | {"PIP_NO_INDEX": "1"},
    )  # fmt: skip


def test_what_was_installed_for_the_tests_serves_the_demo(checkout: Path) -> None:
    done = set_up(checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sockmesh setup: ready (demo)\n", "")


def test_an_edit_of_what_is_needed_is_installed(checkout: Path) -> None:
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("# edited\n")
    done = set_up(checkout)
    assert done.returncode == 1 and INSTALLS in done.stdout and MAKES not in done.stdout, done


@pytest.mark.parametrize("way", ["moved", "copied"])
def test_a_checkout_elsewhere_gets_an_environment_of_its_own(checkout: Path, way: str) -> None:
    """The scripts in the old one lead to the old place, where nothing is, or another version."""
    there = checkout.with_name("there")
    if way == "moved":
        checkout.rename(there)
    else:
        shutil.copytree(checkout, there, symlinks=True)
    done = set_up(there)
    assert done.returncode == 1 and MAKES in done.stdout and INSTALLS in done.stdout, done
    assert f"{there}/.venv/bin/python" in (there / ".venv" / "bin" / "pip").read_text()


def test_another_checkouts_environment_is_left_alone(checkout: Path) -> None:
    other = checkout.with_name("other")
    (checkout / ".venv").rename(other)
    (checkout / ".venv").symlink_to(other)
    done = set_up(checkout, "test")
    assert (done.returncode, done.stdout) == (1, "")
    assert f".venv is a link to {other}: " in done.stderr and "remove the link (rm .venv)" in done.stderr
    assert sorted(path.name for path in other.iterdir()) == [".stamp-test", "bin"]
