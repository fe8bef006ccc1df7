"""`sockmesh completion`: the script that lets a shell complete commands and options."""

import click

_HINTS = {
    "bash": "source <(sockmesh completion bash)      # in ~/.bashrc",
    "zsh": "source <(sockmesh completion zsh)       # in ~/.zshrc, after compinit",
    "fish": "sockmesh completion fish | source       # in ~/.config/fish/config.fish",
}
HINT = "\b\nCompletion of commands and options, for good:\n" + "\n".join(f"  {line}" for line in _HINTS.values())


@click.command(epilog=HINT)
@click.argument("shell", type=click.Choice(sorted(_HINTS)))
def completion(shell: str) -> None:
    """Print the completion script of SHELL."""
    from click import shell_completion

    from control.cli.main import cli

    kind = shell_completion.get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "sockmesh", "_SOCKMESH_COMPLETE").source())
