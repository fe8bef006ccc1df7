"""Where an agent's things are, alive or dead, and the options that say so."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from control import admin_client
from control.agent import options, state
from control.cli.paths import PATH
from control.inspect import health
from control.names import Names
from loader import locking, maps, numbers
from loader.errors import AgentUnavailable, AttachFailed, MeshError

Command = Callable[..., None]
_RUN_DIR_VARIABLE = "SOCKMESH_RUN_DIR"
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
        """Return what the agent last called things; empty when it left no names, and told of where that matters."""
        found = state.load_names(self.run_dir)
        if not found.node:
            _tell_of_no_names(self)
        return found

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the running agent; raises AgentUnavailable when there is none."""
        return admin_client.call(str(self.socket), method, params)

    def agent_status(self) -> health.Agent:
        """Return the agent's own words, or why there are none."""
        try:
            return health.Agent(health.State.ALIVE, admin_client.call(str(self.socket), "status", timeout=5.0))
        except AgentUnavailable as error:
            # An agent has both locks from its first step to its last, and listens when it has compiled its programs.
            if locking.holder(self.run_dir / "agent.lock") is None:
                pid = locking.holder(self.pin_dir)
                if pid is None:
                    return health.Agent(health.State.DEAD, None, str(error))
                return health.Agent(health.State.ELSEWHERE, None, self._elsewhere(pid))
            if isinstance(error, admin_client.NobodyListens):
                return health.Agent(health.State.STARTING, None, _STARTS)
            return health.Agent(health.State.SILENT, None, str(error))

    def _elsewhere(self, pid: int) -> str:
        who = f"the agent of {self.pin_dir} (pid {pid})" if pid else f"the agent of {self.pin_dir}"
        return (
            f"no agent answers at {self.socket}; {who} runs with another run directory: name it with --run-dir, or in "
            f"{_RUN_DIR_VARIABLE}"
        )


@functools.cache  # once: some commands ask for the names more than once
def _tell_of_no_names(place: Place) -> None:
    """Say on standard error that numbers have no names, if any is there that should have one.

    What is wrong with the maps themselves is said by who opens them next.
    """
    with contextlib.suppress(MeshError, OSError), place.maps() as opened:
        pods = (key for key, _ in opened.endpoints.items() if not numbers.is_reserved(key.id))
        if any(itertools.chain(pods, opened.services.items())):
            click.echo(
                f"sockmesh: no names for what is pinned under {place.pin_dir}: {place.run_dir} holds no names.json of "
                "an agent, so numbers stand alone (its directory is --run-dir)",
                err=True,
            )


def _directory(name: str, default: Path, variable: str) -> Callable[[Command], Command]:
    """Return what adds an option for a directory of the agent's; a variable of the environment may say it, too."""
    text = "The agent's socket and state." if name == "--run-dir" else "The agent's pinned maps and programs."
    return click.option(
        name, type=PATH, default=default, show_default=True, envvar=variable, show_envvar=True, help=text
    )  # fmt: skip


run_dir_option = _directory("--run-dir", options.Options.run_dir, _RUN_DIR_VARIABLE)
pin_dir_option = _directory("--pin-dir", options.Options.pin_dir, "SOCKMESH_PIN_DIR")


def place_options(command: Command) -> Command:
    """Add --pin-dir and --run-dir; the command takes them as `pin_dir` and `run_dir`."""
    return pin_dir_option(run_dir_option(command))


def output_option(command: Command) -> Command:
    """Add -o table|json; the command takes it as `output`."""
    return click.option(
        "-o", "--output", type=click.Choice(["table", "json"]), default="table", help="For people, or for programs."
    )(command)
