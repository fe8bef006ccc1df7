"""`sockmesh check`: what this kernel and this system can do of what the mesh needs."""

import os
import platform
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from control.cli.place import output_option
from control.cli.show import print_json
from control.flow.summary import counted
from control.terminal import printable

if TYPE_CHECKING:
    from loader.features import Feature

PRIVILEGES = "privileges"  # that feature's name
SHORT_CUT = "short cut"  # what needs it can be missing: everything else works


@click.command()
@output_option
def check(output: str) -> None:
    """Try each thing the mesh needs of this kernel and this system, and say what to do about what is missing.

    Exit status 1: something that policy or flow records need is missing, or could not be looked at. What only the short
    cut needs is no failure: without it everything else works.
    """
    from loader import features

    found = features.probe()
    missing = [f for f in found if f.needed_for != SHORT_CUT and f.ok is not True]
    if output == "json":
        print_json({"kernel": platform.release(), "root": os.geteuid() == 0, "ok": not missing, "features": found})
    else:
        _print(found, missing)
    sys.exit(1 if missing else 0)


def verdict(found: Sequence["Feature"], is_root: bool) -> str:
    """Return one sentence on what the mesh can do here."""
    known = [f for f in found if is_root or f.name != PRIVILEGES]  # who is not root knows that already
    broken = [f.name for f in known if f.needed_for != SHORT_CUT and f.ok is False]
    unseen = [f.name for f in found if f.ok is None]
    slow = [f.name for f in found if f.needed_for == SHORT_CUT and f.ok is False]
    if broken:
        return f"this system cannot run the mesh for want of: {', '.join(broken)}"
    if unseen:
        things, them = counted(len(unseen), "thing"), "it" if len(unseen) == 1 else "them"
        hint = "" if is_root else f"; run it as root to look at {them}"
        lacking = any(f.name == PRIVILEGES and f.ok is False for f in found)
        start = "this user lacks the privileges; nothing else" if lacking else "nothing"
        return f"{start} is known to be missing, but {things} could not be looked at{hint}"
    if slow:
        return f"policy and flow records work here; the short cut stays off for want of: {', '.join(slow)}"
    return "policy, flow records and short cut have all they need here"


def _print(found: Sequence["Feature"], missing: Sequence["Feature"]) -> None:
    width = max((len(f.name) for f in found), default=0)
    for feature in found:
        word, colour = {True: ("ok", "green"), False: ("MISSING", "red"), None: ("not seen", "yellow")}[feature.ok]
        text = feature.detail
        if feature.ok is not True:
            remedy = (
                feature.remedy if feature.ok is False else ""
            )  # of what was not seen nobody knows that it is missing
            text = "; ".join(part for part in (f"for {feature.needed_for}", text, remedy) if part)
        click.echo(f"{click.style(f'{word:<8}', fg=colour)}  {feature.name:<{width}}  {printable(text)}".rstrip())
    click.echo()
    click.secho(f"kernel {platform.release()}: {verdict(found, os.geteuid() == 0)}", fg="red" if missing else "green")
