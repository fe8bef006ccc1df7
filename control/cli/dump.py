"""`sockmesh dump`: everything that a bug report needs, in one JSON."""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from control.cli.gather import gather
from control.cli.paths import WORD
from control.cli.place import Place, place_options
from control.cli.show import jsonable
from control.flow.summary import counted
from loader.errors import MeshError

_MOST = 20_000
_DISTRIBUTIONS = ("sockmesh", "click", "rich", "pyroute2", "PyYAML", "watchfiles", "prometheus-client", "uvloop")


@click.command()
@click.option("-f", "--file", type=WORD, metavar="FILE", default="-", help="Write there, readable by you alone.")
@click.option("-o", "--output", type=click.Choice(["json"]), default="json", help="It has this form only.")
@click.option("--max-entries", type=click.IntRange(1), default=_MOST, show_default=True, help="Rows of one map.")
@place_options
def dump(file: str, output: str, max_entries: int, pin_dir: Path, run_dir: Path) -> None:
    """Write one JSON with all that a bug report needs: status, switches, every map with names, features, versions.

    It holds names, labels, addresses and rules of this node, and no payload, key or password. What cannot be read is in
    it as a sentence, and told of on standard error, so a dump is possible however broken the node is.
    """
    found = report(Place(pin_dir, run_dir), max_entries)
    if said := unread(found):
        click.echo(f"sockmesh: {said}", err=True)
    text = json.dumps(found, indent=1) + "\n"
    if file in ("-", "/dev/stdout"):  # the second, opened anew, would begin at the start of a file that it leads to
        click.echo(text, nl=False)
        return
    try:
        if _is_special(file):
            with open(file, "w") as out:
                out.write(text)
        else:
            _replace(Path(os.path.realpath(file)), text)
    except OSError as error:
        raise MeshError(f"{file}: cannot write the dump: {error.strerror}") from None
    click.echo(f"{file}: {len(text):,} bytes", err=True)


def unread(found: Mapping[str, Any]) -> str:
    """Return one sentence on the parts of a report that could not be read, and why; "" if all could."""
    errors = {name: part["error"] for name, part in found.items() if isinstance(part, dict) and "error" in part}
    if not errors:
        return ""
    whys = "; ".join(dict.fromkeys(errors.values()))
    return f"{counted(len(errors), 'part')} could not be read ({', '.join(errors)}): {whys}"


def _is_special(file: str) -> bool:
    """Whether a path leads to what only takes bytes, as a device or a pipe does."""
    try:
        return not stat.S_ISREG(os.stat(file).st_mode)
    except FileNotFoundError:
        return False


def _replace(target: Path, text: str) -> None:
    """Make a file in one step, readable by its owner alone."""
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as out:
            out.write(text)
        os.replace(draft, target)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def report(place: Place, most: int) -> dict[str, Any]:
    """Return the whole report; a part that fails is {"error": why}."""
    return {
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "pin_dir": str(place.pin_dir),
        "run_dir": str(place.run_dir),
        "versions": _part(_versions),
        "status": _part(lambda: gather(place)),
        "maps": _part(lambda: _maps(place, most)),
        "pins": _part(lambda: _pins(place)),
        "names": _part(lambda: _names(place)),
        "features": _part(_features),
        "agent_socket": str(place.socket),
    }


def _part(make: Callable[[], object]) -> Any:
    try:
        return jsonable(make())
    except PermissionError as error:
        return {"error": f"{error.filename or 'the kernel'}: {error.strerror}: run it as root"}
    except (MeshError, OSError) as error:
        return {"error": str(error)}
    except Exception as error:  # a dump of a broken node is what dumps are for
        return {"error": f"{type(error).__name__}: {error}"}


def _versions() -> dict[str, Any]:
    from loader import abi

    return {
        "kernel": platform.release(),
        "kernel_build": platform.version(),
        "machine": platform.machine(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
        "python": sys.version.split()[0],
        "layout": abi.fingerprint(),
        "bcc": _debian_version("python3-bpfcc"),
        **{name: _version(name) for name in _DISTRIBUTIONS},
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _debian_version(package: str) -> str:
    try:
        asked = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "not known"
    return asked.stdout.strip() or "not installed"


def _maps(place: Place, most: int) -> dict[str, Any]:
    from control.inspect import everything, pins

    with place.maps() as opened:
        links = pins.links_by_owner(place.pin_dir)
        found = everything.content(opened, place.names(), links, time.monotonic_ns(), most)
        return {name: jsonable(section) for name, section in found}


def _pins(place: Place) -> Any:
    from control.cli.bpf import fs

    return fs.rows(place)


def _names(place: Place) -> Any:
    from control.inspect import everything

    return everything.names_json(place.names())


def _features() -> Any:
    from loader import features

    return features.probe()
