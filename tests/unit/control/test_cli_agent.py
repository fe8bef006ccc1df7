"""What `sockmesh agent` writes to standard error at each level."""

import subprocess
import sys

import pytest

SPEAK = """
import logging, sys
from control.cli.agent import _log_at
_log_at(sys.argv[1])
for name in ("sockmesh.agent", "pyroute2.netlink", "asyncio", "watchfiles.main"):
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger(name).log(level, name)
"""


@pytest.mark.parametrize(
    ("level", "ours", "each"), [("DEBUG", 4, 2), ("INFO", 3, 2), ("WARNING", 2, 2), ("ERROR", 1, 1)]
)
def test_only_our_own_words_go_below_a_warning(level: str, ours: int, each: int) -> None:
    said = subprocess.run([sys.executable, "-c", SPEAK, level], capture_output=True, text=True, check=True, timeout=30)
    spoke = [line.split()[-1] for line in said.stderr.splitlines()]
    assert {name: spoke.count(name) for name in spoke} == {
        "sockmesh.agent": ours, "pyroute2.netlink": each, "asyncio": each, "watchfiles.main": each,
    }  # fmt: skip
