"""`sockmesh bpf config`: the node's switches."""

import fcntl
import os
from pathlib import Path

import click

from control.agent import switches
from control.cli import lazy
from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, show, show_one
from control.inspect import inforce, settings
from loader.errors import AgentUnavailable, ConfigInvalid

_COLUMNS = (
    Column[settings.SettingRow]("NAME", lambda r: r.name),
    Column[settings.SettingRow]("VALUE", lambda r: r.word, right=True),
    Column[settings.SettingRow]("CAN BE SET TO", settings.settable),
    Column[settings.SettingRow]("MEANING", lambda r: r.explanation),
)


def _rows(place: Place) -> tuple[settings.SettingRow, ...]:
    with place.maps() as opened:
        return settings.rows(opened.config.get_at(0), inforce.state(opened))


@click.group(cls=lazy.Group)
def config() -> None:
    """Switches of this node, in force at once. `set acceleration off` is the kill switch of the short cut."""


@config.command("list")
@place_options
@output_option
def list_(pin_dir: Path, run_dir: Path, output: str) -> None:
    """List every switch, and which edition of policies counts while that is not the usual one."""
    show(_rows(Place(pin_dir, run_dir)), _COLUMNS, output, "")


@config.command("get")
@click.argument("name")
@place_options
@output_option
def get(name: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show the value of one switch."""
    rows = _rows(Place(pin_dir, run_dir))
    row = settings.pick(rows, name)
    if row is None:
        raise ConfigInvalid(f"config: unknown switch {name!r} ({', '.join(r.name for r in rows)})")
    facts = {"name": row.name, "value": row.word, "can be set to": settings.settable(row), "meaning": row.explanation}
    show_one(row, facts, output)


@config.command("set")
@click.argument("name", metavar="NAME")
@click.argument("value", metavar="VALUE")
@place_options
@output_option
def set_(name: str, value: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Turn one switch, in force at once.

    Through the agent if it runs, else in the map that it left.
    """
    switches.parse(name, value)
    place = Place(pin_dir, run_dir)
    before = settings.pick(_rows(place), name)
    turn(place, name, value)
    after = settings.pick(_rows(place), name)
    assert before is not None and after is not None
    if output == "json":
        show_one({"name": after.name, "before": before.value, "value": after.value}, {}, output)
    else:
        click.echo(f"{after.name}: {before.word} -> {after.word}" if before != after else f"{after.name}: {after.word}")


def turn(place: Place, name: str, value: str) -> None:
    """Set one switch; raises ConfigInvalid, or AgentUnavailable for an agent that runs but does not answer."""
    try:
        place.ask("set", **{name: value})
        return
    except AgentUnavailable as error:
        silent = error
    place.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(place.run_dir / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no agent may start, and write the record, meanwhile
        except BlockingIOError:
            raise AgentUnavailable(
                f"an agent runs with {place.run_dir} but does not answer, so nothing was set; see its log ({silent})"
            ) from None
        with place.maps() as opened:
            opened.config.put_at(0, switches.with_changes(opened.config.get_at(0), {name: value}))
    finally:
        os.close(lock)
