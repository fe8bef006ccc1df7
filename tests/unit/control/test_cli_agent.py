"""What `sockmesh agent` takes, and what it writes to standard error at each level."""

import subprocess
import sys
from pathlib import Path

import pytest

from control.agent import options
from loader.errors import ConfigInvalid

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


@pytest.mark.parametrize("cidr", ["10.0.0.0", "fd00::", "10.0.0.0/99"])
def test_a_range_of_the_cluster_has_a_length(tmp_path: Path, cidr: str) -> None:
    given = options.Options(config_dir=tmp_path, cluster_cidrs=("10.0.0.0/8", "fd00::/8", cidr))
    with pytest.raises(ConfigInvalid, match=f"--cluster-cidr {cidr}: not an address range "):
        given.check()


def test_a_directory_that_is_not_there_is_not_called_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigInvalid, match="nowhere: there is no such directory: make it first"):
        options.Options(config_dir=tmp_path / "nowhere").check()
    with pytest.raises(ConfigInvalid, match="file: not a directory"):
        options.Options(config_dir=tmp_path / "file").check()
