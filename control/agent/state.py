"""What the agent keeps so that numbers mean the same after a restart: `state.json` and `names.json`."""

import os
from pathlib import Path

from control import identity, names


def write(path: Path, content: bytes) -> None:
    """Replace a file in one step, readable by root alone."""
    temporary = path.with_suffix(".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
    os.replace(temporary, path)


def save(run_dir: Path, allocation: identity.Allocation, known: names.Names) -> None:
    """Write down what is in force. Raises OSError; there are no numbers then, rather than those of before: a connection
    may remember one that was given out since, which the next start would give out again."""
    numbers = run_dir / "state.json"
    try:
        write(numbers, allocation.to_json().encode())
    except OSError:
        numbers.unlink(missing_ok=True)
        raise
    write(run_dir / "names.json", known.to_json().encode())


def load_allocation(run_dir: Path) -> identity.Allocation | None:
    """Return the numbers a predecessor gave out, None when there are none or the file cannot be used."""
    try:
        return identity.Allocation.from_json((run_dir / "state.json").read_text())
    except (OSError, ValueError):
        return None


def load_names(run_dir: Path) -> names.Names:
    """Return the names of what is in force, empty when nobody wrote them."""
    try:
        return names.Names.from_json((run_dir / "names.json").read_text())
    except (OSError, ValueError):
        return names.Names()
