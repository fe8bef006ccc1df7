"""What is compiled must be of the source that people read."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from l7proxy import compiled

ASK = "from l7proxy import compiled; print(compiled.is_compiled())"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Give a copy of the proxy, not compiled."""
    for name in ("l7proxy", "loader", "control"):
        shutil.copytree(compiled.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "*.sha256"))
    return tmp_path


def ask(checkout: Path, words: str = ASK) -> str:
    done = subprocess.run([sys.executable, "-c", words], cwd=checkout, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr.strip().rpartition("\n")[2]).strip()


def build(checkout: Path) -> None:
    """Put files where compiled modules would be: they are counted, not imported."""
    ask(
        checkout,
        "from l7proxy import compiled as c\n"
        "for path in [*c.sources(), c.ROOT / 'l7proxy' / 'compiled__mypyc']: path.with_suffix(c._SUFFIX).touch()\n"
        "c.record(c.digest())",
    )


def test_without_a_compiler_all_is_as_it_was(checkout: Path) -> None:
    assert ask(checkout) == "False"


def test_what_was_compiled_from_this_source(checkout: Path) -> None:
    build(checkout)
    assert ask(checkout) == "True"


@pytest.mark.parametrize("name", ["http2/hpack.py", "exchange.py", "policy/requests.py"])
def test_a_source_that_has_changed_since(checkout: Path, name: str) -> None:
    build(checkout)
    with (checkout / "l7proxy" / name).open("a") as file:
        file.write("# changed\n")
    assert "compiled from another source than the one beside it: run `make compile`" in ask(checkout)


def test_a_source_that_has_changed_while_it_was_compiled(checkout: Path) -> None:
    build(checkout)
    words = "from l7proxy import compiled as c; c.record('what it was'); c.is_compiled()"
    assert "run `make compile`" in ask(checkout, words)


def test_what_was_taken_away_is_not_there(checkout: Path) -> None:
    build(checkout)
    assert ask(checkout, f"from l7proxy import compiled; compiled.clean(); {ASK}") == "False"
    assert not list(checkout.rglob("*.so")) and not list(checkout.rglob("*.sha256"))


@pytest.mark.parametrize("name", ["http2/hpack", "compiled__mypyc"])
def test_half_of_it(checkout: Path, name: str) -> None:
    build(checkout)
    (found,) = (checkout / "l7proxy").glob(f"{name}.*.so")
    found.unlink()
    assert "run `make compile`" in ask(checkout)
