"""Where an agent's things are, alive or dead, and the options that say so."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from control import admin_client
from control.agent import options, state
from control.names import Names
from loader import maps
from loader.errors import AgentUnavailable, AttachFailed

PATH = click.Path(path_type=Path, readable=False)  # whether it can be read is said in a better sentence later


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

    def agent_status(self) -> tuple[dict[str, Any] | None, str]:
        """Return the agent's own words and "", or None and why there are none."""
        try:
            return admin_client.call(str(self.socket), "status", timeout=5.0), ""
        except AgentUnavailable as error:
            return None, str(error)


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
