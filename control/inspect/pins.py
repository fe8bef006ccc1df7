"""What is pinned under an agent's directory: maps, programs and links, as the kernel describes them.

The description is /proc/self/fdinfo of an open pin: it names the same things on every kernel that the mesh runs on.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from control.inspect import words
from control.names import Names
from loader import abi, bpf
from loader.maps import Maps

KINDS = ("maps", "progs", "links", "staging")


@dataclasses.dataclass(frozen=True)
class PinRow:
    """One pinned object. Numbers that its kind does not have are None."""

    kind: str  # map, program or link
    name: str
    path: str
    id: int
    type: str
    tag: str = ""
    memory_bytes: int | None = None
    entries: int | None = None
    max_entries: int | None = None
    program_id: int | None = None
    target: str = ""  # what a link hangs on
    run_count: int | None = None  # None unless the kernel counts runs (kernel.bpf_stats_enabled)
    run_ns: int | None = None


def parse_fdinfo(text: str) -> dict[str, str]:
    """Return fdinfo's lines by name."""
    found = (line.partition(":") for line in text.splitlines())
    return {name.strip(): value.strip() for name, _, value in found}


def pinned(pin_dir: Path) -> Iterable[tuple[str, Path]]:
    """Yield (kind's directory, path) of all pins, in a fixed order; an absent directory has none."""
    for kind in KINDS:
        directory = pin_dir / kind
        for path in sorted(directory.iterdir()) if directory.is_dir() else ():
            yield kind, path


def describe(path: Path) -> dict[str, str]:
    """Return the kernel's description of one pin; raises OSError."""
    fd = bpf.get(path)
    try:
        return parse_fdinfo(Path(f"/proc/self/fdinfo/{fd}").read_text())
    finally:
        os.close(fd)


def entries(opened: Maps, name: str) -> int | None:
    """Return how many entries a map has, None for what has none to count: a ring buffer, a map of another version."""
    spec = abi.MAP_BY_NAME.get(name)
    if spec is None or spec.type == "ringbuf":
        return None
    return spec.max_entries if "array" in spec.type else opened[name].count()


def row(kind: str, path: Path, info: Mapping[str, str], entries: int | None, names: Names) -> PinRow:
    """Return one pin in words. Pure: `info` is what `describe` returned."""
    number = {name: int(info[name]) for name in info if info[name].isdecimal()}
    memory = number.get("memlock")
    if kind == "maps":
        return PinRow(
            "map", path.name, str(path), number.get("map_id", 0), _map_type(number.get("map_type", 0)),
            memory_bytes=memory, entries=entries, max_entries=number.get("max_entries"),
        )  # fmt: skip
    if kind == "links":
        return PinRow(
            "link", path.name, str(path), number.get("link_id", 0), info.get("link_type", ""), info.get("prog_tag", ""),
            program_id=number.get("prog_id"), target=_target(path.name, names),
        )  # fmt: skip
    runs = number.get("run_cnt") or None
    return PinRow(
        "program", path.name if kind == "progs" else f"{path.name} (staged)", str(path), number.get("prog_id", 0),
        _prog_type(number.get("prog_type", 0)), info.get("prog_tag", ""), memory_bytes=memory,
        run_count=runs, run_ns=number.get("run_time_ns") if runs else None,
    )  # fmt: skip


def _map_type(number: int) -> str:
    try:
        return bpf.MapType(number).name
    except ValueError:
        return str(number)


def _prog_type(number: int) -> str:
    from loader.programs import ProgType

    try:
        return ProgType(number).name.lower()
    except ValueError:
        return str(number)


def _target(link: str, names: Names) -> str:
    """Return what a link hangs on, from its name: "endpoint-3-sockops", "tracepoint-enter_splice"."""
    owner, _, function = link.rpartition("-")
    kind, _, number = owner.partition("-")
    if kind == "endpoint" and number.isdecimal():
        return f"cgroup of {words.endpoint_name(names, int(number))}"
    return f"tracepoint {function.removeprefix('enter_')}" if kind == "tracepoint" else ""


def links_by_owner(pin_dir: Path) -> dict[str, list[str]]:
    """Return the pinned links by what they hang on: "endpoint-3" -> ["sockops", ...]."""
    out: dict[str, list[str]] = {}
    directory = pin_dir / "links"
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        owner, _, function = path.name.rpartition("-")
        out.setdefault(owner, []).append(function)
    return out
