"""Where an agent's things are, alive or dead, and the options that say so."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from control import admin_client
from control.agent import options, state
from control.inspect import health
from control.names import Names
from loader import maps
from loader.errors import AgentUnavailable, AttachFailed

PATH = click.Path(path_type=Path, readable=False)  # whether it can be read is said in a better sentence later
_STARTS = "it compiles its programs, or takes over from the one before"


@dataclasses.dataclass(frozen=True)
class Place:
    """One agent's directories."""

    pin_dir: Path
    run_dir: Path

    @property
    def socket(self) -> Path:
        return self.run_dir / admin_client.SOCKET

    def maps(self) -> maps.Maps:
        """Open the pinned maps; raises AttachFailed in one sentence where there are none."""
        if not (self.pin_dir / "maps" / "config").exists():
            raise AttachFailed(
                f"no maps are pinned under {self.pin_dir}: no agent ran here, or it was uninstalled; start one with "
                "`sockmesh agent --config DIR`, or name its directory with --pin-dir"
            )
        return maps.open_all(self.pin_dir)

    def names(self) -> Names:
        """Return what the agent last called things; empty when it left no names."""
        return state.load_names(self.run_dir)

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the running agent; raises AgentUnavailable when there is none."""
        return admin_client.call(str(self.socket), method, params)

    def agent_status(self) -> health.Agent:
        """Return the agent's own words, or why there are none."""
        try:
            return health.Agent(health.State.ALIVE, admin_client.call(str(self.socket), "status", timeout=5.0))
        except AgentUnavailable as error:
            # An agent has the lock from its first step to its last, and listens when it has compiled its programs.
            if not _is_locked(self.run_dir / "agent.lock"):
                return health.Agent(health.State.DEAD, None, str(error))
            if isinstance(error, admin_client.NobodyListens):
                return health.Agent(health.State.STARTING, None, _STARTS)
            return health.Agent(health.State.SILENT, None, str(error))


def _is_locked(file: Path) -> bool:
    """Return whether somebody holds a lock on a file; whoever tried and took it would keep an agent from starting."""
    try:
        found = file.stat()
        table = Path("/proc/locks").read_text()
    except OSError:
        return False
    wanted = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    lines = (line.split() for line in table.splitlines())
    return any(wanted in words and "->" not in words for words in lines)  # "->": waits for it


def place_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --pin-dir and --run-dir; the command takes them as `pin_dir` and `run_dir`."""
    for name, default, text in (
        ("--run-dir", options.Options.run_dir, "The agent's socket and state."),
        ("--pin-dir", options.Options.pin_dir, "The agent's pinned maps and programs."),
    ):
        command = click.option(name, type=PATH, default=default, show_default=True, help=text)(command)
    return command


def output_option(command: Callable[..., None]) -> Callable[..., None]:
    """Add -o table|json; the command takes it as `output`."""
    return click.option(
        "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="For people, or for programs."
    )(command)
