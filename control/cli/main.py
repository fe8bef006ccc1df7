"""The `sockmesh` command. Sub-commands are imported when they are called, so that each starts quickly."""

import io
import os
import re
import sys
from typing import Any

import click

from control.cli.lazy import Commands, LazyGroup
from loader.errors import MeshError

COMMANDS: Commands = {
    "agent": ("control.cli.agent", "agent", "Run this node's agent: policy, short cut and flow log from a directory."),
    "proxy": ("control.cli.proxy", "proxy", "Run this node's proxy: rules for requests and names."),
    "status": ("control.cli.status", "status", "Is the agent alive, what is in force, what is wrong."),
    "observe": ("control.cli.observe", "observe", "Show flow records, live or from a file."),
    "bpf": ("control.cli.bpf", "bpf", "Show what the kernel holds: connections, policy, services, counters."),
    "policy": ("control.cli.policy", "policy", "What manifests allow, before they are applied; needs no agent."),
    "cert": ("control.cli.cert", "cert", "Certificates of mTLS between nodes, and their root."),
    "check": ("control.cli.check", "check", "What this kernel lacks, and the remedy."),
    "dump": ("control.cli.dump", "dump", "Everything for a bug report, as one JSON."),
    "demo": ("control.cli.demo", "demo", "Four pods, a policy, real programs: the mesh at work."),
    "uninstall": ("control.cli.uninstall", "uninstall", "Remove hooks, pinned maps and state."),
    "completion": ("control.cli.completion", "completion", "Print the completion script of a shell."),
}


# click calls it a range, so that one is told to write a range.
_NO_NUMBER = re.compile(r"is not a valid (integer|float) range\.$", re.M)


def _a_number(found: re.Match[str]) -> str:
    return "is not a whole number." if found[1] == "integer" else "is not a number."


class Program(LazyGroup):
    """The whole command. What goes wrong is `sockmesh: ...` on standard error, in click's words as in ours."""

    def main(self, *args: Any, **given: Any) -> Any:
        try:
            status = super().main(*args, **(given | {"standalone_mode": False}))
        except click.ClickException as error:
            if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
                error.ctx = None  # a value is wrong: how the command is used does not help, and stands above it
            shown = io.StringIO()
            error.show(shown)  # the usage too, where that is what was wrong
            words = re.sub(r"^Error: ", "sockmesh: ", shown.getvalue(), count=1, flags=re.M)
            click.echo(_NO_NUMBER.sub(_a_number, words), nl=False, err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(1)  # by Ctrl-C: who pressed it knows
        except MeshError as error:  # one line for the person who can act on it, never a traceback
            click.echo(f"sockmesh: {error}", err=True)
            sys.exit(1)
        sys.exit(status if isinstance(status, int) else 0)


@click.command(
    cls=Program,
    commands_table=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Completion in the shell: source <(sockmesh completion bash), in ~/.bashrc for good; zsh and fish likewise.",
)
@click.version_option(package_name="sockmesh", prog_name="sockmesh")
def cli() -> None:
    """A service mesh without sidecars: pods on one node talk through the kernel, under policy and on record."""


def main() -> None:
    """Run the command, whatever standard output and standard error are."""
    if sys.stdout is None:  # closed by the caller: whatever is written to it fails, as if it were a full disk
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process lives
    try:
        cli(prog_name="sockmesh")
    except PermissionError as error:
        click.echo(f"sockmesh: {error.filename or 'the kernel'}: {error.strerror}: run it as root", err=True)
        sys.exit(1)
    except OSError as error:
        click.echo(f"sockmesh: {error.filename or 'standard output'}: {error.strerror}", err=True)
        os._exit(1)  # what Python still holds for a full output would raise again


if __name__ == "__main__":
    main()
