"""Command groups: they answer what is misspelt, and import a sub-command's module only when it is called, so that
each starts quickly."""

import difflib
import importlib
from collections.abc import Mapping

import click

# Name -> (module, attribute, help in one line: what --help shows without importing the module).
Commands = Mapping[str, tuple[str, str, str]]


class Group(click.Group):
    """A group that answers what is misspelt with what there is."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, there = args[0], self.list_commands(ctx)
        if name not in there and not name.startswith("-") and not ctx.resilient_parsing:
            close = difflib.get_close_matches(name, there)
            hint = f"Did you mean {' or '.join(map(repr, close))}?" if close else f"There are {', '.join(there)}."
            raise click.UsageError(f"No such command {name!r}. {hint}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(Group):
    """A group whose commands are a table; pass it as `commands_table` to the decorator."""

    def __init__(self, *args: object, commands_table: Commands, **given: object) -> None:
        super().__init__(*args, **given)  # type: ignore[arg-type]
        self._table = commands_table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._table)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self._table:
            return None
        module, attribute, short = self._table[name]
        command: click.Command = getattr(importlib.import_module(module), attribute)
        command.short_help = command.short_help or short
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, short) for name, (_, _, short) in self._table.items()])
