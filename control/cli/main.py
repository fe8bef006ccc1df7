"""The `sockmesh` command. Sub-commands are imported when they are called, so that each starts quickly."""

import importlib
import sys

import click

from loader.errors import MeshError

# Name -> (module, attribute, help in one line: what `sockmesh --help` shows without importing the module).
COMMANDS: dict[str, tuple[str, str, str]] = {
    "agent": ("control.cli.agent", "agent", "Run this node's agent: policy, short cut and flow log from a directory."),
    "observe": ("control.cli.observe", "observe", "Show flow records, live or from a file."),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, _, short) in COMMANDS.items()])


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sockmesh", prog_name="sockmesh")
def cli() -> None:
    """A service mesh without sidecars: pods on one node talk through the kernel, under policy and on record."""


def main() -> None:
    """Run the command; a MeshError is one line for the person who can act on it, never a traceback."""
    try:
        cli(prog_name="sockmesh")
    except MeshError as error:
        click.echo(f"sockmesh: {error}", err=True)
        sys.exit(1)
    except PermissionError as error:
        click.echo(f"sockmesh: {error.filename or 'the kernel'}: {error.strerror}: run it as root", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
