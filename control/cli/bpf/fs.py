"""`sockmesh bpf fs`: what is pinned."""

from pathlib import Path

import click

from control.cli import lazy
from control.cli.place import Place, output_option, place_options
from control.cli.show import Column, show, show_one
from control.flow.summary import amount, counted
from control.inspect import pins
from loader.errors import MeshError


def _entries(row: pins.PinRow) -> str:
    if not row.max_entries or row.type == "ringbuf":
        return ""
    return f"{row.entries:,}/{row.max_entries:,}" if row.entries is not None else f"?/{row.max_entries:,}"


def _about(row: pins.PinRow) -> str:
    if row.kind == "link":
        return f"{row.target} -> program {row.program_id}"
    if row.run_count:
        return f"{counted(row.run_count, 'run')}, {(row.run_ns or 0) / row.run_count:,.0f} ns each"
    return ""


_COLUMNS = (
    Column[pins.PinRow]("KIND", lambda r: r.kind),
    Column[pins.PinRow]("NAME", lambda r: r.name),
    Column[pins.PinRow]("ID", lambda r: str(r.id), right=True),
    Column[pins.PinRow]("TYPE", lambda r: r.type),
    Column[pins.PinRow]("TAG", lambda r: r.tag),
    Column[pins.PinRow]("MEMORY", lambda r: amount(r.memory_bytes) if r.memory_bytes is not None else "", right=True),
    Column[pins.PinRow]("ENTRIES", _entries, right=True),
    Column[pins.PinRow]("ABOUT", _about),
)


def rows(place: Place) -> tuple[pins.PinRow, ...]:
    """Return every pin with its map's number of entries."""
    names = place.names()
    with place.maps() as opened:
        found = []
        for kind, path in pins.pinned(place.pin_dir):
            entries = pins.entries(opened, path.name) if kind == "maps" else None
            found.append(pins.row(kind, path, pins.describe(path), entries, names))
    return tuple(found)


@click.group(cls=lazy.Group)
def fs() -> None:
    """Pinned maps, programs and links: what stays in force when the agent dies."""


@fs.command("list")
@click.option("--kind", type=click.Choice(["map", "program", "link"]), help="Only these.")
@place_options
@output_option
def list_(kind: str | None, pin_dir: Path, run_dir: Path, output: str) -> None:
    """List every pin with its id, memory, and for maps how full it is."""
    found = [row for row in rows(Place(pin_dir, run_dir)) if kind in (None, row.kind)]
    show(found, _COLUMNS, output, "nothing is pinned")


@fs.command("get")
@click.argument("name")
@place_options
@output_option
def get(name: str, pin_dir: Path, run_dir: Path, output: str) -> None:
    """Show one pin, by its name (policy, sockops, endpoint-3-sockops) or path."""
    row = next((row for row in rows(Place(pin_dir, run_dir)) if name in (row.name, row.path)), None)
    if row is None:
        raise MeshError(f"nothing named {name} is pinned under {pin_dir} (`sockmesh bpf fs list`)")
    facts = {
        "name": row.name, "kind": row.kind, "path": row.path, "id": str(row.id), "type": row.type, "tag": row.tag,
        "memory": amount(row.memory_bytes) if row.memory_bytes is not None else "", "entries": _entries(row),
        "about": _about(row),
    }  # fmt: skip
    show_one(row, {key: text for key, text in facts.items() if text}, output)
